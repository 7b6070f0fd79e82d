package pvbinder

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

// event is what users are told; the zero event is none.
type event struct{ kind, reason, message string }

func normal(reason, format string, args ...any) event {
	return event{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)}
}

func warning(reason, format string, args ...any) event {
	return event{corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...)}
}

// claimFacts is all by which a claim is decided.
type claimFacts struct {
	claim      *corev1.PersistentVolumeClaim
	volume     *corev1.PersistentVolume   // the one that spec.volumeName names; nil: there is none
	candidates []*corev1.PersistentVolume // all of the claim's class, and all that name the claim, but for those that are others'
	rival      bool                       // a candidate is missing that another claim is getting at this moment
	class      *storagev1.StorageClass    // the one that the claim names; nil: there is none
	fallback   *storagev1.StorageClass    // the cluster's default; nil: there is none
	consumers  []string                   // pods that use the claim and have no node, sorted
}

// claimPlan is what is to be done about a claim: bind it, or give it a class, or else note phase, event and provisioner. The zero
// plan leaves it as it is.
type claimPlan struct {
	bind        *corev1.PersistentVolume
	class       string // to be written into the claim, which is then decided anew
	provisioner string // to be asked for a volume
	phase       corev1.PersistentVolumeClaimPhase
	event       event
}

// external says whether a provisioner is somebody else's program: those of the old built-in ones are not there.
func external(provisioner string) bool { return !strings.HasPrefix(provisioner, "kubernetes.io/") }

func decideClaim(f claimFacts) claimPlan {
	switch {
	case metav1.HasAnnotation(f.claim.ObjectMeta, volumehelpers.AnnBindCompleted):
		return boundClaim(f)
	case f.claim.DeletionTimestamp != nil:
		return claimPlan{} // it wants nothing any more
	case f.claim.Spec.VolumeName != "":
		return namingClaim(f)
	}
	return openClaim(f)
}

// boundClaim is of a claim that was bound once: its volume is still its own, or it is lost.
func boundClaim(f claimFacts) claimPlan {
	lost := func(reason, message string) claimPlan {
		return claimPlan{phase: corev1.ClaimLost, event: warning(reason, "%s", message)}
	}
	switch {
	case f.claim.Spec.VolumeName == "":
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case f.volume == nil:
		return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case f.volume.Spec.ClaimRef == nil, volumehelpers.IsVolumeBoundToClaim(f.volume, f.claim):
		return claimPlan{bind: f.volume} // what of it is missing
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// namingClaim is of a claim that names its volume and is not bound yet.
func namingClaim(f claimFacts) claimPlan {
	pending := claimPlan{phase: corev1.ClaimPending}
	switch {
	case f.volume == nil:
		return pending
	case f.volume.Spec.ClaimRef == nil:
		if err := satisfies(f.volume, f.claim); err != nil {
			pending.event = warning("VolumeMismatch", "Cannot bind to requested volume %q: %s", f.volume.Name, err)
			return pending
		}
		return claimPlan{bind: f.volume}
	case volumehelpers.IsVolumeBoundToClaim(f.volume, f.claim):
		return claimPlan{bind: f.volume}
	}
	pending.event = warning("FailedBinding", "volume %q already bound to a different claim.", f.volume.Name)
	return pending
}

// openClaim is of a claim that takes any volume that satisfies it.
func openClaim(f claimFacts) claimPlan {
	pending := claimPlan{phase: corev1.ClaimPending}
	delay := waits(f)
	found, err := best(f.claim, f.candidates, delay)
	switch {
	case err != nil:
		pending.event = warning("FailedBinding", "%s", err)
		return pending
	case found != nil:
		return claimPlan{bind: found}
	case f.fallback != nil && !volumehelpers.PersistentVolumeClaimHasClass(f.claim):
		return claimPlan{class: f.fallback.Name}
	}
	class := volumehelpers.GetPersistentVolumeClaimClass(f.claim)
	switch {
	case class == "":
		pending.event = normal("FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	case f.class == nil:
		pending.event = warning("ProvisioningFailed", "storageclass.storage.k8s.io %q not found", class)
	case delay:
		pending.event = waiting(f.consumers)
	case !external(f.class.Provisioner):
		pending.event = warning("ProvisioningFailed", "no volume plugin matched name: %s", f.class.Provisioner)
	default:
		pending.provisioner = f.class.Provisioner
		pending.event = normal("ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' "+
			"or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running "+
			"and correctly registered.", f.class.Provisioner)
	}
	return pending
}

// waits says whether a claim is bound only when a pod that uses it has got a node, and none has.
func waits(f claimFacts) bool {
	return !volumehelpers.IsDelayBindingProvisioning(f.claim) && f.class != nil &&
		f.class.VolumeBindingMode != nil && *f.class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

func waiting(consumers []string) event {
	switch len(consumers) {
	case 0:
		return normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case 1:
		return normal("WaitForPodScheduled", "waiting for pod %s to be scheduled", consumers[0])
	}
	return normal("WaitForPodScheduled", "waiting for pods %s to be scheduled", strings.Join(consumers, ","))
}

// volumePlan is what is to be done about a volume. The zero plan leaves it as it is.
type volumePlan struct {
	phase      corev1.PersistentVolumePhase
	message    string // of the phase
	unbind     bool   // take it from a claim that has another one
	event      event  // about the volume
	claimEvent event  // about its claim
}

// decideVolume decides by a volume and the claim that it names, nil when there is no such claim.
func decideVolume(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) volumePlan {
	ref := v.Spec.ClaimRef
	switch {
	case ref == nil || ref.UID == "":
		return volumePlan{phase: corev1.VolumeAvailable}
	case claim == nil || claim.UID != ref.UID:
		return released(v)
	case claim.Spec.VolumeName == v.Name:
		return volumePlan{phase: corev1.VolumeBound}
	case claim.Spec.VolumeName == "" && volumehelpers.CheckVolumeModeMismatches(&claim.Spec, &v.Spec):
		key := claim.Namespace + "/" + claim.Name
		return volumePlan{
			event:      warning("VolumeMismatch", "Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode", key),
			claimEvent: warning("VolumeMismatch", "Cannot bind PersistentVolume %q to requested PersistentVolumeClaim due to incompatible volumeMode", v.Name),
		}
	case claim.Spec.VolumeName == "":
		return volumePlan{} // the claim's own key goes on with the binding
	case metav1.HasAnnotation(v.ObjectMeta, volumehelpers.AnnDynamicallyProvisioned) && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return released(v) // it was made for a claim that has another one meanwhile: nobody else may have it
	}
	return volumePlan{unbind: true}
}

// released is of a volume whose claim is gone: its provisioner, who made it, deletes it if it is to be deleted. What nobody deletes
// or empties has failed.
func released(v *corev1.PersistentVolume) volumePlan {
	if v.Status.Phase == corev1.VolumeFailed {
		return volumePlan{}
	}
	failed := func(reason, message string) volumePlan {
		return volumePlan{phase: corev1.VolumeFailed, message: message, event: warning(reason, "%s", message)}
	}
	maker, made := v.Annotations[volumehelpers.AnnDynamicallyProvisioned]
	switch {
	case v.Annotations[volumehelpers.AnnMigratedTo] != "":
	case v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle:
		return failed("VolumeFailedRecycle", "No recycler plugin found for the volume!")
	case v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && (!made || !external(maker)):
		return failed("VolumeFailedDelete", fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", v.Name))
	}
	return volumePlan{phase: corev1.VolumeReleased}
}
