package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

// Annotations in which a pod of a job with a backoff limit per index carries the failures of its index before it.
const (
	failureCount = batchv1.JobIndexFailureCountAnnotation
	ignoredCount = batchv1.JobIndexIgnoredFailureCountAnnotation
)

// view is what one pass decides on: the caches, and what we know that they do not show yet.
type view struct {
	job      *batchv1.Job
	pods     []*corev1.Pod
	unseen   podset.Unseen
	stripped map[types.UID]bool // pods whose finalizer is gone already
	row      *row
	now      time.Time
}

// guarded says whether a pod carries the finalizer, which means that it has not been counted to the end.
func guarded(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

func (v *view) guarded(p *corev1.Pod) bool { return guarded(p) && !v.stripped[p.UID] }

// going says whether a pod has been asked to end, if only by us a moment ago.
func (v *view) going(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil || v.unseen.Deleting[p.UID]
}

func (v *view) active(p *corev1.Pod) bool { return !pod.Terminal(p) && !v.going(p) }

// failed says whether a pod will never succeed for the job. Where replacements do not wait for the end, asked to end is failed.
func (v *view) failed(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodFailed {
		return true
	}
	return p.Status.Phase != corev1.PodSucceeded && v.going(p) && !waits(v.job)
}

// waits says whether a pod is replaced only when it has ended.
func waits(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed || j.Spec.PodFailurePolicy != nil
}

func indexed(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

func perIndex(j *batchv1.Job) bool { return indexed(j) && j.Spec.BackoffLimitPerIndex != nil }

func suspended(j *batchv1.Job) bool { return ptr.Deref(j.Spec.Suspend, false) }

// wanted is how many completions are asked for; only work queues have no number.
func wanted(j *batchv1.Job) int { return int(ptr.Deref(j.Spec.Completions, 0)) }

// fits says whether a pod can count for the job: every pod, or one whose index the job still has.
func fits(j *batchv1.Job, p *corev1.Pod) bool {
	if !indexed(j) {
		return true
	}
	i := indexOf(p)
	return i != noIndex && i < wanted(j)
}

// survey is what the pods amount to, those that the status does not tell of yet among them.
type survey struct {
	active      []*corev1.Pod
	ready       int
	terminating int

	guarded   []*corev1.Pod // with the finalizer, active ones too
	succeeded int
	failed    int

	before indexes             // completed, as the status says
	done   indexes             // completed, with pods that are not counted yet
	lost   indexes             // failed for good, whatever else ends for them; only with a limit per index
	held   map[int]*corev1.Pod // failed pods that keep the finalizer until their index has a successor that carries the count on
}

func look(v *view) *survey {
	s := &survey{}
	status := &v.job.Status
	s.succeeded, s.failed = int(status.Succeeded), int(status.Failed)
	counted := map[types.UID]bool{}
	if u := status.UncountedTerminatedPods; u != nil {
		s.succeeded += len(u.Succeeded)
		s.failed += len(u.Failed)
		for _, uid := range slices.Concat(u.Succeeded, u.Failed) {
			counted[uid] = true
		}
	}
	if perIndex(v.job) {
		s.lost = parseIndexes(ptr.Deref(status.FailedIndexes, ""), wanted(v.job))
	}
	var done []int
	for _, p := range v.pods {
		switch {
		case v.active(p):
			s.active = append(s.active, p)
			if pod.Ready(p) {
				s.ready++
			}
		case !pod.Terminal(p):
			s.terminating++
		}
		if !v.guarded(p) {
			continue
		}
		s.guarded = append(s.guarded, p)
		switch {
		case counted[p.UID] || !fits(v.job, p) || s.lost.has(indexOf(p)) && p.Status.Phase == corev1.PodSucceeded:
		case p.Status.Phase == corev1.PodSucceeded:
			s.succeeded++
			done = append(done, indexOf(p))
		case v.failed(p) && judge(v.job.Spec.PodFailurePolicy, p).counts:
			s.failed++
		}
	}
	if indexed(v.job) {
		s.before = parseIndexes(status.CompletedIndexes, wanted(v.job))
		s.done = s.before.union(indexesOf(done))
		s.succeeded = s.done.count()
	}
	if perIndex(v.job) {
		s.lost = lost(v, s)
		s.held = hold(v, s)
	}
	return s
}

// lost are the indexes that have failed more often than they may, or by a rule.
func lost(v *view, s *survey) indexes {
	var now []int
	limit := int(*v.job.Spec.BackoffLimitPerIndex)
	for _, p := range s.guarded {
		if !v.failed(p) || !fits(v.job, p) || s.done.has(indexOf(p)) {
			continue
		}
		r := judge(v.job.Spec.PodFailurePolicy, p)
		if r.action == batchv1.PodFailurePolicyActionFailIndex || r.counts && annotated(p, failureCount, 0) >= limit {
			now = append(now, indexOf(p))
		}
	}
	return s.lost.union(indexesOf(now))
}

// hold finds, for each index that will be tried again and is not yet, the failed pod that knows how often it has been.
func hold(v *view, s *survey) map[int]*corev1.Pod {
	tried := map[int]bool{}
	for _, p := range s.active {
		tried[indexOf(p)] = true
	}
	held := map[int]*corev1.Pod{}
	for _, p := range s.guarded {
		i := indexOf(p)
		if !v.failed(p) || !fits(v.job, p) || tried[i] || s.done.has(i) || s.lost.has(i) {
			continue
		}
		if h := held[i]; h == nil || failuresOf(h) < failuresOf(p) || failuresOf(h) == failuresOf(p) && finishedAt(h).Before(finishedAt(p)) {
			held[i] = p
		}
	}
	return held
}

// failuresOf is how often a pod's index had failed before it, whether that counted or not.
func failuresOf(p *corev1.Pod) int {
	return annotated(p, failureCount, 0) + annotated(p, ignoredCount, 0)
}
