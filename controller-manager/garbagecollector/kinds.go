package garbagecollector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

const (
	// discoverEvery is the safety net: kinds come and go with custom resource definitions and API services, which are watched.
	discoverEvery = 5 * time.Minute
	// patience is how long a kind that cannot be listed keeps the others waiting.
	patience = 30 * time.Second
)

// kinds discovers what there is, and watches all of it into the graph.
type kinds struct {
	t     loop.Tools
	graph *graph
	ask   chan struct{} // discover now

	mu         sync.Mutex
	discovered bool                              // guarded by mu: once complete
	watched    map[schema.GroupResource]*watched // guarded by mu
	byKind     map[schema.GroupVersionKind]*kind // guarded by mu: every served one, owners may be of any
}

type watched struct {
	kind   *kind
	store  *store
	since  time.Time
	cancel context.CancelFunc
}

func newKinds(t loop.Tools, g *graph) *kinds {
	return &kinds{t: t, graph: g, ask: make(chan struct{}, 1), watched: map[schema.GroupResource]*watched{}, byKind: map[schema.GroupVersionKind]*kind{}}
}

// run discovers and watches until ctx ends.
func (k *kinds) run(ctx context.Context, wake func(loop.Key)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(discoverEvery)
	defer tick.Stop()
	for {
		var soon <-chan time.Time
		if err := k.discover(ctx, &wg, wake); err != nil && ctx.Err() == nil {
			k.t.Log.Warn("discovering kinds, trying again", zap.Error(err))
			soon = time.After(5 * time.Second)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-soon:
		case <-k.ask:
		}
		select { // asked for often, it is done at most so often
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// again asks for a discovery out of turn.
func (k *kinds) again() {
	select {
	case k.ask <- struct{}{}:
	default:
	}
}

// changed is what to do when an object of a resource has changed: discover, should it be one that makes kinds.
func (k *kinds) changed(gr schema.GroupResource) func() {
	switch gr.String() {
	case "customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io":
		return k.again
	}
	return func() {}
}

// synced says whether every kind's objects are in the graph, but for kinds that cannot be listed for long.
func (k *kinds) synced() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.discovered {
		return false
	}
	for _, w := range k.watched {
		if !w.store.filled() && time.Since(w.since) < patience {
			return false
		}
	}
	return true
}

// find is the kind an owner reference means.
func (k *kinds) find(apiVersion, name string) (*kind, bool) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	found, ok := k.byKind[gv.WithKind(name)]
	return found, ok
}

// discover starts watches of new kinds and ends those of kinds that went. Groups that could not be discovered keep theirs.
func (k *kinds) discover(ctx context.Context, wg *sync.WaitGroup, wake func(loop.Key)) error {
	client := discovery.ToDiscoveryInterfaceWithContext(k.t.Clients.Kube.Discovery())
	preferred, perr := discovery.ServerPreferredResourcesWithContext(ctx, client)
	_, all, aerr := discovery.ServerGroupsAndResourcesWithContext(ctx, client)
	err := errors.Join(perr, aerr)
	if len(preferred) == 0 {
		return fmt.Errorf("no kind was found: %w", err)
	}
	wanted := map[schema.GroupResource]*kind{}
	served := map[schema.GroupVersionKind]*kind{}
	for _, list := range all {
		each(list, func(kd *kind, r *metav1.APIResource) { served[kd.gvr.GroupVersion().WithKind(kd.name)] = kd })
	}
	for _, list := range preferred {
		each(list, func(kd *kind, r *metav1.APIResource) {
			gr := kd.gvr.GroupResource()
			if collectable(r.Verbs) && gr.Resource != "events" {
				wanted[gr] = kd
			}
		})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.byKind = served
	} else {
		for gvk, kd := range served {
			k.byKind[gvk] = kd
		}
	}
	for gr, w := range k.watched {
		if wanted[gr] == nil && err == nil {
			w.cancel()
			delete(k.watched, gr)
			send(wake, w.store.abandon())
		}
	}
	for gr, kd := range wanted {
		uids := map[string]types.UID{}
		if w := k.watched[gr]; w != nil {
			if *w.kind == *kd {
				continue
			}
			w.cancel() // another version of it is preferred now
			uids = w.store.close()
		}
		own, cancel := context.WithCancel(ctx)
		w := &watched{kind: kd, store: &store{graph: k.graph, kind: kd, wake: wake, uids: uids, changed: k.changed(gr)}, since: time.Now(), cancel: cancel}
		k.watched[gr] = w
		wg.Go(func() { k.reflector(kd, w.store).RunWithContext(own) })
	}
	// a group that is broken for long, as an aggregated one may be, must not stop all collection
	k.discovered = k.discovered || err == nil || partly(perr) && partly(aerr)
	return err
}

func partly(err error) bool { return err == nil || discovery.IsGroupDiscoveryFailedError(err) }

// each calls fn for the main resources of a discovered list.
func each(list *metav1.APIResourceList, fn func(*kind, *metav1.APIResource)) {
	gv, err := schema.ParseGroupVersion(list.GroupVersion)
	if err != nil {
		return // the client has parsed it already
	}
	for i := range list.APIResources {
		r := &list.APIResources[i]
		if strings.Contains(r.Name, "/") {
			continue
		}
		fn(&kind{gvr: gv.WithResource(r.Name), name: r.Kind, namespaced: r.Namespaced}, r)
	}
}

func collectable(verbs []string) bool {
	return slices.Contains(verbs, "list") && slices.Contains(verbs, "watch") && slices.Contains(verbs, "delete")
}

func (k *kinds) reflector(kd *kind, s *store) *cache.Reflector {
	client := k.t.Clients.Metadata.Resource(kd.gvr)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, o)
		},
	}
	return cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, k.t.Clients.Metadata), &metav1.PartialObjectMetadata{}, s,
		cache.ReflectorOptions{Name: "garbage " + kd.gvr.GroupResource().String()})
}

func send(wake func(loop.Key), uids []types.UID) {
	for _, u := range uids {
		wake(loop.Key{Name: string(u)})
	}
}
