package pvbinder

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/storage/ephemeral"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"pilothouse.dev/controller-manager/loop"
)

func (c *controller) reconcileClaim(ctx context.Context, key loop.Key) error {
	claim, err := c.claim(key)
	if claim == nil || err != nil {
		c.ownClaims.forget(key)
		c.forgetTold(key)
		return err
	}
	plan, done, err := c.choose(claim)
	if err != nil {
		return err
	}
	defer done()
	if plan.bind != nil {
		if err := c.bind(ctx, plan.bind, claim); err != nil {
			return err
		}
		c.forgetTold(key)
		return nil
	}
	if plan.phase == corev1.ClaimLost && claim.Status.Phase != corev1.ClaimLost && claim.Spec.VolumeName != "" {
		// Asked of the API, not of a cache: one that is behind would say that data is lost.
		if behind, err := c.behind(ctx, claim.Spec.VolumeName); behind || err != nil {
			return err
		}
	}
	if plan.class != "" {
		want := claim.DeepCopy()
		want.Spec.StorageClassName = &plan.class
		_, err := c.writeClaim(ctx, claim, want)
		return err
	}
	if plan.provisioner != "" {
		want := claim.DeepCopy()
		metav1.SetMetaDataAnnotation(&want.ObjectMeta, volumehelpers.AnnBetaStorageProvisioner, plan.provisioner)
		metav1.SetMetaDataAnnotation(&want.ObjectMeta, volumehelpers.AnnStorageProvisioner, plan.provisioner)
		if claim, err = c.writeClaim(ctx, claim, want); err != nil {
			return err
		}
	}
	if plan.phase != corev1.ClaimLost || claim.Status.Phase != corev1.ClaimLost {
		c.tell(claim, plan.event)
	}
	if plan.phase == "" {
		return nil
	}
	_, err = c.writeClaim(ctx, claim, withPhase(claim, plan.phase, nil))
	return err
}

// choose decides a claim. A volume that it is to be bound to is kept from all other claims until done is called. That another claim is
// getting a volume which this one would take may come to nothing, and then nobody tells: ErrStale has it looked at again.
func (c *controller) choose(claim *corev1.PersistentVolumeClaim) (plan claimPlan, done func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := c.facts(claim)
	if err != nil {
		return claimPlan{}, nil, err
	}
	plan = decideClaim(f)
	if plan.bind == nil {
		if f.rival && !waits(f) {
			return claimPlan{}, nil, loop.ErrStale
		}
		return plan, func() {}, nil
	}
	name := plan.bind.Name
	if holder, held := c.taken[name]; held && holder != claim.UID {
		return claimPlan{}, nil, loop.ErrStale // it named the volume that another is getting
	}
	c.taken[name] = claim.UID
	return plan, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.taken, name)
	}, nil
}

// facts gathers what a claim is decided by; it needs the lock.
func (c *controller) facts(claim *corev1.PersistentVolumeClaim) (f claimFacts, err error) {
	f.claim = claim
	if claim.Spec.VolumeName != "" {
		f.volume, err = c.volume(claim.Spec.VolumeName)
		return f, err
	}
	class := volumehelpers.GetPersistentVolumeClaimClass(claim)
	if class != "" {
		found, err := c.classes.Get(class)
		if err != nil && !apierrors.IsNotFound(err) {
			return f, err
		}
		if err == nil {
			f.class = found
		}
	} else if !volumehelpers.PersistentVolumeClaimHasClass(claim) {
		classes, err := c.classes.List(labels.Everything())
		if err != nil {
			return f, err
		}
		f.fallback = chooseDefault(classes)
	}
	f.candidates, f.rival = c.candidates(claim, class)
	if waits(f) {
		f.consumers, err = c.consumers(claim)
	}
	return f, err
}

