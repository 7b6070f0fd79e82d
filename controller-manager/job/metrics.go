package job

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pod"
)

// metrics are kube-controller-manager's of its job controller, by name and labels.
type metrics struct {
	syncs, finished, external, podsFinished, byPolicy, guarded, indexes, creations *prometheus.CounterVec
	duration                                                                       *prometheus.HistogramVec
}

func newMetrics(f *loop.Families) metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.Counter("job_controller_"+name, help, labels...)
	}
	return metrics{
		syncs:        counter("job_syncs_total", "Passes over jobs.", "completion_mode", "result", "action"),
		finished:     counter("jobs_finished_total", "Jobs that have finished.", "completion_mode", "result", "reason"),
		external:     counter("jobs_by_external_controller_total", "Jobs made for another controller.", "controller_name"),
		podsFinished: counter("job_pods_finished_total", "Finished pods that have been counted.", "completion_mode", "result"),
		byPolicy:     counter("pod_failures_handled_by_failure_policy_total", "Failed pods that a rule of their job's pod failure policy matched, by its action.", "action"),
		guarded:      counter("terminated_pods_tracking_finalizer_total", "Finished pods that got, and lost, the finalizer batch.kubernetes.io/job-tracking.", "event"),
		indexes:      counter("job_finished_indexes_total", "Indexes that have succeeded or failed.", "status", "backoffLimit"),
		creations:    counter("job_pods_creation_total", "Pods made, and not made, by why.", "reason", "status"),
		duration:     f.Histogram("job_controller_job_sync_duration_seconds", "Seconds a pass over a job takes.", prometheus.ExponentialBuckets(0.004, 2, 15), "completion_mode", "result", "action"),
	}
}

func mode(j *batchv1.Job) string {
	return string(ptr.Deref(j.Spec.CompletionMode, batchv1.NonIndexedCompletion))
}

func (m metrics) passed(j *batchv1.Job, action string, took time.Duration, err error) {
	result := "success"
	if err != nil {
		result = "error"
	}
	m.syncs.WithLabelValues(mode(j), result, action).Inc()
	m.duration.WithLabelValues(mode(j), result, action).Observe(took.Seconds())
}

// wrote counts what a write of the status counted.
func (m metrics) wrote(j *batchv1.Job, was, is *batchv1.JobStatus) {
	add := func(v *prometheus.CounterVec, n int, labels ...string) {
		if n > 0 { // an indexed job may shrink
			v.WithLabelValues(labels...).Add(float64(n))
		}
	}
	add(m.podsFinished, int(is.Succeeded-was.Succeeded), mode(j), "succeeded")
	add(m.podsFinished, int(is.Failed-was.Failed), mode(j), "failed")
	if indexed(j) {
		limit := "global"
		if perIndex(j) {
			limit = "perIndex"
			failed := func(s *batchv1.JobStatus) int { return parseIndexes(ptr.Deref(s.FailedIndexes, ""), wanted(j)).count() }
			add(m.indexes, failed(is)-failed(was), "failed", limit)
		}
		add(m.indexes, int(is.Succeeded-was.Succeeded), "succeeded", limit)
	}
}

func (m metrics) ended(j *batchv1.Job, x verdict) {
	result := "failed"
	if x.success {
		result = "succeeded"
	}
	m.finished.WithLabelValues(mode(j), result, x.reason).Inc()
}

// made counts pods made of those that were to be.
func (m metrics) made(v *view, s *survey, made, missed int) {
	why := "new"
	switch {
	case s.failed > 0 && ptr.Deref(v.job.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed:
		why = "recreate_failed"
	case s.failed > 0 || s.terminating > 0:
		why = "recreate_terminating_or_failed"
	}
	m.creations.WithLabelValues(why, "succeeded").Add(float64(made))
	m.creations.WithLabelValues(why, "failed").Add(float64(missed))
}

// saw notes when a finished pod gets or loses the finalizer, or finishes or is gone with it.
func (m metrics) saw(e loop.Event) {
	waiting := func(p *corev1.Pod) bool { return p != nil && pod.Terminal(p) && guarded(p) }
	old, _ := e.Old.(*corev1.Pod) // nil where there is none
	now, _ := e.New.(*corev1.Pod)
	switch was, is := waiting(old), waiting(now); {
	case is && !was:
		m.guarded.WithLabelValues("add").Inc()
	case was && !is:
		m.guarded.WithLabelValues("delete").Inc()
	}
}
