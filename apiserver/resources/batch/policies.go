package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var (
	failureActions = sets.New(batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore)
	codeOperators  = sets.New(batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	conditionWords = sets.New(corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)
	replacements   = sets.New(batchv1.Failed, batchv1.TerminatingOrFailed)
)

const (
	mostRules      = 20 // of either policy
	mostConditions = 20
	mostExitCodes  = 255
	longestIndexes = 64 * 1024
)

// validateFailurePolicy checks what is to be done about pods that fail.
func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	rules := path.Child("rules")
	if n := len(s.PodFailurePolicy.Rules); n > mostRules {
		errs = append(errs, field.TooMany(rules, n, mostRules))
	}
	names := sets.New[string]()
	for _, c := range s.Template.Spec.Containers {
		names.Insert(c.Name)
	}
	for _, c := range s.Template.Spec.InitContainers {
		names.Insert(c.Name)
	}
	for i := range s.PodFailurePolicy.Rules {
		r, at := &s.PodFailurePolicy.Rules[i], rules.Index(i)
		switch action := at.Child("action"); {
		case r.Action == "":
			errs = append(errs, field.Required(action, fmt.Sprintf("valid values: %q", sets.List(failureActions))))
		case !failureActions.Has(r.Action):
			errs = append(errs, field.NotSupported(action, r.Action, sets.List(failureActions)))
		case r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil:
			errs = append(errs, field.Invalid(action, r.Action, "requires the backoffLimitPerIndex to be set"))
		}
		if r.OnExitCodes != nil {
			errs = append(errs, validateExitCodes(r.OnExitCodes, names, at.Child("onExitCodes"))...)
		}
		errs = append(errs, validateOnConditions(r.OnPodConditions, at.Child("onPodConditions"))...)
		switch codes, conditions := r.OnExitCodes != nil, len(r.OnPodConditions) > 0; {
		case codes && conditions:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case !codes && !conditions:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
	}
	return errs
}

func validateOnConditions(all []batchv1.PodFailurePolicyOnPodConditionsPattern, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(all) > mostConditions {
		errs = append(errs, field.TooMany(path, len(all), mostConditions))
	}
	for i, c := range all {
		at := path.Index(i)
		for _, msg := range validation.IsQualifiedName(string(c.Type)) {
			errs = append(errs, field.Invalid(at.Child("type"), string(c.Type), msg))
		}
		switch {
		case c.Status == "":
			errs = append(errs, field.Required(at.Child("status"), fmt.Sprintf("valid values: %q", sets.List(conditionWords))))
		case !conditionWords.Has(c.Status):
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, sets.List(conditionWords)))
		}
	}
	return errs
}

func validateExitCodes(c *batchv1.PodFailurePolicyOnExitCodesRequirement, names sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch at := path.Child("operator"); {
	case c.Operator == "":
		errs = append(errs, field.Required(at, fmt.Sprintf("valid values: %q", sets.List(codeOperators))))
	case !codeOperators.Has(c.Operator):
		errs = append(errs, field.NotSupported(at, c.Operator, sets.List(codeOperators)))
	}
	if c.ContainerName != nil && !names.Has(*c.ContainerName) {
		errs = append(errs, field.Invalid(path.Child("containerName"), *c.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	values := path.Child("values")
	if n := len(c.Values); n == 0 {
		errs = append(errs, field.Invalid(values, c.Values, "at least one value is required"))
	} else if n > mostExitCodes {
		errs = append(errs, field.TooMany(values, n, mostExitCodes))
	}
	ordered, seen := true, sets.New[int32]()
	for i, v := range c.Values {
		if v == 0 && c.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			errs = append(errs, field.Invalid(values.Index(i), v, "must not be 0 for the In operator"))
		}
		if seen.Has(v) {
			errs = append(errs, field.Duplicate(values.Index(i), v))
		}
		seen.Insert(v)
		ordered = ordered && (i == 0 || c.Values[i-1] <= v)
	}
	if !ordered {
		errs = append(errs, field.Invalid(values, c.Values, "must be ordered"))
	}
	return errs
}

// validateSuccessPolicy checks which indexes are enough for the whole job.
func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if !indexed(s) {
		return field.ErrorList{field.Invalid(path, *s.SuccessPolicy, "requires indexed completion mode")}
	}
	var errs field.ErrorList
	rules, all := path.Child("rules"), ptr.Deref(s.Completions, 0)
	switch n := len(s.SuccessPolicy.Rules); {
	case n == 0:
		errs = append(errs, field.Required(rules, "at least one rules must be specified when the successPolicy is specified"))
	case n > mostRules:
		errs = append(errs, field.TooMany(rules, n, mostRules))
	}
	for i, r := range s.SuccessPolicy.Rules {
		at, most := rules.Index(i), int32(0)
		if r.SucceededCount == nil && r.SucceededIndexes == nil {
			errs = append(errs, field.Required(at, "at least one of succeededCount or succeededIndexes must be specified"))
		}
		if text := r.SucceededIndexes; text != nil {
			at := at.Child("succeededIndexes")
			if len(*text) > longestIndexes {
				errs = append(errs, field.TooLong(at, *text, longestIndexes))
			}
			set, err := parseIndexes(*text, all)
			if err != nil {
				errs = append(errs, field.Invalid(at, *text, "error parsing succeededIndexes: "+err.Error()))
			}
			most = set.count()
		}
		if n := r.SucceededCount; n != nil {
			at := at.Child("succeededCount")
			errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*n), at)...)
			if *n > all {
				errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", all)))
			}
			if r.SucceededIndexes != nil && *n > most {
				errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", most)))
			}
		}
	}
	return errs
}

// validateReplacement checks when a pod gets a successor; with a failure policy it must have failed first.
func validateReplacement(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	switch p := s.PodReplacementPolicy; {
	case p == nil:
		return nil
	case s.PodFailurePolicy != nil && *p != batchv1.Failed:
		return field.ErrorList{field.NotSupported(path, *p, []batchv1.PodReplacementPolicy{batchv1.Failed})}
	case !replacements.Has(*p):
		return field.ErrorList{field.NotSupported(path, *p, sets.List(replacements))}
	}
	return nil
}
