package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/podset"
)

// burst bounds what one pass creates, deletes or counts; the rest follows when its changes are seen.
const burst = 500

// What a pass did about pods, as the metrics say it.
const (
	reconciling = "reconciling" // waited for its own writes to be seen
	tracking    = "tracking"
	created     = "pods_created"
	deleted     = "pods_deleted"
)

// plan is what to do about a job's pods: it deletes or creates, never both, so that no pod too many runs.
type plan struct {
	ending  *verdict      // the job ends, or has been going to
	remove  []*corev1.Pod // to be deleted
	dismiss bool          // and not to be counted as failed
	create  []slot
	settled bool          // the caches show all pods we made, so that what is said of the job's rest is true
	again   time.Duration // when to look again, 0: when woken
	action  string
}

// slot is a pod to be made.
type slot struct {
	index    int // noIndex for jobs without
	failures int // of the index so far, that counted
	ignored  int // and that did not
}

// decide is pure. A job that is being deleted is left alone, but for the counting.
func decide(v *view, s *survey) plan {
	p := plan{settled: v.unseen.Creating == 0, action: reconciling}
	if v.job.DeletionTimestamp != nil {
		return p
	}
	if p.ending = judgeJob(v, s, p.settled); p.ending != nil {
		p.remove, p.dismiss = first(s.active, burst), p.ending.success
		if len(p.remove) > 0 {
			p.action = deleted
		}
		return p
	}
	p.again = deadline(v.job, v.now)
	switch {
	case !p.settled:
		return p
	case suspended(v.job):
		p.again = 0
		p.remove, p.dismiss, p.action = first(s.active, burst), true, deleted
		return p
	}
	want := len(s.active) // a work queue that has had a success is left to run out
	if v.job.Spec.Completions != nil {
		want = max(0, min(wanted(v.job)-s.succeeded, int(*v.job.Spec.Parallelism)))
	} else if s.succeeded == 0 {
		want = int(*v.job.Spec.Parallelism)
	}
	p.action = tracking
	if p.remove = first(surplus(v, s, want), burst); len(p.remove) > 0 {
		p.dismiss, p.action = true, deleted
		return p
	}
	missing := want - len(s.active)
	if waits(v.job) {
		missing -= s.terminating
	}
	if missing <= 0 {
		return p
	}
	var wait time.Duration
	p.create, wait = slots(v, s, min(missing, burst))
	p.again = sooner(p.again, wait)
	if len(p.create) > 0 {
		p.action = created
	}
	return p
}

// deadline is how much longer the job may be active, 0 when it may for ever.
func deadline(j *batchv1.Job, now time.Time) time.Duration {
	if j.Spec.ActiveDeadlineSeconds == nil || suspended(j) {
		return 0
	}
	start := now
	if j.Status.StartTime != nil {
		start = j.Status.StartTime.Time
	}
	left := start.Add(time.Duration(*j.Spec.ActiveDeadlineSeconds) * time.Second).Sub(now)
	return max(left, time.Nanosecond) // 0 would mean never
}

// surplus are the active pods that the job does not want, when it wants so many: those that have no index of the job, or one
// that another has or that needs none any more, and as many more as it takes.
func surplus(v *view, s *survey, want int) []*corev1.Pod {
	if len(s.active) <= want && !superfluous(v, s) {
		return nil
	}
	ranked := slices.Clone(s.active)
	podset.Rank(ranked, nil, v.now)
	if !indexed(v.job) {
		return ranked[:max(0, len(ranked)-want)]
	}
	kept := map[int]bool{}
	var remove, left []*corev1.Pod
	for _, p := range slices.Backward(ranked) { // the best of an index stays
		if i := indexOf(p); !fits(v.job, p) || kept[i] || s.done.has(i) || s.lost.has(i) {
			remove = append(remove, p)
		} else {
			kept[i] = true
			left = append(left, p)
		}
	}
	slices.Reverse(left)
	if more := len(s.active) - want - len(remove); more > 0 {
		remove = append(remove, left[:more]...)
	}
	return remove
}

// superfluous says whether an active pod is for no index, or for one that another is for or that needs none any more.
func superfluous(v *view, s *survey) bool {
	seen := map[int]bool{}
	return indexed(v.job) && slices.ContainsFunc(s.active, func(p *corev1.Pod) bool {
		i := indexOf(p)
		again := seen[i]
		seen[i] = true
		return again || !fits(v.job, p) || s.done.has(i) || s.lost.has(i)
	})
}

// slots chooses what at most n new pods are for, and says how long to wait for those that failed too shortly ago.
func slots(v *view, s *survey, n int) ([]slot, time.Duration) {
	if !perIndex(v.job) {
		if wait := pause(v.row.failures, v.row.last, v.now); wait > 0 {
			return nil, wait
		}
	}
	if !indexed(v.job) {
		return slices.Repeat([]slot{{index: noIndex}}, n), 0
	}
	var busy []int
	for _, p := range v.pods {
		if v.active(p) || waits(v.job) && v.going(p) && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			busy = append(busy, indexOf(p))
		}
	}
	var all []slot
	var wait time.Duration
	for i := range s.done.union(s.lost).union(indexesOf(busy)).missing(wanted(v.job)) {
		if len(all) == n {
			break
		}
		next := slot{index: i}
		if h := s.held[i]; h != nil {
			if left := pause(failuresOf(h)+1, finishedAt(h), v.now); left > 0 {
				wait = sooner(wait, left)
				continue
			}
			next.failures, next.ignored = annotated(h, failureCount, 0), annotated(h, ignoredCount, 0)
			if judge(v.job.Spec.PodFailurePolicy, h).counts {
				next.failures++
			} else {
				next.ignored++
			}
		}
		all = append(all, next)
	}
	if len(all) == n {
		wait = 0 // the others' turn comes when one of these ends
	}
	return all, wait
}

// startTime is when the job's time began to run, as the status is to say; suspending stops it.
func startTime(j *batchv1.Job, p plan, now time.Time) time.Time {
	if t := j.Status.StartTime; t != nil && (!suspended(j) || p.ending != nil || !p.settled) {
		return t.Time
	}
	if suspended(j) && p.ending == nil {
		return time.Time{}
	}
	return now
}

func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// noMore says whether a job has all the successes it asks for, or can get.
func noMore(v *view, s *survey, settled bool) bool {
	if v.job.Spec.Completions == nil {
		return s.succeeded > 0 && len(s.active) == 0 && settled
	}
	return s.succeeded >= int(ptr.Deref(v.job.Spec.Completions, 0))
}
