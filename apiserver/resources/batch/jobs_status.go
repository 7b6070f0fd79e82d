package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// validateJobStatus checks what a controller, ours or one named by managedBy, says of a job. A rule holds where what it
// speaks of changes: just after a change of the spec the status may still be the old one's.
func validateJobStatus(j, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("status")
	errs := validateJobCounts(j, old, path)
	errs = append(errs, validateJobConditions(j, old, path.Child("conditions"))...)
	errs = append(errs, validateJobTimes(j, old, path)...)
	errs = append(errs, validateFinished(j, old, path)...)
	return append(errs, validateJobIndexes(j, old, path)...)
}

func validateJobCounts(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	s := &j.Status
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value int32
	}{{"active", s.Active}, {"succeeded", s.Succeeded}, {"failed", s.Failed}, {"ready", ptr.Deref(s.Ready, 0)}, {"terminating", ptr.Deref(s.Terminating, 0)}} {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(n.value), path.Child(n.name))...)
	}
	if s.Failed < old.Status.Failed {
		errs = append(errs, field.Invalid(path.Child("failed"), s.Failed, "cannot decrease the failed counter"))
	}
	if r := s.Ready; r != nil && *r > s.Active && (s.Active != old.Status.Active || !ptr.Equal(r, old.Status.Ready)) {
		errs = append(errs, field.Invalid(path.Child("ready"), *r, "cannot set more ready pods than active"))
	}
	// An indexed job may shrink.
	elastic := indexed(&j.Spec) && ptr.Equal(j.Spec.Completions, j.Spec.Parallelism)
	if s.Succeeded < old.Status.Succeeded && !elastic {
		errs = append(errs, field.Invalid(path.Child("succeeded"), s.Succeeded, "cannot decrease the succeeded counter"))
	}
	if s.UncountedTerminatedPods == nil {
		return errs
	}
	seen := sets.New[types.UID]()
	check := func(all []types.UID, at *field.Path) {
		for i, uid := range all {
			switch {
			case uid == "":
				errs = append(errs, field.Invalid(at.Index(i), uid, "must not be empty"))
			case seen.Has(uid):
				errs = append(errs, field.Duplicate(at.Index(i), uid))
			}
			seen.Insert(uid)
		}
	}
	check(s.UncountedTerminatedPods.Succeeded, path.Child("uncountedTerminatedPods", "succeeded"))
	check(s.UncountedTerminatedPods.Failed, path.Child("uncountedTerminatedPods", "failed"))
	return errs
}

// changed says whether a condition became true or ceased to be.
func changed(j, old *batchv1.Job, what batchv1.JobConditionType) bool {
	return isTrue(j, what) != isTrue(old, what)
}

