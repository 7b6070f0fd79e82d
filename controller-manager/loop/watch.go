package loop

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/pkg/client"
)

// Watch says whom a change of a resource wakes. It is data, so that the graph of who wakes whom can be drawn.
type Watch struct {
	Resource string // as kubectl takes it: "pods", "deployments.apps"
	Wakes    Waker
	// Only, made by Narrow, is watched instead of all objects of the resource.
	Only cache.SharedIndexInformer
}

// Event is one change of an object. Old is nil when it appeared, New when it is gone; both are shared and must not be changed.
type Event struct{ Old, New metav1.Object }

// Last is the object as last seen.
func (e Event) Last() metav1.Object {
	if e.New != nil {
		return e.New
	}
	return e.Old
}

// Waker turns an event into the keys it concerns.
type Waker interface {
	Keys(Event) []Key
	fmt.Stringer // whom, for the graph
}

type waker struct {
	who  string
	keys func(Event) []Key
}

func (w waker) Keys(e Event) []Key { return w.keys(e) }
func (w waker) String() string     { return w.who }

// Self wakes the changed object itself.
var Self Waker = waker{"itself", func(e Event) []Key { return []Key{KeyOf(e.Last())} }}

// Owner wakes the object's controlling owner of the given kind, the former one too when that changed.
func Owner(kind string) Waker {
	return waker{"owner " + kind, func(e Event) []Key {
		var keys []Key
		for _, o := range []metav1.Object{e.Old, e.New} {
			if o == nil {
				continue
			}
			if ref := metav1.GetControllerOfNoCopy(o); ref != nil && ref.Kind == kind {
				k := Key{Namespace: o.GetNamespace(), Name: ref.Name}
				if len(keys) == 0 || keys[0] != k {
					keys = append(keys, k)
				}
			}
		}
		return keys
	}}
}

// Func wakes what fn says; who names them for the graph.
func Func(who string, fn func(Event) []Key) Waker { return waker{who, fn} }

// Any wakes all wakers' keys.
func Any(ws ...Waker) Waker {
	who := ""
	for i, w := range ws {
		if i > 0 {
			who += ", "
		}
		who += w.String()
	}
	return waker{who, func(e Event) []Key {
		var keys []Key
		for _, w := range ws {
			keys = append(keys, w.Keys(e)...)
		}
		return keys
	}}
}

func (w Watch) handler(wake func(Key)) cache.ResourceEventHandler {
	send := func(e Event) {
		for _, k := range w.Wakes.Keys(e) {
			wake(k)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { send(Event{New: object(obj)}) },
		UpdateFunc: func(before, after any) {
			old, now := object(before), object(after)
			if old.GetResourceVersion() == now.GetResourceVersion() {
				return
			}
			if old.GetUID() != now.GetUID() { // deleted and made again while we did not look
				send(Event{Old: old})
				send(Event{New: now})
				return
			}
			send(Event{Old: old, New: now})
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			send(Event{Old: object(obj)})
		},
	}
}

// object panics on what is no object: an informer holds nothing else.
func object(obj any) metav1.Object { return obj.(metav1.Object) }

// Narrow makes an informer, for one controller, of those objects of a resource that a field selector selects: where a kind has
// many objects and few of them matter. A wrong resource is a broken table.
func Narrow(t Tools, resource, fields string) cache.SharedIndexInformer {
	f := client.Informers(t.Watching.Kube, informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = fields }))
	inf, err := informer(f, resource)
	if err != nil {
		panic(err.Error())
	}
	return inf
}

// informer finds the factory's informer of a resource. Every group we watch is served and read as v1, but for autoscaling, whose v1
// knows less than is stored.
func informer(f informers.SharedInformerFactory, resource string) (cache.SharedIndexInformer, error) {
	gr, version := schema.ParseGroupResource(resource), "v1"
	if gr.Group == "autoscaling" {
		version = "v2"
	}
	gvr := gr.WithVersion(version)
	g, err := f.ForResource(gvr)
	if err != nil {
		return nil, fmt.Errorf("no informer for %s: %w", resource, err)
	}
	return g.Informer(), nil
}
