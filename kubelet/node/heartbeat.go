package node

import (
	"context"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// missed is how many renewals may fail before the node counts as lost.
const missed = 4

// heartbeat renews the node's Lease until ctx ends.
func (n *Node) heartbeat(ctx context.Context) {
	var lease *coordinationv1.Lease
	var lost time.Time // since when renewals fail
	tick := time.NewTicker(n.cfg.LeaseInterval)
	defer tick.Stop()
	for {
		now, err := n.renew(ctx, lease)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if lease = now; !lost.IsZero() {
				n.log.Info("the lease is renewed again", zap.Duration("after", time.Since(lost)))
				lost = time.Time{}
			}
		default:
			if lease = nil; lost.IsZero() {
				lost = time.Now()
				n.log.Warn("renewing the lease", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// renew writes the Lease; with none known it is read or made first.
func (n *Node) renew(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, max(n.cfg.LeaseInterval*missed/2, time.Second))
	defer cancel()
	leases := n.parts.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if lease == nil {
		var err error
		lease, err = leases.Get(ctx, n.cfg.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			fresh := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: n.cfg.Name}}
			n.fill(fresh)
			return leases.Create(ctx, fresh, metav1.CreateOptions{})
		}
		if err != nil {
			return nil, err
		}
	}
	next := lease.DeepCopy()
	n.fill(next)
	return leases.Update(ctx, next, metav1.UpdateOptions{})
}

func (n *Node) fill(lease *coordinationv1.Lease) {
	lease.Spec.HolderIdentity = &n.cfg.Name
	lease.Spec.LeaseDurationSeconds = new(int32(max(n.cfg.LeaseInterval*missed/time.Second, 1)))
	lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
	if len(lease.OwnerReferences) == 0 {
		if own := n.Self(); own != nil && own.UID != "" {
			lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: own.Name, UID: own.UID}}
		}
	}
}
