package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// verdict is that a job ends, and why. First the condition for the time until its last pod has ended is set, then the final one.
type verdict struct {
	success bool
	reason  string
	message string
}

// interim and final are the two conditions of a verdict.
func (x verdict) interim() batchv1.JobConditionType {
	if x.success {
		return batchv1.JobSuccessCriteriaMet
	}
	return batchv1.JobFailureTarget
}

func (x verdict) final() batchv1.JobConditionType {
	if x.success {
		return batchv1.JobComplete
	}
	return batchv1.JobFailed
}

// judgeJob says whether the job ends, nil: it goes on. What has once been decided stays.
func judgeJob(v *view, s *survey, settled bool) *verdict {
	for _, x := range []verdict{{success: true}, {}} {
		if c := condition(&v.job.Status, x.interim()); c != nil && c.Status == corev1.ConditionTrue {
			return &verdict{x.success, c.Reason, c.Message}
		}
	}
	fail := func(reason, message string) *verdict { return &verdict{reason: reason, message: message} }
	spec := &v.job.Spec
	if spec.PodFailurePolicy != nil {
		for _, p := range v.pods {
			if !v.failed(p) {
				continue
			}
			if r := judge(spec.PodFailurePolicy, p); r.action == batchv1.PodFailurePolicyActionFailJob {
				return fail(batchv1.JobReasonPodFailurePolicy, r.message)
			}
		}
	}
	switch {
	case s.failed > int(*spec.BackoffLimit) || restartedTooOften(v.job, s):
		return fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case expired(v.job, v.now):
		return fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	}
	if perIndex(v.job) {
		switch n := s.lost.count(); {
		case spec.MaxFailedIndexes != nil && n > int(*spec.MaxFailedIndexes):
			return fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		case n > 0 && n+s.done.count() >= wanted(v.job):
			return fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if indexed(v.job) {
		if message, met := enough(spec.SuccessPolicy, wanted(v.job), s.done); met {
			return &verdict{true, batchv1.JobReasonSuccessPolicy, message}
		}
	}
	if noMore(v, s, settled) {
		return &verdict{true, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"}
	}
	return nil
}

// restartedTooOften says whether containers that are restarted in place have failed as often as pods may.
func restartedTooOften(j *batchv1.Job, s *survey) bool {
	if j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var n int32
	for _, p := range s.active {
		for i := range p.Status.InitContainerStatuses {
			n += p.Status.InitContainerStatuses[i].RestartCount
		}
		for i := range p.Status.ContainerStatuses {
			n += p.Status.ContainerStatuses[i].RestartCount
		}
	}
	return n >= max(*j.Spec.BackoffLimit, 1)
}

func expired(j *batchv1.Job, now time.Time) bool {
	d := j.Spec.ActiveDeadlineSeconds
	return d != nil && j.Status.StartTime != nil && !suspended(j) && now.Sub(j.Status.StartTime.Time) >= time.Duration(*d)*time.Second
}
