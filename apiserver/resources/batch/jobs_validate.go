package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/resources/podspec"
)

// What the status of a job can keep track of; see the documentation of the fields in k8s.io/api/batch/v1.
const (
	mostParallel        = 100_000 // of indexed jobs
	mostFailedIndexes   = 100_000
	manyIndexes         = 100_000 // above it the next two hold
	manyIndexesParallel = 10_000
	manyIndexesFailed   = 10_000
	longestManager      = 63
)

func validateJob(j *batchv1.Job) field.ErrorList {
	spec, s := field.NewPath("spec"), &j.Spec
	errs := validateOwnLabels(j)
	errs = append(errs, validateJobSpec(s, spec)...)
	if s.Selector == nil {
		errs = append(errs, field.Required(spec.Child("selector"), ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, spec.Child("selector"))...)
		if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
			errs = append(errs, field.Invalid(spec.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
		}
	}
	// The last pod's host must have a name, too.
	if n := ptr.Deref(s.Completions, 0); indexed(s) && n > 0 {
		if host := fmt.Sprintf("%s-%d", j.Name, n-1); len(validation.IsDNS1123Label(host)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+host))
		}
	}
	return errs
}

// validateOwnLabels checks, where labels and selector are not the user's own affair, that they are the job's alone.
func validateOwnLabels(j *batchv1.Job) field.ErrorList {
	if ptr.Deref(j.Spec.ManualSelector, false) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if j.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	want := labels.Set{}
	at := field.NewPath("spec", "template", "metadata", "labels")
	for _, l := range jobLabels(j) {
		want[l.key] = l.value
		switch is, ok := j.Spec.Template.Labels[l.key]; {
		case !ok:
			errs = append(errs, field.Required(at.Key(l.key), fmt.Sprintf("must be '%s'", l.value)))
		case is != l.value:
			errs = append(errs, field.Invalid(at.Key(l.key), j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", l.value)))
		}
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(want) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

// validateJobSpec checks what jobs and the templates of jobs have in common.
func validateJobSpec(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", s.Parallelism}, {"completions", s.Completions}, {"backoffLimit", s.BackoffLimit}, {"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished},
		{"backoffLimitPerIndex", s.BackoffLimitPerIndex}, {"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		if n.value != nil {
			errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*n.value), path.Child(n.name))...)
		}
	}
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*s.ActiveDeadlineSeconds, path.Child("activeDeadlineSeconds"))...)
	}
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if m := s.ManagedBy; m != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(path.Child("managedBy"), *m)...)
		if len(*m) > longestManager {
			errs = append(errs, field.TooLong(path.Child("managedBy"), *m, longestManager))
		}
	}
	errs = append(errs, validateCompletionMode(s, path)...)
	if s.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(s, path.Child("podFailurePolicy"))...)
	}
	if s.SuccessPolicy != nil {
		errs = append(errs, validateSuccessPolicy(s, path.Child("successPolicy"))...)
	}
	errs = append(errs, validateReplacement(s, path.Child("podReplacementPolicy"))...)
	errs = append(errs, podspec.ValidateTemplate(&s.Template, path.Child("template"))...)
	return append(errs, validateJobRestart(s, path.Child("template", "spec", "restartPolicy"))...)
}

func validateCompletionMode(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch mode := ptr.Deref(s.CompletionMode, batchv1.NonIndexedCompletion); mode {
	case batchv1.NonIndexedCompletion:
		if s.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if s.MaxFailedIndexes != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "requires indexed completion mode"))
		}
		return errs
	case batchv1.IndexedCompletion:
	default:
		known := []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}
		return field.ErrorList{field.NotSupported(path.Child("completionMode"), mode, known)}
	}
	parallel := ptr.Deref(s.Parallelism, 0)
	if parallel > mostParallel {
		errs = append(errs, field.Invalid(path.Child("parallelism"), parallel,
			fmt.Sprintf("must be less than or equal to %d when completion mode is %s", mostParallel, batchv1.IndexedCompletion)))
	}
	if s.Completions == nil {
		return append(errs, field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
	}
	failed := path.Child("maxFailedIndexes")
	if s.MaxFailedIndexes != nil {
		if *s.MaxFailedIndexes > *s.Completions {
			errs = append(errs, field.Invalid(failed, *s.MaxFailedIndexes, "must be less than or equal to completions"))
		}
		if *s.MaxFailedIndexes > mostFailedIndexes {
			errs = append(errs, field.Invalid(failed, *s.MaxFailedIndexes, fmt.Sprintf("must be less than or equal to %d", mostFailedIndexes)))
		}
	}
	if *s.Completions <= manyIndexes || s.BackoffLimitPerIndex == nil {
		return errs
	}
	const when = "must be less than or equal to %d when completions are above %d and used with backoff limit per index"
	if s.MaxFailedIndexes == nil {
		errs = append(errs, field.Required(failed, fmt.Sprintf("must be specified when completions is above %d", manyIndexes)))
	} else if *s.MaxFailedIndexes > manyIndexesFailed {
		errs = append(errs, field.Invalid(failed, *s.MaxFailedIndexes, fmt.Sprintf(when, manyIndexesFailed, manyIndexes)))
	}
	if parallel > manyIndexesParallel {
		errs = append(errs, field.Invalid(path.Child("parallelism"), parallel, fmt.Sprintf(when, manyIndexesParallel, manyIndexes)))
	}
	return errs
}

