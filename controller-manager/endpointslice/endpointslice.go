// Package endpointslice says which pods stand behind a Service, as EndpointSlices: addresses, ports, readiness, zones. Which
// slices to make, fill or drop the library k8s.io/endpointslice decides; this room wakes it, keeps it from deciding on a cache
// that is behind its own writes, and tells it what the nodes' zones can carry (topology.go). kube-proxy reads the result.
//
// A Service is worked on at once when a pod of it changes. While the cache does not yet show what was written last, it waits for
// just that to be seen, and is worked on then.
package endpointslice

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/metrics"
	"k8s.io/endpointslice/util"
	"k8s.io/klog/v2"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

// managedBy is the value of the label by which slices are known to be ours.
const managedBy = "endpointslice-controller.k8s.io"

// Config is what can be set.
type Config struct {
	PerSlice int           // endpoints a slice holds at most
	Batch    time.Duration // how long changes of pods are held back, to be worked off together; 0: not at all
}

type controller struct {
	t          loop.Tools
	services   corelisters.ServiceLister
	backends   *podset.Services
	slices     podset.Slices
	pods       podset.Reader
	delay      *podset.Delay
	zones      *zones
	reconciler *endpointslice.Reconciler
	written    *util.EndpointSliceTracker // which generations of slices we wrote
	triggers   *util.TriggerTimeTracker   // when what is shown came about, for the latency annotation

	mu      sync.Mutex
	waiting map[loop.Key]bool // guarded by mu: Services whose last write the cache had not seen
}

// New makes the controller.
func New(cfg Config) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		core := t.Informers.Core().V1()
		c := &controller{
			t:        t,
			services: core.Services().Lister(),
			backends: podset.NewServices(t.Informers),
			slices:   podset.NewSlices(t.Informers),
			pods:     podset.NewReader(t.Informers),
			delay:    podset.NewDelay(cfg.Batch),
			zones:    newZones(core.Nodes().Lister()),
			written:  util.NewEndpointSliceTracker(),
			triggers: util.NewTriggerTimeTracker(),
			waiting:  map[loop.Key]bool{},
		}
		c.reconciler = endpointslice.NewReconciler(t.Clients.Kube, core.Nodes().Lister(), int32(cfg.PerSlice), c.written, c.zones.cache,
			t.Recorder, managedBy, endpointslice.WithPreferSameTrafficDistributionEnabled(true))
		collect(t.Metrics)
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "services", Wakes: c.backends.Changed()},
				{Resource: "pods", Wakes: c.backends.Selecting(c.delay)},
				{Resource: "endpointslices.discovery.k8s.io", Wakes: loop.Func("its Service, unless we wrote it and know", c.touched)},
				{Resource: "nodes", Wakes: loop.Any(
					loop.Func("Services of pods that waited for it", c.appeared),
					loop.Func("Services whose hints their zones no longer carry", c.zones.changed))},
			},
			Reconcile: c.reconcile,
			Feed:      c.feed,
			Feeds:     "pods held back for a while, nodes whose zones carry more or less",
		}
	}
}

// collect has the library's metrics collected with ours.
func collect(f *loop.Families) {
	metrics.EndpointsAddedPerSync.Create(nil)
	metrics.EndpointsRemovedPerSync.Create(nil)
	metrics.EndpointsDesired.Create(nil)
	metrics.NumEndpointSlices.Create(nil)
	metrics.DesiredEndpointSlices.Create(nil)
	metrics.EndpointSliceChanges.Create(nil)
	metrics.EndpointSlicesChangedPerSync.Create(nil)
	metrics.EndpointSliceSyncs.Create(nil)
	metrics.ServicesCountByTrafficDistribution.Create(nil)
	f.Adopt(metrics.EndpointSliceSubsystem, metrics.EndpointsAddedPerSync, metrics.EndpointsRemovedPerSync, metrics.EndpointsDesired,
		metrics.NumEndpointSlices, metrics.DesiredEndpointSlices, metrics.EndpointSliceChanges, metrics.EndpointSlicesChangedPerSync,
		metrics.EndpointSliceSyncs, metrics.ServicesCountByTrafficDistribution)
}

// feed wakes what pods' changes were held back for, and what the nodes' changes concern.
func (c *controller) feed(ctx context.Context, wake func(loop.Key)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.zones.feed(ctx, wake) })
	return c.delay.Feed(ctx, wake)
}

// appeared wakes the Services of the pods on a node that was not known: they are left out until it is.
func (c *controller) appeared(e loop.Event) []loop.Key {
	if e.Old != nil {
		return nil
	}
	pods, err := c.pods.On(e.New.GetName())
	if err != nil {
		return nil // a cache does not fail
	}
	return c.backends.Of(pods)
}

// touched wakes the Service of a slice that somebody else changed or deleted, or that it waits to see.
func (c *controller) touched(e loop.Event) []loop.Key {
	last, ok := e.Last().(*discoveryv1.EndpointSlice)
	if !ok {
		return nil
	}
	ours := c.reconciler.ManagedByController(last)
	wake := false
	switch old, _ := e.Old.(*discoveryv1.EndpointSlice); {
	case e.New == nil:
		wake = ours && c.written.Has(last) && !c.written.HandleDeletion(last)
	case old != nil && c.reconciler.ManagedByChanged(old, last):
		wake = true
	default:
		wake = ours && c.written.ShouldSync(last)
	}
	key := podset.ServiceOf(last)
	if key.Name == "" || !wake && !c.waits(key) {
		return nil
	}
	return []loop.Key{key}
}

func (c *controller) waits(key loop.Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting[key]
}

// wait notes whether a Service is to be woken when a slice of it is seen.
func (c *controller) wait(key loop.Key, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if on {
		c.waiting[key] = true
	} else {
		delete(c.waiting, key)
	}
}

func (c *controller) reconcile(_ context.Context, key loop.Key) (time.Duration, error) {
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) { // the slices go with their owner
		c.triggers.DeleteService(key.Namespace, key.Name)
		c.reconciler.DeleteService(key.Namespace, key.Name)
		c.written.DeleteService(key.Namespace, key.Name)
		c.zones.forget(key)
		c.wait(key, false)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pods, ours, err := c.backends.Behind(svc)
	if err != nil || !ours {
		return 0, err
	}
	// Before looking, so that what comes while we look is not missed.
	c.wait(key, true)
	there, err := c.slices.Of(key, managedBy)
	if err != nil {
		return 0, err
	}
	if c.written.StaleSlices(svc, there) {
		metrics.EndpointSliceSyncs.WithLabelValues("stale").Inc()
		return 0, loop.ErrStale
	}
	c.wait(key, false)
	c.zones.prepare(svc, there)
	since := c.triggers.ComputeEndpointLastChangeTriggerTime(key.Namespace, svc, pods)
	if err := c.reconciler.Reconcile(klog.Background(), svc, pods, there, since); err != nil {
		metrics.EndpointSliceSyncs.WithLabelValues("error").Inc()
		c.t.Recorder.Eventf(svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", svc.Namespace, svc.Name, err)
		return 0, err
	}
	metrics.EndpointSliceSyncs.WithLabelValues("success").Inc()
	return 0, nil
}
