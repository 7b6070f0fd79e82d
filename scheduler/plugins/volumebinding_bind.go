package plugins

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

// Reserve keeps the volumes that were found for a pod, and the node that was found for its claims, from other pods.
func (b *volumeBinding) Reserve(nb *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) *framework.Status {
	needs := framework.Read[*volumeNeeds](nb, bindingName)
	if len(needs.waiting) == 0 {
		return framework.Skipped
	}
	found, refusal := needs.on(n.Object)
	if refusal != nil {
		return refusal
	}
	plan := &volumePlan{}
	for _, m := range found.bind {
		v, changed, err := volumehelpers.GetBindVolumeToClaim(m.volume, m.claim)
		if err != nil {
			return framework.Fail(bindingName, fmt.Errorf("naming claim %s in volume %s: %w", nameOf(m.claim), m.volume.Name, err))
		}
		plan.bind = append(plan.bind, volumeMatch{m.claim, v})
		if changed { // else it is so already, or was kept for another pod that uses the claim
			b.ownVolumes.set(v, p.UID, false)
		}
	}
	for _, c := range found.provision {
		want := c.DeepCopy()
		metav1.SetMetaDataAnnotation(&want.ObjectMeta, volumehelpers.AnnSelectedNode, n.Name)
		plan.provision = append(plan.provision, want)
		if c.Annotations[volumehelpers.AnnSelectedNode] != n.Name {
			b.ownClaims.set(want, p.UID, false)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept[p.UID] = plan
	return nil
}

// Unreserve gives back what is not yet written. What is written stays: the volume controller goes on with it, and the pod's next
// trip finds it.
func (b *volumeBinding) Unreserve(p *nodeinfo.Pod) {
	b.mu.Lock()
	plan := b.kept[p.UID]
	delete(b.kept, p.UID)
	b.mu.Unlock()
	if plan == nil {
		return
	}
	for _, m := range plan.bind {
		b.ownVolumes.drop(m.volume, p.UID)
	}
	for _, c := range plan.provision {
		b.ownClaims.drop(c, p.UID)
	}
}

// PreBind writes what was reserved and waits until all claims are bound.
func (b *volumeBinding) PreBind(ctx context.Context, p *nodeinfo.Pod, node string) *framework.Status {
	b.mu.Lock()
	plan := b.kept[p.UID]
	b.mu.Unlock()
	if err := b.write(ctx, p, plan); err != nil {
		return framework.Fail(bindingName, err)
	}
	if err := b.await(ctx, p, plan, node); err != nil {
		return framework.Fail(bindingName, fmt.Errorf("binding volumes: %w", err))
	}
	b.mu.Lock()
	delete(b.kept, p.UID)
	b.mu.Unlock()
	return nil
}

// write tells the API what was chosen: each volume that it is the claim's, each other claim for which node it wants one. A volume
// or claim that has changed since is a conflict, after which the pod is tried again, unless another pod that uses the claim has had
// the same written.
func (b *volumeBinding) write(ctx context.Context, p *nodeinfo.Pod, plan *volumePlan) error {
	for _, m := range plan.bind {
		if cached := b.volume(m.volume.Name); cached != nil && cached.ResourceVersion == m.volume.ResourceVersion &&
			cached.Spec.ClaimRef != nil && cached.Spec.ClaimRef.UID == m.claim.UID {
			continue // it says so already
		}
		v, err := b.kube.CoreV1().PersistentVolumes().Update(ctx, m.volume, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			if now, failed := b.kube.CoreV1().PersistentVolumes().Get(ctx, m.volume.Name, metav1.GetOptions{}); failed == nil &&
				now.Spec.ClaimRef != nil && now.Spec.ClaimRef.UID == m.claim.UID {
				v, err = now, nil
			}
		}
		if err != nil {
			return fmt.Errorf("giving volume %s to claim %s: %w", m.volume.Name, nameOf(m.claim), err)
		}
		b.ownVolumes.set(v, p.UID, true)
	}
	for _, want := range plan.provision {
		if cached := b.claim(want.Namespace, want.Name); cached != nil && cached.ResourceVersion == want.ResourceVersion &&
			cached.Annotations[volumehelpers.AnnSelectedNode] == want.Annotations[volumehelpers.AnnSelectedNode] {
			continue
		}
		c, err := b.kube.CoreV1().PersistentVolumeClaims(want.Namespace).Update(ctx, want, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			if now, failed := b.kube.CoreV1().PersistentVolumeClaims(want.Namespace).Get(ctx, want.Name, metav1.GetOptions{}); failed == nil &&
				now.UID == want.UID && (settled(now) || now.Annotations[volumehelpers.AnnSelectedNode] == want.Annotations[volumehelpers.AnnSelectedNode]) {
				c, err = now, nil
			}
		}
		if err != nil {
			return fmt.Errorf("giving claim %s a node: %w", nameOf(want), err)
		}
		b.ownClaims.set(c, p.UID, true)
	}
	return nil
}

// await waits until the claims of a plan are bound to volumes that can be reached from the node.
func (b *volumeBinding) await(ctx context.Context, p *nodeinfo.Pod, plan *volumePlan, node string) error {
	woken, stop := b.wakes(p.UID, plan)
	defer stop()
	for {
		done, err := b.check(plan, node)
		if done || err != nil {
			return err
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// check says whether all claims of a plan are bound; an error, that they will not be.
func (b *volumeBinding) check(plan *volumePlan, node string) (done bool, err error) {
	n, err := b.nodes.Get(node)
	if err != nil {
		return false, fmt.Errorf("looking for node %s: %w", node, err)
	}
	done = true
	for _, m := range plan.bind {
		v := b.volume(m.volume.Name)
		if v == nil {
			return false, fmt.Errorf("volume %s is gone", m.volume.Name)
		}
		if !volumehelpers.IsVolumeBoundToClaim(b.ownVolumes.of(v), m.claim) {
			return false, fmt.Errorf("volume %s no longer belongs to claim %s", v.Name, nameOf(m.claim))
		}
		bound, err := b.bound(m.claim, n)
		if err != nil {
			return false, err
		}
		done = done && bound
	}
	for _, want := range plan.provision {
		c := b.claim(want.Namespace, want.Name)
		if c != nil {
			c = b.ownClaims.of(c)
		}
		if c != nil && !settled(c) && c.Annotations[volumehelpers.AnnSelectedNode] != node {
			return false, fmt.Errorf("provisioning failed for claim %s: its provisioner does not want to make a volume for node %s", nameOf(want), node)
		}
		bound, err := b.bound(want, n)
		if err != nil {
			return false, err
		}
		done = done && bound
	}
	return done, nil
}

// bound says whether a claim has got its volume, which must be reachable from the node.
func (b *volumeBinding) bound(want *corev1.PersistentVolumeClaim, n *corev1.Node) (bool, error) {
	c := b.claim(want.Namespace, want.Name)
	if c == nil || c.UID != want.UID {
		return false, fmt.Errorf("claim %s is gone", nameOf(want))
	}
	if c.Status.Phase == corev1.ClaimLost || c.DeletionTimestamp != nil {
		return false, fmt.Errorf("claim %s is lost or being deleted", nameOf(want))
	}
	if !settled(c) {
		return false, nil
	}
	v := b.volume(c.Spec.VolumeName)
	if v == nil {
		return false, nil // the caches are filled one after another
	}
	if volumehelpers.CheckNodeAffinity(v, n.Labels) != nil {
		return false, errors.New("volume " + v.Name + " cannot be reached from node " + n.Name)
	}
	return true, nil
}

// wakes gives a channel that gets something whenever a claim of the plan, or a volume of one, has changed.
func (b *volumeBinding) wakes(pod types.UID, plan *volumePlan) (woken <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	var names []cache.ObjectName
	for _, m := range plan.bind {
		names = append(names, nameOf(m.claim))
	}
	for _, c := range plan.provision {
		names = append(names, nameOf(c))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		if b.waiters[name] == nil {
			b.waiters[name] = map[types.UID]chan struct{}{}
		}
		b.waiters[name][pod] = ch
	}
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, name := range names {
			if delete(b.waiters[name], pod); len(b.waiters[name]) == 0 {
				delete(b.waiters, name)
			}
		}
	}
}

func (b *volumeBinding) wake(name cache.ObjectName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ch := range b.waiters[name] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// wakeAll is for what concerns any pod: a node went, perhaps theirs.
func (b *volumeBinding) wakeAll() {
	b.mu.Lock()
	names := slices.Collect(maps.Keys(b.waiters))
	b.mu.Unlock()
	for _, name := range names {
		b.wake(name)
	}
}

// listen has waiting pods woken, and assumptions forgotten that have come true.
func (b *volumeBinding) listen(nodes, claims, volumes cache.SharedIndexInformer) error {
	if _, err := nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(any) { b.wakeAll() }}); err != nil {
		return err
	}
	if err := follow(claims, func(c *corev1.PersistentVolumeClaim, gone bool) {
		b.ownClaims.seen(c, gone)
		b.wake(nameOf(c))
	}); err != nil {
		return err
	}
	return follow(volumes, func(v *corev1.PersistentVolume, gone bool) {
		b.ownVolumes.seen(v, gone)
		if ref := v.Spec.ClaimRef; ref != nil {
			b.wake(cache.ObjectName{Namespace: ref.Namespace, Name: ref.Name})
		}
	})
}

// follow tells of every version of an object, and of its end; of a change the version before is told first.
func follow[T any](inf cache.SharedIndexInformer, tell func(o T, gone bool)) error {
	_, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { tell(o.(T), false) },
		UpdateFunc: func(was, is any) {
			tell(was.(T), false)
			tell(is.(T), false)
		},
		DeleteFunc: func(o any) {
			if t, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = t.Obj
			}
			if last, ok := o.(T); ok {
				tell(last, true)
			}
		},
	})
	return err
}
