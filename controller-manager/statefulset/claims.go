package statefulset

import (
	"maps"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var podKind = corev1.SchemeGroupVersion.WithKind("Pod")

// claimName is the name of the claim made from the set's template with that number for an ordinal.
func claimName(set *appsv1.StatefulSet, template, ordinal int) string {
	return set.Spec.VolumeClaimTemplates[template].Name + "-" + podName(set, ordinal)
}

// claimOf says whether a claim of that name is, or would be, of a pod of the set.
func claimOf(set *appsv1.StatefulSet, name string) bool {
	for i := range set.Spec.VolumeClaimTemplates {
		rest, ok := strings.CutPrefix(name, set.Spec.VolumeClaimTemplates[i].Name+"-")
		if !ok {
			continue
		}
		if of, _, ok := split(rest); ok && of == set.Name {
			return true
		}
	}
	return false
}

// newClaim is a claim as it is to be created.
func newClaim(set *appsv1.StatefulSet, template, ordinal int) *corev1.PersistentVolumeClaim {
	c := set.Spec.VolumeClaimTemplates[template].DeepCopy()
	c.Name, c.Namespace = claimName(set, template, ordinal), set.Namespace
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	maps.Copy(c.Labels, set.Spec.Selector.MatchLabels)
	return c
}

// claimWrite makes a claim, or gives one its owners.
type claimWrite struct {
	have *corev1.PersistentVolumeClaim // nil: it is to be made
	want *corev1.PersistentVolumeClaim
}

// owner is who a claim is to go with: the pod when that is beyond the wished number and the set says that claims of such go, the set
// when it says that they go with it, or nobody. See «PersistentVolumeClaim retention» in the documentation of StatefulSets.
func owner(set *appsv1.StatefulSet, p *corev1.Pod, beyond bool) *metav1.OwnerReference {
	keep := set.Spec.PersistentVolumeClaimRetentionPolicy
	switch {
	case keep == nil:
	case beyond && keep.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType:
		return metav1.NewControllerRef(p, podKind)
	case keep.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType:
		return metav1.NewControllerRef(set, kind)
	}
	return nil
}

// refers says whether an owner reference names something of that kind and name.
func refers(ref *metav1.OwnerReference, group, kind, name string) bool {
	of, _, _ := strings.Cut(ref.APIVersion, "/")
	if of == ref.APIVersion {
		of = ""
	}
	return of == group && ref.Kind == kind && ref.Name == name
}

// doomed says whether a claim has an owner that was the set or its pod of that name, and is no more: the garbage collector will
// delete it, or take the owner away when the claim has others. p is nil when there is no such pod.
func doomed(set *appsv1.StatefulSet, claim *corev1.PersistentVolumeClaim, pod string, p *corev1.Pod) bool {
	for i := range claim.OwnerReferences {
		ref := &claim.OwnerReferences[i]
		if refers(ref, kind.Group, kind.Kind, set.Name) && ref.UID != set.UID {
			return true
		}
		if refers(ref, podKind.Group, podKind.Kind, pod) && (p == nil || ref.UID != p.UID) {
			return true
		}
	}
	return false
}

// owned is the claim with want as its owner of ours, nil when it is so already. Owners that are not ours are left alone, and while one
// of them is the claim's controller none of ours is added.
func owned(set *appsv1.StatefulSet, p *corev1.Pod, claim *corev1.PersistentVolumeClaim, want *metav1.OwnerReference) *corev1.PersistentVolumeClaim {
	var rest []metav1.OwnerReference
	ours, right := 0, false
	for _, ref := range claim.OwnerReferences {
		controls := ref.Controller != nil && *ref.Controller
		if ref.UID != set.UID && (p == nil || ref.UID != p.UID) {
			rest = append(rest, ref)
			if controls {
				want = nil
			}
			continue
		}
		ours++
		right = right || want != nil && ref.UID == want.UID && controls
	}
	if want == nil && ours == 0 || want != nil && ours == 1 && right {
		return nil
	}
	if want != nil {
		rest = append(rest, *want)
	}
	claim = claim.DeepCopy()
	claim.OwnerReferences = rest
	return claim
}

// contested are the claims of an ordinal that the set's policy would give an owner while something else controls them.
func (r *round) contested(ordinal int) (names []string) {
	keep := r.set.Spec.PersistentVolumeClaimRetentionPolicy
	const retain = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	if keep == nil || keep.WhenDeleted == retain && keep.WhenScaled == retain {
		return nil
	}
	for i := range r.set.Spec.VolumeClaimTemplates {
		name := claimName(r.set, i, ordinal)
		if have := r.claims[name]; have != nil {
			if ref := metav1.GetControllerOfNoCopy(have); ref != nil && ref.UID != r.set.UID {
				names = append(names, name)
			}
		}
	}
	return names
}

// goingClaim is a claim that a pod to be made must not find, as it is going: asked to by somebody, or else because its owner was a former
// pod or set. It is empty when there is none.
func (r *round) goingClaim(ordinal int) (name string, asked bool) {
	for i := range r.set.Spec.VolumeClaimTemplates {
		have := r.claims[claimName(r.set, i, ordinal)]
		if have != nil && (have.DeletionTimestamp != nil || doomed(r.set, have, podName(r.set, ordinal), nil)) {
			return have.Name, have.DeletionTimestamp != nil
		}
	}
	return "", false
}

// claimsFor is what to write of an ordinal's claims before its pod is touched; p is nil when that is to be made. A claim that is
// missing is made for a new pod, and for one that cannot start without.
func (r *round) claimsFor(ordinal int, p *corev1.Pod, beyond bool) (writes []claimWrite) {
	waits := p == nil || !beyond && p.Status.Phase == corev1.PodPending && !r.leaving(p)
	for i := range r.set.Spec.VolumeClaimTemplates {
		have := r.claims[claimName(r.set, i, ordinal)]
		switch {
		case have == nil && waits:
			want := newClaim(r.set, i, ordinal)
			if with := owned(r.set, nil, want, owner(r.set, p, false)); with != nil {
				want = with
			}
			writes = append(writes, claimWrite{want: want})
		case have == nil || have.DeletionTimestamp != nil || doomed(r.set, have, podName(r.set, ordinal), p):
		default:
			if want := owned(r.set, p, have, owner(r.set, p, beyond)); want != nil {
				writes = append(writes, claimWrite{have, want})
			}
		}
	}
	return writes
}
