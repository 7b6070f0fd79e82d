// Package endpoints keeps the Endpoints object of each Service that selects pods: the older, flat form of EndpointSlices, for
// those who still read it. Endpoints that people make themselves, of Services without a selector, it leaves alone.
package endpoints

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/endpointslice/util"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

type controller struct {
	t         loop.Tools
	services  corelisters.ServiceLister
	pods      corelisters.PodLister
	endpoints corelisters.EndpointsLister
	store     cache.Store
	wrote     *loop.Versions
	triggers  *util.TriggerTimeTracker
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	core := t.Informers.Core().V1()
	c := &controller{
		t: t, wrote: loop.NewVersions(), triggers: util.NewTriggerTimeTracker(),
		services: core.Services().Lister(), pods: core.Pods().Lister(),
		endpoints: core.Endpoints().Lister(), store: core.Endpoints().Informer().GetStore(),
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "services", Wakes: loop.Self},
			{Resource: "pods", Wakes: podset.ServicesOf(c.services)},
			{Resource: "endpoints", Wakes: loop.Self}, // named like their Service
		},
		Reconcile: c.reconcile,
	}
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if !c.wrote.Seen(key, c.store.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	have, err := c.endpoints.Endpoints(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		have = nil
	} else if err != nil {
		return 0, err
	}
	client := c.t.Clients.Kube.CoreV1().Endpoints(key.Namespace)
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.triggers.DeleteService(key.Namespace, key.Name)
		if have == nil || have.Labels[managedByLabel] != managedBy {
			return 0, nil
		}
		err := client.Delete(ctx, have.Name, *metav1.NewPreconditionDeleteOptions(string(have.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("deleting the endpoints of a service that is gone: %w", err)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pods, ours, err := podset.Behind(svc, c.pods)
	if err != nil || !ours || svc.DeletionTimestamp != nil {
		return 0, err
	}
	since := c.triggers.ComputeEndpointLastChangeTriggerTime(key.Namespace, svc, pods)
	want, changed := next(svc, have, subsets(svc, pods), since)
	if !changed {
		return 0, nil
	}
	if have == nil {
		made, err := client.Create(ctx, want, metav1.CreateOptions{})
		switch {
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return 0, nil
		case err != nil:
			return 0, fmt.Errorf("creating endpoints: %w", err)
		}
		c.wrote.Wrote(key, made.ResourceVersion)
		return 0, nil
	}
	got, err := loop.Commit(ctx, client, have, want)
	if err != nil {
		return 0, err
	}
	c.wrote.Wrote(key, got.ResourceVersion)
	return 0, nil
}
