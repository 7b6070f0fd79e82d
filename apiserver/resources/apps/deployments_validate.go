package apps

import (
	"math"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var strategies = sets.New(appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType)

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	spec, s := field.NewPath("spec"), &d.Spec
	errs := apivalidation.ValidateNonnegativeField(int64(ptr.Deref(s.Replicas, 0)), spec.Child("replicas"))
	errs = append(errs, validateSelector(s.Selector, "deployment", spec.Child("selector"))...)
	errs = append(errs, validateTemplate(&s.Template, s.Selector, "ReplicaSet", spec.Child("template"))...)
	errs = append(errs, validateStrategy(&s.Strategy, spec.Child("strategy"))...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(s.MinReadySeconds), spec.Child("minReadySeconds"))...)
	if s.RevisionHistoryLimit != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*s.RevisionHistoryLimit), spec.Child("revisionHistoryLimit"))...)
	}
	if s.ProgressDeadlineSeconds != nil {
		path := spec.Child("progressDeadlineSeconds")
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*s.ProgressDeadlineSeconds), path)...)
		if *s.ProgressDeadlineSeconds <= s.MinReadySeconds {
			errs = append(errs, field.Invalid(path, *s.ProgressDeadlineSeconds, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(rolling, "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(rolling, "this should be defaulted and never be nil")}
		}
	default:
		return field.ErrorList{field.NotSupported(path, s.Type, sets.List(strategies))}
	}
	down, up := ptr.Deref(s.RollingUpdate.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(s.RollingUpdate.MaxSurge, intstr.IntOrString{})
	errs := validateCountOrShare(down, rolling.Child("maxUnavailable"))
	errs = append(errs, validateCountOrShare(up, rolling.Child("maxSurge"))...)
	if amount(down) == 0 && amount(up) == 0 {
		errs = append(errs, field.Invalid(rolling.Child("maxUnavailable"), &down, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, validateNotAboveAll(down, rolling.Child("maxUnavailable"))...)
}

func validateNotAboveAll(v intstr.IntOrString, path *field.Path) field.ErrorList {
	if percent, ok := share(v); ok && percent > 100 {
		return field.ErrorList{field.Invalid(path, v, "must not be greater than 100%")}
	}
	return nil
}

func validateCountOrShare(v intstr.IntOrString, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if v.Type == intstr.Int {
		return apivalidation.ValidateNonnegativeField(int64(v.IntValue()), path)
	}
	for _, msg := range validation.IsValidPercent(v.StrVal) {
		errs = append(errs, field.Invalid(path, v, msg))
	}
	return errs
}

func share(v intstr.IntOrString) (int, bool) {
	if v.Type != intstr.String || len(validation.IsValidPercent(v.StrVal)) > 0 {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if err != nil {
		n = math.MaxInt // more digits than a number holds
	}
	return n, true
}

func amount(v intstr.IntOrString) int {
	if n, ok := share(v); ok {
		return n
	}
	return v.IntValue()
}

func validateDeploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	return apivalidation.ValidateImmutableField(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
}

func validateDeploymentStatus(d, old *appsv1.Deployment) field.ErrorList {
	path, s := field.NewPath("status"), &d.Status
	errs := apivalidation.ValidateNonnegativeField(s.ObservedGeneration, path.Child("observedGeneration"))
	errs = append(errs, validateCounts(path, s.Replicas, map[string]int32{
		"updatedReplicas": s.UpdatedReplicas, "readyReplicas": s.ReadyReplicas, "availableReplicas": s.AvailableReplicas,
	})...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(s.UnavailableReplicas), path.Child("unavailableReplicas"))...)
	if s.TerminatingReplicas != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*s.TerminatingReplicas), path.Child("terminatingReplicas"))...)
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	if s.CollisionCount != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*s.CollisionCount), path.Child("collisionCount"))...)
	}
	return append(errs, notDecremented(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

// validateCounts checks that nothing is below zero and no part above the whole.
func validateCounts(status *field.Path, all int32, parts map[string]int32) field.ErrorList {
	errs := apivalidation.ValidateNonnegativeField(int64(all), status.Child("replicas"))
	for name, n := range parts {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(n), status.Child(name))...)
		if n > all {
			errs = append(errs, field.Invalid(status.Child(name), n, "cannot be greater than status.replicas"))
		}
	}
	return errs
}