// validateJobRestart checks that the pods can come to an end.
func validateJobRestart(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	switch p := s.Template.Spec.RestartPolicy; p {
	case corev1.RestartPolicyNever:
		return nil
	case corev1.RestartPolicyOnFailure:
		if s.PodFailurePolicy == nil {
			return nil
		}
		return field.ErrorList{field.Invalid(path, p, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever))}
	case "", corev1.RestartPolicyAlways: // what a template gets that says nothing
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever))}
	default:
		return field.ErrorList{field.NotSupported(path, p, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})}
	}
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	spec, s, was := field.NewPath("spec"), &j.Spec, &old.Spec
	errs := validateNewCompletions(s, was, spec)
	errs = append(errs, apivalidation.ValidateImmutableField(s.Selector, was.Selector, spec.Child("selector"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(&s.Template, fixedTemplate(j, old), spec.Child("template"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(s.CompletionMode, was.CompletionMode, spec.Child("completionMode"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(s.PodFailurePolicy, was.PodFailurePolicy, spec.Child("podFailurePolicy"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(s.BackoffLimitPerIndex, was.BackoffLimitPerIndex, spec.Child("backoffLimitPerIndex"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(s.ManagedBy, was.ManagedBy, spec.Child("managedBy"))...)
	return append(errs, apivalidation.ValidateImmutableField(s.SuccessPolicy, was.SuccessPolicy, spec.Child("successPolicy"))...)
}

// validateNewCompletions lets indexed jobs grow and shrink, which means all their indexes at once.
func validateNewCompletions(s, old *batchv1.JobSpec, spec *field.Path) field.ErrorList {
	path := spec.Child("completions")
	switch {
	case !indexed(s):
		return apivalidation.ValidateImmutableField(s.Completions, old.Completions, path)
	case s.Completions == nil, apiequality.Semantic.DeepEqual(s.Completions, old.Completions):
		return nil // none at all is refused elsewhere
	case *s.Completions != ptr.Deref(s.Parallelism, 0):
		return field.ErrorList{field.Invalid(path, s.Completions, fmt.Sprintf("can only be modified in tandem with %s", spec.Child("parallelism")))}
	}
	return nil
}

// fixedTemplate is the old template with everything of the new that may differ: nothing, but for a suspended job without pods
// where they will run and what they will ask for.
func fixedTemplate(j, old *batchv1.Job) *corev1.PodTemplateSpec {
	resting := ptr.Deref(old.Spec.Suspend, false) && (old.Status.StartTime == nil || old.Status.Active == 0 && isTrue(old, batchv1.JobSuspended))
	if !resting {
		return &old.Spec.Template
	}
	t, now := old.Spec.Template.DeepCopy(), &j.Spec.Template
	t.Labels, t.Annotations = now.Labels, now.Annotations
	t.Spec.NodeSelector, t.Spec.Tolerations, t.Spec.SchedulingGates = now.Spec.NodeSelector, now.Spec.Tolerations, now.Spec.SchedulingGates
	if a := t.Spec.Affinity; a != nil {
		a.NodeAffinity = nil
		if now.Spec.Affinity != nil {
			a.NodeAffinity = now.Spec.Affinity.NodeAffinity
		} else if *a == (corev1.Affinity{}) {
			t.Spec.Affinity = nil
		}
	} else if now.Spec.Affinity != nil {
		t.Spec.Affinity = &corev1.Affinity{NodeAffinity: now.Spec.Affinity.NodeAffinity}
	}
	keep := func(to, from []corev1.Container) {
		for i := range to {
			if i < len(from) && to[i].Name == from[i].Name {
				to[i].Resources = from[i].Resources
			}
		}
	}
	keep(t.Spec.Containers, now.Spec.Containers)
	keep(t.Spec.InitContainers, now.Spec.InitContainers)
	return t
}
