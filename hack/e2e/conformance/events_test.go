package conformance

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// events are those of a running watch, in their order.
type events struct {
	*row
	watch watch.Interface
	last  string // resource version of the last one
}

// follow takes over a watch, stopped at the row's end.
func (r *row) follow(w watch.Interface, err error) *events {
	r.Helper()
	r.must(err, "watching")
	r.Cleanup(w.Stop)
	return &events{row: r, watch: w}
}

// next is the next event, which must be of that type and, when ok is given, about an object that ok agrees to. Changes by others
// may come between, so a MODIFIED that does not fit is passed over; anything else that does not fit ends the test. Resource
// versions must rise.
func (e *events) next(want watch.EventType, what string, ok func(o metav1.Object) bool) metav1.Object {
	e.Helper()
	for {
		got, o := e.take()
		if got == want && (ok == nil || ok(o)) {
			return o
		}
		if got != watch.Modified {
			e.Fatalf("watching: got %s of %s, want %s of %s", got, asJSON(o), want, what)
		}
	}
}

// strict is next where nobody else writes: the very next event must fit.
func (e *events) strict(want watch.EventType, ok func(metav1.Object) bool) {
	e.Helper()
	if got, o := e.take(); got != want || !ok(o) {
		e.Fatalf("watching: got %s of %s, want another: %s", got, asJSON(o), want)
	}
}

// take reads one event that is about an object.
func (e *events) take() (watch.EventType, metav1.Object) {
	e.Helper()
	timeout := time.After(patience)
	for {
		select {
		case <-timeout:
			e.Fatalf("no event within %v", patience)
		case got, open := <-e.watch.ResultChan():
			if !open {
				e.Fatal("the watch ended")
			}
			if got.Type == watch.Bookmark {
				continue
			}
			o, err := meta.Accessor(got.Object)
			if err != nil || got.Type == watch.Error {
				e.Fatalf("watching: got %s %s", got.Type, asJSON(got.Object))
			}
			if e.last != "" {
				e.newer("events of a watch", e.last, o.GetResourceVersion())
			}
			e.last = o.GetResourceVersion()
			return got.Type, o
		}
	}
}

// named agrees to an object of that name.
func named(name string) func(metav1.Object) bool {
	return func(o metav1.Object) bool { return o.GetName() == name }
}

// annotated agrees to an object with that annotation.
func annotated(name, key, value string) func(metav1.Object) bool {
	return func(o metav1.Object) bool { return o.GetName() == name && o.GetAnnotations()[key] == value }
}
