// Package leasegc deletes the leases of nodes that are gone. A kubelet's Lease belongs to its Node and goes with it, but one that
// was made before its Node, or whose owner was taken away, belongs to nobody.
//
// What always holds: a lease goes only when its node is not there, asked live, and it has not been renewed for an hour beyond its own
// duration; and it goes as it was judged, by UID and resource version.
package leasegc

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
)

// Patience is how long a lease is kept after its end: its node may come back.
const Patience = time.Hour

type controller struct {
	t      loop.Tools
	leases coordinationlisters.LeaseNamespaceLister
	nodes  corelisters.NodeLister
}

// New makes the controller. Its keys are leases of nodes, named like these.
func New(t loop.Tools) loop.Controller {
	c := &controller{
		t: t, nodes: t.Informers.Core().V1().Nodes().Lister(),
		leases: t.Informers.Coordination().V1().Leases().Lister().Leases(corev1.NamespaceNodeLease),
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "leases.coordination.k8s.io", Wakes: loop.Func("itself, when it is a node's that is not there", c.stray)},
			{Resource: "nodes", Wakes: loop.Func("its lease, when it is gone", gone)},
		},
		Reconcile: c.reconcile,
	}
}

func (c *controller) stray(e loop.Event) []loop.Key {
	if e.New == nil || e.New.GetNamespace() != corev1.NamespaceNodeLease {
		return nil
	}
	if _, err := c.nodes.Get(e.New.GetName()); err == nil {
		return nil
	}
	return []loop.Key{loop.KeyOf(e.New)}
}

func gone(e loop.Event) []loop.Key {
	if e.New != nil {
		return nil
	}
	return []loop.Key{{Namespace: corev1.NamespaceNodeLease, Name: e.Old.GetName()}}
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	lease, err := c.leases.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if _, err := c.nodes.Get(key.Name); !apierrors.IsNotFound(err) {
		return 0, err
	}
	if wait := left(lease, time.Now()); wait > 0 {
		return wait, nil
	}
	if _, err := c.t.Clients.Kube.CoreV1().Nodes().Get(ctx, key.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return 0, err // the cache is behind: the node wakes us when it goes
	}
	err = c.t.Clients.Kube.CoordinationV1().Leases(key.Namespace).Delete(ctx, key.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("deleting the lease of node %s, which is gone: %w", key.Name, err)
	}
	c.t.Log.Info("deleted the lease of a node that is gone", zap.String("node", key.Name))
	return 0, nil
}

// left is for how long a lease without a node is kept.
func left(l *coordinationv1.Lease, now time.Time) time.Duration {
	end := l.CreationTimestamp.Time
	if l.Spec.RenewTime != nil {
		end = l.Spec.RenewTime.Time
	}
	if l.Spec.LeaseDurationSeconds != nil {
		end = end.Add(time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second)
	}
	return end.Add(Patience).Sub(now)
}
