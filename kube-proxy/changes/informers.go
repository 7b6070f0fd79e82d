package changes

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// ours leaves out what no Tracker wants: other proxies' Services and slices, and
// headless ones.
const ours = "!" + labelServiceProxyName + ",!" + corev1.IsHeadlessService

// Listener hears of all Services and EndpointSlices: of each when it comes or
// changes and when it goes, and after a gap which there are left. It must not
// keep the objects, only what it needs of them.
type Listener interface {
	SetService(*corev1.Service)
	DeleteService(namespace, name string)
	KeepServices(map[types.NamespacedName]bool)
	SetSlice(*discoveryv1.EndpointSlice)
	DeleteSlice(namespace, name string)
	KeepSlices(map[types.NamespacedName]bool)
}

// Source tells Listeners, above all the Trackers, of every Service and
// EndpointSlice there is. It keeps none of them: what a node needs to know of an
// endpoint is a tenth of the object.
type Source struct {
	services, slices feed
}

// NewSource makes a Source of the API.
func NewSource(api kubernetes.Interface, listeners ...Listener) *Source {
	return &Source{
		services: feed{
			api: api, kind: &corev1.Service{}, listeners: listeners, synced: make(chan struct{}),
			list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return api.CoreV1().Services(metav1.NamespaceAll).List(ctx, o)
			},
			watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return api.CoreV1().Services(metav1.NamespaceAll).Watch(ctx, o)
			},
			set:  func(l Listener, o any) { l.SetService(o.(*corev1.Service)) },
			gone: Listener.DeleteService,
			keep: Listener.KeepServices,
		},
		slices: feed{
			api: api, kind: &discoveryv1.EndpointSlice{}, listeners: listeners, synced: make(chan struct{}),
			list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return api.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List(ctx, o)
			},
			watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return api.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).Watch(ctx, o)
			},
			set:  func(l Listener, o any) { l.SetSlice(o.(*discoveryv1.EndpointSlice)) },
			gone: Listener.DeleteSlice,
			keep: Listener.KeepSlices,
		},
	}
}

// Run follows the API until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { s.services.run(ctx) })
	both.Go(func() { s.slices.run(ctx) })
	both.Wait()
	return nil
}

// Synced waits until all have heard of all that was there at the start.
func (s *Source) Synced(ctx context.Context) error {
	for _, f := range []*feed{&s.services, &s.slices} {
		select {
		case <-f.synced:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %T: %w", f.kind, ctx.Err())
		}
	}
	return nil
}

// feed is one kind of objects: the reflector's store, which passes on what it is
// told. Only the reflector calls it.
type feed struct {
	api       kubernetes.Interface
	kind      runtime.Object
	listeners []Listener
	list      func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch     func(context.Context, metav1.ListOptions) (watch.Interface, error)
	set       func(Listener, any)
	gone      func(l Listener, namespace, name string)
	keep      func(Listener, map[types.NamespacedName]bool)

	once   sync.Once
	synced chan struct{} // closed after the first Replace
}

func (f *feed) run(ctx context.Context) {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = ours
			return f.list(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = ours
			return f.watch(ctx, o)
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, f.api), f.kind, f, cache.ReflectorOptions{}).RunWithContext(ctx)
}

// Add and the methods after it are cache.ReflectorStore's.
func (f *feed) Add(o any) error {
	for _, l := range f.listeners {
		f.set(l, o)
	}
	return nil
}

// Update does as Add.
func (f *feed) Update(o any) error { return f.Add(o) }

// Delete passes on that an object is gone.
func (f *feed) Delete(o any) error {
	m, ok := o.(metav1.Object)
	if !ok {
		return fmt.Errorf("following %T: heard of a %T", f.kind, o)
	}
	for _, l := range f.listeners {
		f.gone(l, m.GetNamespace(), m.GetName())
	}
	return nil
}

// Replace passes on all there is, at the start and after a gap in the watch. What
// came through the Transformer was passed on already.
func (f *feed) Replace(all []any, _ string) error {
	names := make(map[types.NamespacedName]bool, len(all))
	for _, o := range all {
		m, ok := o.(metav1.Object)
		if !ok {
			return fmt.Errorf("following %T: heard of a %T", f.kind, o)
		}
		names[types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}] = true
		if _, passed := o.(*passed); passed {
			continue
		}
		if err := f.Add(o); err != nil {
			return err
		}
	}
	for _, l := range f.listeners {
		f.keep(l, names)
	}
	f.once.Do(func() { close(f.synced) })
	return nil
}

// Resync has nothing to do: what was told is told.
func (f *feed) Resync() error { return nil }

// passed is what the reflector keeps of an object that was passed on: its name and
// version.
type passed struct{ metav1.ObjectMeta }

// Transformer passes on what a reflector gathers before it calls Replace, so that
// thousands of objects never lie there together. Each is what was so at some moment
// not before the one told last, as in a watch; which have gone Replace tells.
func (f *feed) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		m, ok := o.(metav1.Object)
		if !ok {
			return nil, fmt.Errorf("following %T: heard of a %T", f.kind, o)
		}
		if p, again := o.(*passed); again {
			return p, nil
		}
		if err := f.Add(o); err != nil {
			return nil, err
		}
		return &passed{metav1.ObjectMeta{Namespace: m.GetNamespace(), Name: m.GetName(), ResourceVersion: m.GetResourceVersion()}}, nil
	}
}