func validateJobConditions(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	refuse := func(bad bool, why string) {
		if bad {
			errs = append(errs, field.Invalid(path, field.OmitValueType{}, why))
		}
	}
	complete, failed := isTrue(j, batchv1.JobComplete), isTrue(j, batchv1.JobFailed)
	enough, doomed := isTrue(j, batchv1.JobSuccessCriteriaMet), isTrue(j, batchv1.JobFailureTarget)
	completed := changed(j, old, batchv1.JobComplete)
	refuse((completed || changed(j, old, batchv1.JobFailed)) && complete && failed, "cannot set Complete=True and Failed=true conditions")
	refuse((completed || changed(j, old, batchv1.JobFailureTarget)) && complete && doomed, "cannot set Complete=True and FailureTarget=true conditions")
	refuse(changed(j, old, batchv1.JobFailed) && failed && !doomed, "cannot set Failed=True condition without the FailureTarget=true condition")
	refuse(completed && complete && !enough, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	refuse(enough && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions")
	refuse(enough && doomed, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
	refuse(j.Spec.SuccessPolicy != nil && complete && !enough && !completed, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
	for _, what := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		refuse(isTrue(old, what) && !isTrue(j, what), fmt.Sprintf("cannot disable the terminal %s=True condition", what))
	}
	was := isTrue(old, batchv1.JobSuccessCriteriaMet)
	refuse(was && !enough, "cannot disable the SuccessCriteriaMet=True condition")
	refuse(isTrue(old, batchv1.JobComplete) && !was && enough, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
	return errs
}

func validateJobTimes(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	start, end := j.Status.StartTime, j.Status.CompletionTime
	startChanged, endChanged := !sameTime(start, old.Status.StartTime), !sameTime(end, old.Status.CompletionTime)
	complete := isTrue(j, batchv1.JobComplete)
	at := path.Child("completionTime")
	if endChanged || changed(j, old, batchv1.JobComplete) {
		switch {
		case end != nil && !complete:
			errs = append(errs, field.Invalid(at, end, "cannot set completionTime when there is no Complete=True condition"))
		case end == nil && complete:
			errs = append(errs, field.Required(at, "completionTime is required for Complete jobs"))
		}
	}
	if (startChanged || endChanged) && start != nil && end != nil && end.Before(start) {
		errs = append(errs, field.Invalid(at, end, "completionTime cannot be set before startTime"))
	}
	if end != nil && old.Status.CompletionTime != nil && endChanged {
		errs = append(errs, field.Invalid(at, end, "completionTime cannot be mutated"))
	}
	if startChanged && old.Status.StartTime != nil && !ptr.Deref(j.Spec.Suspend, false) {
		errs = append(errs, field.Required(path.Child("startTime"), "startTime cannot be removed for unsuspended job"))
	}
	return errs
}

func sameTime(a, b *metav1.Time) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Equal(b))
}

func finished(j *batchv1.Job) bool {
	return isTrue(j, batchv1.JobComplete) || isTrue(j, batchv1.JobFailed)
}

// validateFinished checks that a finished job has nothing left to do.
func validateFinished(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	if !finished(j) {
		return nil
	}
	var errs field.ErrorList
	s, was, now := &j.Status, &old.Status, !finished(old)
	if s.Active > 0 && (now || s.Active != was.Active) {
		errs = append(errs, field.Invalid(path.Child("active"), s.Active, "active>0 is invalid for finished job"))
	}
	if n := ptr.Deref(s.Terminating, 0); n > 0 && (now || n != ptr.Deref(was.Terminating, 0)) {
		errs = append(errs, field.Invalid(path.Child("terminating"), n, "terminating>0 is invalid for finished job"))
	}
	if s.StartTime == nil && (now || was.StartTime != nil) {
		errs = append(errs, field.Required(path.Child("startTime"), "startTime is required for finished job"))
	}
	u := s.UncountedTerminatedPods
	if u != nil && len(u.Failed)+len(u.Succeeded) > 0 && (now || !apiequality.Semantic.DeepEqual(u, was.UncountedTerminatedPods)) {
		errs = append(errs, field.Invalid(path.Child("uncountedTerminatedPods"), u, "uncountedTerminatedPods needs to be empty for finished job"))
	}
	return errs
}

func validateJobIndexes(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	s, limit := &j.Status, ptr.Deref(j.Spec.Completions, 0)
	completed, failed := s.CompletedIndexes != old.Status.CompletedIndexes, !ptr.Equal(s.FailedIndexes, old.Status.FailedIndexes)
	if !completed && !failed {
		return nil
	}
	done, doneErr := parseIndexes(s.CompletedIndexes, limit)
	at := path.Child("completedIndexes")
	if completed && doneErr != nil && j.Spec.Completions != nil {
		errs = append(errs, field.Invalid(at, s.CompletedIndexes, "error parsing completedIndexes: "+doneErr.Error()))
	}
	if completed && s.CompletedIndexes != "" && !indexed(&j.Spec) {
		errs = append(errs, field.Invalid(at, s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
	}
	if s.FailedIndexes == nil {
		return errs
	}
	at = path.Child("failedIndexes")
	lost, err := parseIndexes(*s.FailedIndexes, limit)
	if failed && j.Spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(at, *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
	} else if failed && err != nil && j.Spec.Completions != nil {
		errs = append(errs, field.Invalid(at, *s.FailedIndexes, "error parsing failedIndexes: "+err.Error()))
	}
	if n, both := done.shared(lost); both {
		errs = append(errs, field.Invalid(at, *s.FailedIndexes, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", n)))
	}
	return errs
}
