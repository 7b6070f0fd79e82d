// Package endpointslice says which pods stand behind a Service, as EndpointSlices: addresses, ports, readiness, zones. Which
// slices to make, fill or drop the library k8s.io/endpointslice decides; this room wakes it, and keeps it from deciding on a
// cache that is behind its own writes. kube-proxy reads the result.
package endpointslice

import (
	"context"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/util"
	"k8s.io/klog/v2"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

// managedBy is the value of the label by which slices are known to be ours.
const managedBy = "endpointslice-controller.k8s.io"

// full is how many endpoints one slice holds at most.
const full = 100

type controller struct {
	services   corelisters.ServiceLister
	pods       corelisters.PodLister
	slices     discoverylisters.EndpointSliceLister
	reconciler *endpointslice.Reconciler
	written    *util.EndpointSliceTracker // which generations of slices we wrote
	triggers   *util.TriggerTimeTracker   // when what is shown came about, for the latency annotation
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	core := t.Informers.Core().V1()
	written := util.NewEndpointSliceTracker()
	c := &controller{
		services: core.Services().Lister(),
		pods:     core.Pods().Lister(),
		slices:   t.Informers.Discovery().V1().EndpointSlices().Lister(),
		written:  written,
		triggers: util.NewTriggerTimeTracker(),
		reconciler: endpointslice.NewReconciler(t.Clients.Kube, core.Nodes().Lister(), full, written, nil, t.Recorder, managedBy,
			endpointslice.WithPreferSameTrafficDistributionEnabled(true)),
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "services", Wakes: loop.Self},
			{Resource: "pods", Wakes: podset.ServicesOf(c.services)},
			{Resource: "endpointslices.discovery.k8s.io", Wakes: loop.Func("its Service, unless we wrote it", c.meddled)},
		},
		Reads:     []string{"nodes"},
		Reconcile: c.reconcile,
	}
}

// meddled wakes the Service of a slice that somebody else changed or deleted.
func (c *controller) meddled(e loop.Event) []loop.Key {
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
	name := last.Labels[discoveryv1.LabelServiceName]
	if !wake || name == "" {
		return nil
	}
	return []loop.Key{{Namespace: last.Namespace, Name: name}}
}

func (c *controller) reconcile(_ context.Context, key loop.Key) (time.Duration, error) {
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) { // the slices go with their owner
		c.triggers.DeleteService(key.Namespace, key.Name)
		c.reconciler.DeleteService(key.Namespace, key.Name)
		c.written.DeleteService(key.Namespace, key.Name)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pods, ours, err := podset.Behind(svc, c.pods)
	if err != nil || !ours || svc.DeletionTimestamp != nil {
		return 0, err
	}
	slices, err := c.slices.EndpointSlices(key.Namespace).List(labels.SelectorFromSet(labels.Set{
		discoveryv1.LabelServiceName: key.Name, discoveryv1.LabelManagedBy: managedBy,
	}))
	if err != nil {
		return 0, err
	}
	there := slices[:0:0]
	for _, s := range slices {
		if s.DeletionTimestamp == nil {
			there = append(there, s)
		}
	}
	if c.written.StaleSlices(svc, there) {
		return 0, loop.ErrStale
	}
	since := c.triggers.ComputeEndpointLastChangeTriggerTime(key.Namespace, svc, pods)
	return 0, c.reconciler.Reconcile(klog.Background(), svc, pods, there, since)
}
