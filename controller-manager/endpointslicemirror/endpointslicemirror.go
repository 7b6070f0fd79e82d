//lint:file-ignore SA1019 Endpoints are deprecated for users; this room serves those who still write them.

// Package endpointslicemirror shows Endpoints that people or programs make themselves, for Services without a selector, as
// EndpointSlices, which is all that kube-proxy reads. Endpoints with the label endpointslice.kubernetes.io/skip-mirror, locks of
// leaders, and those of Services that select pods are not mirrored; slices of what is no longer mirrored are deleted.
package endpointslicemirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

type controller struct {
	t         loop.Tools
	most      int // addresses of one subset that are mirrored
	services  corelisters.ServiceLister
	endpoints corelisters.EndpointsLister
	slices    podset.Slices
	store     cache.Store // of slices
	wrote     *loop.Versions
	counts    *counts
}

// New makes the controller, which mirrors at most so many addresses of one subset.
func New(most int) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		core := t.Informers.Core().V1()
		c := &controller{
			t: t, most: most, services: core.Services().Lister(), endpoints: core.Endpoints().Lister(), slices: podset.NewSlices(t.Informers),
			store: t.Informers.Discovery().V1().EndpointSlices().Informer().GetStore(), wrote: loop.NewVersions(), counts: newCounts(t.Metrics),
		}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "endpoints", Wakes: loop.Func("itself, if it is to be mirrored or was", worth)},
				{Resource: "services", Wakes: loop.Self}, // named like their Endpoints
				{Resource: "endpointslices.discovery.k8s.io", Wakes: loop.Func("the Endpoints that it mirrors", source)},
			},
			Reconcile: c.reconcile,
		}
	}
}

func worth(e loop.Event) []loop.Key {
	old, was := e.Old.(*corev1.Endpoints)
	now, is := e.New.(*corev1.Endpoints)
	if was && mirrored(old) || is && mirrored(now) {
		return []loop.Key{loop.KeyOf(e.Last())}
	}
	return nil
}

// source wakes the Endpoints of slices of ours, also of those that somebody made no longer ours.
func source(e loop.Event) []loop.Key {
	var keys []loop.Key
	for _, o := range []metav1.Object{e.Old, e.New} {
		s, ok := o.(*discoveryv1.EndpointSlice)
		if !ok || s.Labels[discoveryv1.LabelManagedBy] != managedBy {
			continue
		}
		if k := podset.ServiceOf(s); k.Name != "" && (len(keys) == 0 || keys[0] != k) {
			keys = append(keys, k)
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if !c.wrote.Seen(key, c.store.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	have, err := c.slices.Of(key, managedBy)
	if err != nil {
		return 0, err
	}
	e, err := c.mirror(key)
	if err != nil {
		return 0, err
	}
	var want []*discoveryv1.EndpointSlice
	if e == nil {
		if len(have) == 0 {
			c.counts.forget(key)
			return 0, nil
		}
	} else {
		var skip skipped
		want, skip = desired(e, c.most)
		c.tell(e, skip)
	}
	p := compare(have, want)
	if e != nil && e.DeletionTimestamp != nil {
		p.create = nil // the garbage collector is at the others
	}
	c.counts.note(key, p, have, want)
	if err := c.apply(ctx, key, p); err != nil {
		if e != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			c.t.Recorder.Eventf(e, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating EndpointSlices for Endpoints %s: %v", key, err)
		}
		return 0, err
	}
	return 0, nil
}

// mirror is the Endpoints to show: nil when there are none, or none for us.
func (c *controller) mirror(key loop.Key) (*corev1.Endpoints, error) {
	e, err := c.endpoints.Endpoints(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && !mirrored(e) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && len(svc.Spec.Selector) > 0 {
		return nil, nil
	}
	return e, err
}

// tell says in events what is not mirrored.
func (c *controller) tell(e *corev1.Endpoints, skip skipped) {
	c.counts.skipped.WithLabelValues().Observe(float64(skip.invalid + skip.many))
	if skip.invalid > 0 {
		c.t.Recorder.Eventf(e, corev1.EventTypeWarning, "InvalidIPAddress", "Skipped %d invalid IP addresses when mirroring to EndpointSlices", skip.invalid)
	}
	if skip.many > 0 {
		c.t.Recorder.Eventf(e, corev1.EventTypeWarning, "TooManyAddressesToMirror",
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", c.most, skip.invalid+skip.many)
	}
}

func (c *controller) apply(ctx context.Context, key loop.Key, p plan) error {
	client := c.t.Clients.Kube.DiscoveryV1().EndpointSlices(key.Namespace)
	for _, s := range p.create {
		made, err := client.Create(ctx, s, metav1.CreateOptions{})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("creating a slice of %s: %w", key, err)
		}
		c.wrote.Wrote(key, made.ResourceVersion)
		c.counts.changes.WithLabelValues("create").Inc()
	}
	var errs []error
	for _, s := range p.update {
		got, err := client.Update(ctx, s, metav1.UpdateOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("updating slice %s: %w", s.Name, err))
			continue
		}
		c.wrote.Wrote(key, got.ResourceVersion)
		c.counts.changes.WithLabelValues("update").Inc()
	}
	for _, s := range p.remove {
		err := client.Delete(ctx, s.Name, *metav1.NewPreconditionDeleteOptions(string(s.UID)))
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it is gone, and another may have its name
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("deleting slice %s: %w", s.Name, err))
			continue
		}
		c.counts.changes.WithLabelValues("delete").Inc()
	}
	return errors.Join(errs...)
}
