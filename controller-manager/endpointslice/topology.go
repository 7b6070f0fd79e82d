package endpointslice

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/endpointslice/topologycache"
	"k8s.io/klog/v2"

	"pilothouse.dev/controller-manager/loop"
)

// zones is what the nodes of each zone can carry, for Services that ask for hints (service.kubernetes.io/topology-mode). The
// library shares the load out; this tells it of nodes, as late as somebody needs to know, and wakes the Services for which a
// change of nodes is too much.
type zones struct {
	cache *topologycache.TopologyCache
	nodes corelisters.NodeLister
	moved chan struct{} // holds one: nodes changed since feed looked

	mu     sync.Mutex
	old    bool                // guarded by mu: the cache does not know the nodes as they are
	hinted map[string]struct{} // guarded by mu: Services the cache was told about in this term
}

func newZones(nodes corelisters.NodeLister) *zones {
	return &zones{cache: topologycache.NewTopologyCache(), nodes: nodes, moved: make(chan struct{}, 1), old: true, hinted: map[string]struct{}{}}
}

// carries is all of a node that counts.
type carries struct {
	zone         string
	ready, apart bool
	cpu          int64
}

func carried(n *corev1.Node) carries {
	_, control := n.Labels["node-role.kubernetes.io/control-plane"]
	_, master := n.Labels["node-role.kubernetes.io/master"]
	c := carries{zone: n.Labels[corev1.LabelTopologyZone], apart: control || master, cpu: n.Status.Allocatable.Cpu().MilliValue()}
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			c.ready = cond.Status == corev1.ConditionTrue
		}
	}
	return c
}

// changed wakes nobody by itself: feed does, once for many changes.
func (z *zones) changed(e loop.Event) []loop.Key {
	old, was := e.Old.(*corev1.Node)
	now, is := e.New.(*corev1.Node)
	if was && is && carried(old) == carried(now) {
		return nil
	}
	z.mu.Lock()
	z.old = true
	z.mu.Unlock()
	select {
	case z.moved <- struct{}{}:
	default:
	}
	return nil
}

// feed wakes Services that have become too unevenly served, until ctx ends.
func (z *zones) feed(ctx context.Context, wake func(loop.Key)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-z.moved:
			z.refresh()
			for _, s := range z.cache.GetOverloadedServices() {
				if k, err := cache.ParseObjectName(s); err == nil {
					wake(k)
				}
			}
		}
	}
}

// refresh tells the cache of the nodes as they are.
func (z *zones) refresh() {
	z.mu.Lock()
	defer z.mu.Unlock()
	if !z.old {
		return
	}
	nodes, err := z.nodes.List(labels.Everything())
	if err != nil { // a cache does not fail
		return
	}
	z.cache.SetNodes(klog.Background(), nodes)
	z.old = false
}

// prepare has the cache know what a Service needs. Hints that its slices already bear are no news: they are of a former term.
func (z *zones) prepare(svc *corev1.Service, slices []*discoveryv1.EndpointSlice) {
	if !wantsHints(svc) {
		return
	}
	z.refresh()
	key := svc.Namespace + "/" + svc.Name
	z.mu.Lock()
	_, told := z.hinted[key]
	z.hinted[key] = struct{}{}
	z.mu.Unlock()
	if told {
		return
	}
	for family, zones := range hints(slices) {
		z.cache.SetHints(key, family, zones)
	}
}

func (z *zones) forget(key loop.Key) {
	z.cache.RemoveHints(key.String(), discoveryv1.AddressTypeIPv4)
	z.cache.RemoveHints(key.String(), discoveryv1.AddressTypeIPv6)
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.hinted, key.String())
}

// wantsHints says whether a Service asks for hints by annotation; the older one wins.
func wantsHints(svc *corev1.Service) bool {
	mode, ok := svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !ok {
		mode = svc.Annotations[corev1.AnnotationTopologyMode]
	}
	return mode == "Auto" || mode == "auto"
}

// hints counts the endpoints hinted to each zone.
func hints(slices []*discoveryv1.EndpointSlice) map[discoveryv1.AddressType]topologycache.EndpointZoneInfo {
	found := map[discoveryv1.AddressType]topologycache.EndpointZoneInfo{}
	for _, s := range slices {
		for _, e := range s.Endpoints {
			if e.Hints == nil {
				continue
			}
			for _, z := range e.Hints.ForZones {
				if found[s.AddressType] == nil {
					found[s.AddressType] = topologycache.EndpointZoneInfo{}
				}
				found[s.AddressType][z.Name]++
			}
		}
	}
	return found
}