// candidates are the volumes of a class, and all that name the claim, but for those that are other claims'. With rival one that would
// do is missing, because another claim is getting it at this moment.
func (c *controller) candidates(claim *corev1.PersistentVolumeClaim, class string) (fresh []*corev1.PersistentVolume, rival bool) {
	found := indexed[*corev1.PersistentVolume](c.volumeIndex, byClass, class)
	for _, v := range indexed[*corev1.PersistentVolume](c.volumeIndex, byClaim, loop.KeyOf(claim).String()) {
		if volumehelpers.GetPersistentVolumeClass(v) != class {
			found = append(found, v)
		}
	}
	fresh = found[:0]
	for _, v := range found {
		v = c.ownVolumes.newest(v)
		if v.Spec.ClaimRef != nil && !volumehelpers.IsVolumeBoundToClaim(v, claim) {
			continue
		}
		if holder, held := c.taken[v.Name]; held && holder != claim.UID {
			rival = rival || satisfies(v, claim) == nil
			continue
		}
		fresh = append(fresh, v)
	}
	return fresh, rival
}

// consumers are the pods that use a claim and have no node yet.
func (c *controller) consumers(claim *corev1.PersistentVolumeClaim) ([]string, error) {
	pods, err := c.pods.Pods(claim.Namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range pods {
		if p.Spec.NodeName == "" && slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return claimName(p, &v) == claim.Name }) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// claimName is the claim behind a pod's volume, empty when there is none.
func claimName(p *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return ephemeral.VolumeClaimName(p, v)
	}
	return ""
}

// behind says whether the cache of volumes shows a volume otherwise than the API does; then the claim is woken when it no longer
// does.
func (c *controller) behind(ctx context.Context, name string) (bool, error) {
	cached, err := c.volume(name)
	if err != nil {
		return false, err
	}
	live, err := c.t.Clients.Kube.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return cached != nil, nil
	case err != nil:
		return false, fmt.Errorf("reading volume %s: %w", name, err)
	}
	return cached == nil || cached.UID != live.UID || !sameRef(cached.Spec.ClaimRef, live.Spec.ClaimRef), nil
}

func sameRef(a, b *corev1.ObjectReference) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Namespace == b.Namespace && a.Name == b.Name && a.UID == b.UID
}

// bind makes the four writes of a binding, those that are missing.
func (c *controller) bind(ctx context.Context, v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	want, _, err := volumehelpers.GetBindVolumeToClaim(v, claim)
	if err != nil {
		return fmt.Errorf("naming claim %s in volume %s: %w", loop.KeyOf(claim), v.Name, err)
	}
	if v, err = c.writeVolume(ctx, v, want); err != nil {
		return err
	}
	want = v.DeepCopy()
	want.Status.Phase, want.Status.Message = corev1.VolumeBound, ""
	if v, err = c.writeVolume(ctx, v, want); err != nil {
		return err
	}
	to := claim.DeepCopy()
	if claim.Spec.VolumeName != v.Name {
		to.Spec.VolumeName = v.Name
		metav1.SetMetaDataAnnotation(&to.ObjectMeta, volumehelpers.AnnBoundByController, "yes")
	}
	if !metav1.HasAnnotation(claim.ObjectMeta, volumehelpers.AnnBindCompleted) {
		metav1.SetMetaDataAnnotation(&to.ObjectMeta, volumehelpers.AnnBindCompleted, "yes")
	}
	if claim, err = c.writeClaim(ctx, claim, to); err != nil {
		return err
	}
	_, err = c.writeClaim(ctx, claim, withPhase(claim, corev1.ClaimBound, v))
	return err
}

