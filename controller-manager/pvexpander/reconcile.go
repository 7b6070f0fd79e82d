package pvexpander

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"pilothouse.dev/pkg/localvolume"
)

// plan is what is to be done about a claim; the zero plan is nothing.
type plan struct {
	others bool // its driver's resizer grows it
	// As they should be; nil when nothing is to be done.
	volume *corev1.PersistentVolume
	claim  *corev1.PersistentVolumeClaim
}

// wantsMore says whether a bound claim asks for more than it has.
func wantsMore(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Status.Phase == corev1.ClaimBound && claim.Spec.VolumeName != "" &&
		claim.Spec.Resources.Requests.Storage().Cmp(*claim.Status.Capacity.Storage()) > 0
}

// decide decides by a claim and the volume that it names, nil when there is none.
func decide(claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) plan {
	switch {
	case !wantsMore(claim), v == nil, !volumehelpers.IsVolumeBoundToClaim(v, claim):
		return plan{}
	case !localvolume.Ours(v):
		return plan{others: true}
	}
	p := plan{volume: v.DeepCopy(), claim: claim.DeepCopy()}
	wanted := claim.Spec.Resources.Requests.Storage().DeepCopy()
	if v.Spec.Capacity.Storage().Cmp(wanted) < 0 {
		p.volume.Spec.Capacity[corev1.ResourceStorage] = wanted
	}
	s := &p.claim.Status
	if s.Capacity == nil {
		s.Capacity = corev1.ResourceList{}
	}
	s.Capacity[corev1.ResourceStorage] = wanted
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
		return c.Type == corev1.PersistentVolumeClaimResizing || c.Type == corev1.PersistentVolumeClaimFileSystemResizePending
	})
	if len(s.Conditions) == 0 {
		s.Conditions = nil
	}
	delete(s.AllocatedResourceStatuses, corev1.ResourceStorage)
	if _, noted := s.AllocatedResources[corev1.ResourceStorage]; noted {
		s.AllocatedResources[corev1.ResourceStorage] = wanted
	}
	return p
}
