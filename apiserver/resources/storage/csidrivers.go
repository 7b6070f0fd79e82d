package storage

import (
	"slices"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/volumespec"
)

const (
	shortestToken  = 10 * 60 // seconds
	longestToken   = 1 << 32
	shortestUpdate = 10 // seconds
)

// CSIDrivers say what the nodes and the scheduler must know of a driver.
var CSIDrivers = registry.Define(registry.Kind[*storagev1.CSIDriver]{
	Group: group, Version: "v1", Kind: "CSIDriver", Plural: "csidrivers",
	ReturnsDeleted: true,
	Generation:     true,
	Default: func(d *storagev1.CSIDriver) {
		s := &d.Spec
		orNew(&s.AttachRequired, true)
		orNew(&s.PodInfoOnMount, false)
		orNew(&s.StorageCapacity, false)
		orNew(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
		orNew(&s.RequiresRepublish, false)
		orNew(&s.SELinuxMount, false)
		orNew(&s.PreventPodSchedulingIfMissing, false)
		if len(s.VolumeLifecycleModes) == 0 {
			s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
		}
	},
	Validate: validateDriver,
	ValidateUpdate: func(d, old *storagev1.CSIDriver) field.ErrorList {
		errs := apivalidation.ValidateImmutableField(d.Spec.AttachRequired, old.Spec.AttachRequired, field.NewPath("spec", "attachRequired"))
		return append(errs, apivalidation.ValidateImmutableField(d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, field.NewPath("spec", "volumeLifecycleModes"))...)
	},
	Columns: []registry.Column[*storagev1.CSIDriver]{
		{Name: "AttachRequired", Type: "boolean", Description: "Whether volumes are attached before they are mounted.", Value: func(d *storagev1.CSIDriver) any { return ptr.Deref(d.Spec.AttachRequired, true) }},
		{Name: "PodInfoOnMount", Type: "boolean", Description: "Whether it is told of the pod.", Value: func(d *storagev1.CSIDriver) any { return ptr.Deref(d.Spec.PodInfoOnMount, false) }},
		{Name: "StorageCapacity", Type: "boolean", Description: "Whether the scheduler looks at its capacity.", Value: func(d *storagev1.CSIDriver) any { return ptr.Deref(d.Spec.StorageCapacity, false) }},
		{Name: "TokenRequests", Description: "Whom the tokens are for that it gets.", Value: func(d *storagev1.CSIDriver) any { return audiences(d.Spec.TokenRequests) }},
		{Name: "RequiresRepublish", Type: "boolean", Description: "Whether it is called again and again.", Value: func(d *storagev1.CSIDriver) any { return ptr.Deref(d.Spec.RequiresRepublish, false) }},
		{Name: "Modes", Description: "The volumes it serves.", Value: func(d *storagev1.CSIDriver) any { return modes(d.Spec.VolumeLifecycleModes) }},
		registry.Age[*storagev1.CSIDriver](),
	},
})

func orNew[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

func audiences(requests []storagev1.TokenRequest) string {
	if len(requests) == 0 {
		return unset
	}
	all := make([]string, len(requests))
	for i, r := range requests {
		all[i] = r.Audience
	}
	return strings.Join(all, ",")
}

func modes(all []storagev1.VolumeLifecycleMode) string {
	texts := make([]string, len(all))
	for i, m := range all {
		texts[i] = string(m)
	}
	if len(texts) == 0 {
		return "<none>"
	}
	return strings.Join(texts, ",")
}

func validateDriver(d *storagev1.CSIDriver) field.ErrorList {
	errs := volumespec.ValidateDriver(d.Name, field.NewPath("metadata", "name"))
	at, s := field.NewPath("spec"), &d.Spec
	policies := []storagev1.FSGroupPolicy{storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy}
	if p := ptr.Deref(s.FSGroupPolicy, policies[0]); !slices.Contains(policies, p) {
		errs = append(errs, field.NotSupported(at.Child("fsGroupPolicy"), p, policies))
	}
	known := []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral, storagev1.VolumeLifecyclePersistent}
	for _, m := range s.VolumeLifecycleModes {
		if !slices.Contains(known, m) {
			errs = append(errs, field.NotSupported(at.Child("volumeLifecycleModes"), m, known))
		}
	}
	errs = append(errs, validateTokens(s.TokenRequests, at.Child("tokenRequests"))...)
	if n := s.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < shortestUpdate {
		errs = append(errs, field.Invalid(at.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(at.Child("serviceAccountTokenInSecrets"), *s.ServiceAccountTokenInSecrets, "serviceAccountTokenInSecrets can only be set when tokenRequests is configured"))
	}
	return errs
}

func validateTokens(requests []storagev1.TokenRequest, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, r := range requests {
		at := at.Index(i)
		if seen.Has(r.Audience) {
			errs = append(errs, field.Duplicate(at.Child("audience"), r.Audience))
		}
		seen.Insert(r.Audience)
		switch n := r.ExpirationSeconds; {
		case n == nil:
		case *n < shortestToken:
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *n, "may not specify a duration less than 10 minutes"))
		case *n > longestToken:
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *n, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return errs
}
