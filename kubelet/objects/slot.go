package objects

import (
	"cmp"
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// slot holds the objects of one key: one, or all those of a signer. It is the store of a reflector that sees nothing else.
type slot struct {
	key     Key
	changed func(Key)

	mu      sync.Mutex
	first   chan struct{}             // closed when the API has answered; guarded by mu, as all in this group
	heard   bool                      // first is closed
	objects map[string]runtime.Object // by name
	err     error                     // why the API refuses to tell
	stop    context.CancelFunc        // ends the following; nil while nobody follows
	frozen  bool                      // the object cannot change any more: nobody follows
	open    bool                      // a watch tells what changes
}

func newSlot(key Key, changed func(Key)) *slot {
	return &slot{key: key, changed: changed, first: make(chan struct{}), objects: map[string]runtime.Object{}}
}

// answered is closed when the API has answered.
func (s *slot) answered() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// all are the objects, in the order of their names, and why there may be none.
func (s *slot) all() ([]runtime.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.objects))
	for n := range s.objects {
		names = append(names, n)
	}
	slices.SortFunc(names, cmp.Compare[string])
	out := make([]runtime.Object, 0, len(names))
	for _, n := range names {
		out = append(out, s.objects[n])
	}
	return out, s.err
}

// thaw asks the API anew for an object that could not change: under its name there may be another one by now.
func (s *slot) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen {
		s.frozen, s.heard, s.first = false, false, make(chan struct{})
	}
}

// begin notes that somebody follows from now on, unless somebody does or it is of no use.
func (s *slot) begin(stop context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil || s.frozen {
		return false
	}
	s.stop = stop
	return true
}

// watching notes whether a watch tells what changes.
func (s *slot) watching(open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = open
}

// tells says whether the API has told the objects, and goes on to tell them, at the latest when it is back.
func (s *slot) tells() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop != nil && s.heard && s.err == nil
}

// current says whether the objects are what the API tells now.
func (s *slot) current() bool {
	tells := s.tells()
	s.mu.Lock()
	defer s.mu.Unlock()
	return tells && s.open
}

// end has whoever follows stop.
func (s *slot) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// apply takes in what the API said.
func (s *slot) apply(change func(map[string]runtime.Object)) {
	s.mu.Lock()
	had := len(s.objects)
	change(s.objects)
	told := had > 0 || len(s.objects) > 0 || s.err != nil
	s.err = nil
	if len(s.objects) == 1 {
		for _, o := range s.objects {
			s.frozen = immutable(o)
		}
	}
	if s.frozen && s.stop != nil { // no watch is kept for what cannot change
		s.stop()
		s.stop = nil
	}
	s.hear()
	s.mu.Unlock()
	if told {
		s.changed(s.key)
	}
}

// refuse takes in that the API does not let this node read. Other errors are no answer.
func (s *slot) refuse(err error) (refused bool) {
	if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.hear()
	return true
}

func (s *slot) hear() {
	if !s.heard {
		s.heard = true
		close(s.first)
	}
}

// put keeps an object, without the part that only writers need.
func put(objects map[string]runtime.Object, obj any) {
	o, ok := obj.(runtime.Object)
	if !ok {
		return
	}
	if m, ok := obj.(metav1.Object); ok {
		m.SetManagedFields(nil)
		objects[m.GetName()] = o
	}
}

// Add, Update, Delete, Replace and Resync are what a reflector calls.
func (s *slot) Add(obj any) error {
	s.apply(func(objects map[string]runtime.Object) { put(objects, obj) })
	return nil
}

// Update is Add.
func (s *slot) Update(obj any) error { return s.Add(obj) }

// Delete forgets an object.
func (s *slot) Delete(obj any) error {
	if m, ok := obj.(metav1.Object); ok {
		s.apply(func(objects map[string]runtime.Object) { delete(objects, m.GetName()) })
	}
	return nil
}

// Replace takes a whole list.
func (s *slot) Replace(list []any, _ string) error {
	s.apply(func(objects map[string]runtime.Object) {
		clear(objects)
		for _, obj := range list {
			put(objects, obj)
		}
	})
	return nil
}

// Resync does nothing.
func (s *slot) Resync() error { return nil }

// immutable: whoever wrote the object has said that it will never change.
func immutable(obj runtime.Object) bool {
	switch o := obj.(type) {
	case *corev1.ConfigMap:
		return o.Immutable != nil && *o.Immutable
	case *corev1.Secret:
		return o.Immutable != nil && *o.Immutable
	}
	return false
}
