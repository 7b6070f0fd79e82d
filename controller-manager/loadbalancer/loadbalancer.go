// Package loadbalancer gives services of type LoadBalancer addresses of a pool (--load-balancer-cidr), where there is no cloud that
// would: into status.loadBalancer.ingress, where kube-proxy and people find them. It takes services that name no
// loadBalancerClass, or pilothouse.dev/pool.
//
// What always holds: no two services have one address, but such as say that they share and whose ports differ (share.go). The truth are the services' statuses, of which the book is made anew each
// term; an address is claimed in it before it is written; one worker decides. Where a person gave two services one address, the
// older keeps it. A service that got none says in an event and a condition what would help, and is worked on again as soon as an
// address becomes free.
package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t        loop.Tools
	pool     Pool
	services corelisters.ServiceLister
	store    cache.Store
	wrote    *loop.Versions
	book     *book
}

// New makes the controller; it must have one worker.
func New(pool Pool) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		services := t.Informers.Core().V1().Services()
		c := &controller{t: t, pool: pool, services: services.Lister(), store: services.Informer().GetStore(), wrote: loop.NewVersions(), book: newBook()}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "services", Wakes: loop.Func("itself, and who waits for its address", c.book.changed)},
			},
			Reconcile: c.reconcile,
		}
	}
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.book.waits(key, false)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !c.wrote.Seen(key, c.store.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	if !ours(svc) || svc.DeletionTimestamp != nil {
		c.book.waits(key, false)
		return 0, c.release(ctx, svc)
	}
	return 0, c.ensure(ctx, svc)
}

// release gives back what a service has of ours: it is going, or no longer balanced by us.
func (c *controller) release(ctx context.Context, svc *corev1.Service) error {
	if !slices.Contains(svc.Finalizers, finalizer) || otherClass(svc) {
		return nil
	}
	c.t.Recorder.Event(svc, corev1.EventTypeNormal, "DeletingLoadBalancer", "Deleting load balancer")
	if err := c.write(ctx, released(svc)); err != nil {
		return err
	}
	c.t.Recorder.Event(svc, corev1.EventTypeNormal, "DeletedLoadBalancer", "Deleted load balancer")
	return nil
}

// otherClass says whether a service is balanced by somebody else, who has the same finalizer.
func otherClass(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && !ours(svc)
}

// ensure gives a service what it should have.
func (c *controller) ensure(ctx context.Context, svc *corev1.Service) error {
	key := loop.KeyOf(svc)
	c.book.changed(loop.Event{New: svc}) // a claim that failed is no more
	c.book.waits(key, true)              // before looking: what becomes free while we look is not missed
	wants := shareOf(svc)
	d := decide(svc, c.pool, func(a netip.Addr) bool { return c.book.taken(key, wants, a) })
	if d.reason == "" {
		c.book.waits(key, false)
	}
	want := next(svc, d, metav1.Now())
	if equality.Semantic.DeepEqual(svc, want) {
		return nil
	}
	if len(d.addresses) > 0 && !slices.Equal(held(svc), d.addresses) {
		c.t.Recorder.Event(svc, corev1.EventTypeNormal, "EnsuringLoadBalancer", "Ensuring load balancer")
	}
	c.book.claim(svc, d.addresses)
	if err := c.write(ctx, want); err != nil {
		var answer apierrors.APIStatus
		if errors.As(err, &answer) && answer.Status().Code < 500 {
			c.book.disclaim(svc)
		}
		return err
	}
	for _, m := range d.moved {
		c.t.Recorder.Event(svc, corev1.EventTypeNormal, "LoadBalancerAddressMoved", m)
	}
	switch {
	case d.reason != "":
		c.t.Recorder.Eventf(svc, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: %s", d.message)
	case !slices.Equal(held(svc), d.addresses):
		c.t.Recorder.Event(svc, corev1.EventTypeNormal, "EnsuredLoadBalancer", "Ensured load balancer")
	}
	return nil
}

// write stores finalizers and status together, which a service's status allows.
func (c *controller) write(ctx context.Context, want *corev1.Service) error {
	got, err := c.t.Clients.Kube.CoreV1().Services(want.Namespace).UpdateStatus(ctx, want, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("updating the status of service %s: %w", loop.KeyOf(want), err)
	}
	c.wrote.Wrote(loop.KeyOf(want), got.ResourceVersion)
	c.book.wrote(got)
	return nil
}
