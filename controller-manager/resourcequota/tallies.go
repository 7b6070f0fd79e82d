package resourcequota

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/quota"
)

// discoverEvery is how often a resource is looked for that is named by a quota and not served.
const discoverEvery = 30 * time.Second

// state is how much is known of a resource.
type state int

const (
	pending state = iota // it will be listed
	absent               // it is not served: nobody uses its names up
	listed
)

// tallies count the objects of the resources that quotas name, beside those with caches.
type tallies struct {
	t   loop.Tools
	now chan struct{} // look what is named

	mu sync.Mutex
	by map[schema.GroupResource]*tally // guarded by mu
}

func newTallies(t loop.Tools) *tallies {
	return &tallies{t: t, now: make(chan struct{}, 1), by: map[schema.GroupResource]*tally{}}
}

// look asks for a look at what is named now.
func (t *tallies) look() {
	select {
	case t.now <- struct{}{}:
	default:
	}
}

// count is what the objects of a namespace use.
func (t *tallies) count(gr schema.GroupResource, namespace string) (corev1.ResourceList, state) {
	t.mu.Lock()
	one := t.by[gr]
	t.mu.Unlock()
	if one == nil {
		t.look()
		return nil, pending
	}
	return one.count(namespace)
}

// run watches what is named until ctx ends.
func (t *tallies) run(ctx context.Context, named func() []schema.GroupResource, tells listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(discoverEvery)
	defer tick.Stop()
	for {
		if err := t.sync(ctx, &wg, named(), tells); err != nil && ctx.Err() == nil {
			t.t.Log.Warn("looking for the resources that quotas name, trying again", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.retry()
		case <-t.now:
		}
	}
}

// retry forgets which resources are not served.
func (t *tallies) retry() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for gr, one := range t.by {
		if one.cancel == nil {
			delete(t.by, gr)
		}
	}
}

// sync begins to watch what is named and ends to watch what is not. Only run calls it.
func (t *tallies) sync(ctx context.Context, wg *sync.WaitGroup, named []schema.GroupResource, tells listener) error {
	missing := t.compare(named)
	if len(missing) == 0 {
		return nil
	}
	served, err := t.served(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, gr := range missing {
		gvr, ok := served[gr]
		switch {
		case ok:
			own, cancel := context.WithCancel(ctx)
			one := newTally(gr, tells, cancel)
			t.by[gr] = one
			r := t.reflector(gvr, one)
			wg.Go(func() { r.RunWithContext(own) })
		case err == nil:
			t.by[gr] = &tally{}
		}
	}
	return err
}

// compare ends the watches of what is not named, and returns what is named and not watched.
func (t *tallies) compare(named []schema.GroupResource) (missing []schema.GroupResource) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for gr, one := range t.by {
		if !slices.Contains(named, gr) {
			if one.cancel != nil {
				one.cancel()
			}
			delete(t.by, gr)
		}
	}
	for _, gr := range named {
		if t.by[gr] == nil {
			missing = append(missing, gr)
		}
	}
	return missing
}

// served finds the preferred version of all that can be listed in a namespace and watched.
func (t *tallies) served(ctx context.Context) (map[schema.GroupResource]schema.GroupVersionResource, error) {
	client := discovery.ToDiscoveryInterfaceWithContext(t.t.Clients.Kube.Discovery())
	lists, err := discovery.ServerPreferredResourcesWithContext(ctx, client)
	out := map[schema.GroupResource]schema.GroupVersionResource{}
	for _, list := range lists {
		gv, perr := schema.ParseGroupVersion(list.GroupVersion)
		if perr != nil {
			err = errors.Join(err, perr)
			continue
		}
		for _, r := range list.APIResources {
			if r.Namespaced && !strings.Contains(r.Name, "/") && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "watch") {
				gvr := gv.WithResource(r.Name)
				out[gvr.GroupResource()] = gvr
			}
		}
	}
	return out, err
}

// reflector watches a resource into a tally: only metadata, but where what an object uses is in its spec.
func (t *tallies) reflector(gvr schema.GroupVersionResource, into *tally) *cache.Reflector {
	o := cache.ReflectorOptions{Name: "quota " + gvr.GroupResource().String()}
	if gvr.GroupResource() == quota.Devices {
		client := t.t.Clients.Kube.ResourceV1().ResourceClaims(metav1.NamespaceAll)
		lw := &cache.ListWatch{
			ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return client.Watch(ctx, o) },
		}
		return cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, t.t.Clients.Kube), &resourcev1.ResourceClaim{}, into, o)
	}
	client := t.t.Clients.Metadata.Resource(gvr)
	lw := &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return client.Watch(ctx, o) },
	}
	return cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, t.t.Clients.Metadata), &metav1.PartialObjectMetadata{}, into, o)
}
