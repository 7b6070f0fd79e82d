package attachdetach

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
)

// doubtFor is for how long an attachment whose making was not answered may still be made: an API server ends a request within a minute.
const doubtFor = time.Minute

// refused says whether an answer means that nothing was made. After any other error it may have been.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsUnauthorized(err) ||
		apierrors.IsNotFound(err) || apierrors.IsTooManyRequests(err)
}

// settle ends what is not known of a node's attachments: what the cache shows is known, what is wanted is tried again, and after the
// rest the API is asked once it cannot come any more. It returns when that is.
func (c *controller) settle(ctx context.Context, node string, s seen, tried []string) (again time.Duration, err error) {
	for _, a := range s.have {
		c.memory.seen(*a.Spec.Source.PersistentVolumeName, node)
	}
	for volume, h := range c.memory.doubts(node) {
		if slices.Contains(tried, h.name) {
			continue
		}
		if wait := doubtFor - s.now.Sub(h.doubt); wait > 0 {
			again = sooner(again, wait)
			continue
		}
		a, err := c.t.Clients.Kube.StorageV1().VolumeAttachments().Get(ctx, h.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			c.memory.absent(volume, node)
		case err != nil:
			return again, fmt.Errorf("looking for the attachment of volume %s to node %s: %w", volume, node, err)
		default:
			c.memory.attached(volume, node, a.ResourceVersion, false, s.now)
		}
	}
	return again, nil
}

// sooner is the smaller of two times to wait, of which 0 is for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// feed wakes those that wait for a volume which was given up without having been attached: no attachment tells of that.
func (c *controller) feed(ctx context.Context, wake func(loop.Key)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.memory.freed:
			for _, name := range c.memory.takeFree() {
				v, err := c.volumes.Get(name)
				if err != nil {
					continue // nobody can have it any more
				}
				for _, k := range named(c.around(v)...) {
					wake(k)
				}
			}
		}
	}
}

// asSeen says whether a node is still as it was decided by. What was told to it has proved that, since that write fails otherwise; when
// it had to be told nothing, the cache may be behind: the node may have been told of the volume, and have mounted it, since.
func (c *controller) asSeen(ctx context.Context, name string, s seen, p plan) (bool, error) {
	if s.node != nil && !sameAttached(s.node.Status.VolumesAttached, p.report) {
		return true, nil
	}
	live, err := c.t.Clients.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return s.node == nil, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at node %s before its volumes are taken: %w", name, err)
	}
	return s.node != nil && live.UID == s.node.UID && alike(live, s.node), nil
}

// alike says whether two versions of a node are the same in all that volumes are decided by.
func alike(a, b *corev1.Node) bool {
	return slices.Equal(a.Status.VolumesInUse, b.Status.VolumesInUse) && sameAttached(a.Status.VolumesAttached, b.Status.VolumesAttached) &&
		healthy(a) == healthy(b) && outOfService(a) == outOfService(b) && managed(a) == managed(b)
}