// withPhase is a claim whose status has this phase; v is its volume when it is bound. The capacity is taken over when the claim
// becomes bound, and is afterwards the business of resizing.
func withPhase(claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, v *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	want := claim.DeepCopy()
	s := &want.Status
	becomes := s.Phase != phase
	s.Phase = phase
	if v == nil {
		s.AccessModes, s.Capacity = nil, nil
		return want
	}
	s.AccessModes = slices.Clone(v.Spec.AccessModes)
	size, has := v.Spec.Capacity[corev1.ResourceStorage]
	if _, said := s.Capacity[corev1.ResourceStorage]; has && (becomes || !said) {
		if s.Capacity == nil {
			s.Capacity = corev1.ResourceList{}
		}
		s.Capacity[corev1.ResourceStorage] = size.DeepCopy()
	}
	if becomes {
		s.CurrentVolumeAttributesClassName = v.Spec.VolumeAttributesClassName
	}
	return want
}

func (c *controller) reconcileVolume(ctx context.Context, key loop.Key) error {
	v, err := c.volume(key.Name)
	if v == nil || err != nil {
		c.ownVolumes.forget(key)
		return err
	}
	var claim *corev1.PersistentVolumeClaim
	if ref := v.Spec.ClaimRef; ref != nil && ref.UID != "" {
		if claim, err = c.claim(refKey(ref)); err != nil {
			return err
		}
		settled := v.Status.Phase == corev1.VolumeReleased || v.Status.Phase == corev1.VolumeFailed
		if (claim == nil || claim.UID != ref.UID) && !settled {
			// Asked of the API, not of a cache: one that is behind would release the volume of a living claim.
			if claim, err = c.liveClaim(ctx, refKey(ref)); err != nil {
				return err
			}
		}
	}
	plan := decideVolume(v, claim)
	c.tellOf(v, plan.event)
	if plan.claimEvent != (event{}) {
		c.tell(claim, plan.claimEvent)
	}
	want := v.DeepCopy()
	switch {
	case plan.unbind:
		unbind(want)
	case plan.phase != "" && plan.phase != v.Status.Phase:
		want.Status.Phase, want.Status.Message = plan.phase, plan.message
	}
	_, err = c.writeVolume(ctx, v, want)
	return err
}

// unbind takes a volume from its claim: what we wrote is taken away, of what a user wrote only the UID.
func unbind(v *corev1.PersistentVolume) {
	if metav1.HasAnnotation(v.ObjectMeta, volumehelpers.AnnBoundByController) {
		v.Spec.ClaimRef = nil
		delete(v.Annotations, volumehelpers.AnnBoundByController)
		return
	}
	v.Spec.ClaimRef.UID = ""
}

func (c *controller) liveClaim(ctx context.Context, key loop.Key) (*corev1.PersistentVolumeClaim, error) {
	claim, err := c.t.Clients.Kube.CoreV1().PersistentVolumeClaims(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading claim %s: %w", key, err)
	}
	return claim, nil
}

func (c *controller) writeClaim(ctx context.Context, have, want *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	got, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().PersistentVolumeClaims(have.Namespace), have, want)
	if err == nil && got != have {
		c.ownClaims.wrote(got)
	}
	return got, err
}

func (c *controller) writeVolume(ctx context.Context, have, want *corev1.PersistentVolume) (*corev1.PersistentVolume, error) {
	got, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().PersistentVolumes(), have, want)
	if err == nil && got != have {
		c.ownVolumes.wrote(got)
	}
	return got, err
}

// tell records an event about a claim, unless it is what was told last.
func (c *controller) tell(claim *corev1.PersistentVolumeClaim, e event) {
	if e == (event{}) {
		return
	}
	key := loop.KeyOf(claim)
	c.mu.Lock()
	last := c.told[key]
	c.told[key] = e
	c.mu.Unlock()
	if last != e {
		c.t.Recorder.Event(claim, e.kind, e.reason, e.message)
	}
}

func (c *controller) forgetTold(key loop.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.told, key)
}

// tellOf records an event about a volume.
func (c *controller) tellOf(v *corev1.PersistentVolume, e event) {
	if e != (event{}) {
		c.t.Recorder.Event(v, e.kind, e.reason, e.message)
	}
}
