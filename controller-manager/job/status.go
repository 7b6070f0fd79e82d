package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// numbers are the pods as the status tells them, after what a pass did.
type numbers struct{ active, ready, terminating int }

// nextStatus is the job's status before its newly ended pods are entered: numbers, times, and every condition but the final one.
func nextStatus(v *view, s *survey, p plan, n numbers) *batchv1.JobStatus {
	st := v.job.Status.DeepCopy()
	if st.UncountedTerminatedPods == nil {
		st.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	st.Active, st.Ready, st.Terminating = int32(n.active), ptr.To(int32(n.ready)), ptr.To(int32(n.terminating))
	if v.job.DeletionTimestamp != nil {
		return st
	}
	switch t := startTime(v.job, p, v.now); {
	case t.IsZero():
		st.StartTime = nil
	case st.StartTime == nil:
		st.StartTime = ptr.To(metav1.NewTime(t))
	}
	switch {
	case p.ending != nil:
		setCondition(st, p.ending.interim(), corev1.ConditionTrue, p.ending.reason, p.ending.message, v.now)
	case !p.settled:
	case suspended(v.job):
		setCondition(st, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended", v.now)
	case condition(st, batchv1.JobSuspended) != nil:
		setCondition(st, batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed", v.now)
	}
	return st
}

// finish sets the final condition.
func finish(st *batchv1.JobStatus, x verdict, now time.Time) {
	setCondition(st, x.final(), corev1.ConditionTrue, x.reason, x.message, now)
	if x.success {
		st.CompletionTime = ptr.To(metav1.NewTime(now))
	}
}

func condition(st *batchv1.JobStatus, what batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == what {
			return &st.Conditions[i]
		}
	}
	return nil
}

func holds(st *batchv1.JobStatus, what batchv1.JobConditionType) bool {
	c := condition(st, what)
	return c != nil && c.Status == corev1.ConditionTrue
}

func finished(j *batchv1.Job) bool {
	return holds(&j.Status, batchv1.JobComplete) || holds(&j.Status, batchv1.JobFailed)
}

// setCondition writes a condition; one that says the same already keeps its times.
func setCondition(st *batchv1.JobStatus, what batchv1.JobConditionType, is corev1.ConditionStatus, reason, message string, now time.Time) {
	c := batchv1.JobCondition{Type: what, Status: is, Reason: reason, Message: message, LastProbeTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now)}
	old := condition(st, what)
	switch {
	case old == nil:
		st.Conditions = append(st.Conditions, c)
	case old.Status != is || old.Reason != reason || old.Message != message:
		*old = c
	}
}

// sameCounts says whether two statuses tell the same of pods that have ended: nobody has counted between them.
func sameCounts(a, b *batchv1.JobStatus) bool {
	if a.Succeeded != b.Succeeded || a.Failed != b.Failed || a.CompletedIndexes != b.CompletedIndexes || ptr.Deref(a.FailedIndexes, "") != ptr.Deref(b.FailedIndexes, "") {
		return false
	}
	x, y := ptr.Deref(a.UncountedTerminatedPods, batchv1.UncountedTerminatedPods{}), ptr.Deref(b.UncountedTerminatedPods, batchv1.UncountedTerminatedPods{})
	return slices.Equal(x.Succeeded, y.Succeeded) && slices.Equal(x.Failed, y.Failed)
}

// onlyNumbers says whether nothing but the numbers of pods that run differs.
func onlyNumbers(have, want *batchv1.JobStatus) bool {
	return have.UncountedTerminatedPods != nil && sameCounts(have, want) && (have.FailedIndexes == nil) == (want.FailedIndexes == nil) &&
		have.StartTime.Equal(want.StartTime) && slices.Equal(have.Conditions, want.Conditions)
}
