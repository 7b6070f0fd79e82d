package job

import (
	"cmp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
)

// Counting a pod takes three steps, each of which may be done again, by us or by who comes after us:
//
//	enter    its UID is written into status.uncountedTerminatedPods (the index of a success into status.completedIndexes)
//	strip    its finalizer is taken away
//	settle   its UID leaves the list and its number is added to the counter, in one write
//
// While a pod has the finalizer it cannot vanish, and while its UID is in the list it is not entered again. A success of an
// indexed job needs no third step: an index is counted once, whatever ends for it.

// enter puts pods that have ended into the status and returns those whose finalizer may go once it is written, burst at most:
// those of earlier passes first.
func enter(v *view, s *survey, ending *verdict, status *batchv1.JobStatus) (strip []*corev1.Pod, rulings map[batchv1.PodFailurePolicyAction]int) {
	u := status.UncountedTerminatedPods
	entered := uncounted(status)
	list := slices.Clone(s.guarded)
	slices.SortFunc(list, func(a, b *corev1.Pod) int {
		return cmp.Or(boolean(entered[b.UID])-boolean(entered[a.UID]), cmp.Compare(indexOf(a), indexOf(b)), cmp.Compare(a.Name, b.Name))
	})
	var done []int
	rulings = map[batchv1.PodFailurePolicyAction]int{}
	for _, p := range list {
		if !v.guarded(p) || !leaves(v, s, ending, p) { // this very pass may have dismissed it
			continue
		}
		if len(strip) == burst {
			break
		}
		strip = append(strip, p)
		switch {
		case entered[p.UID] || !fits(v.job, p):
		case p.Status.Phase == corev1.PodSucceeded && indexed(v.job):
			if s.done.has(indexOf(p)) {
				done = append(done, indexOf(p))
			}
		case p.Status.Phase == corev1.PodSucceeded:
			u.Succeeded = append(u.Succeeded, p.UID)
		case v.job.DeletionTimestamp == nil || v.failed(p): // of a job that fails, every pod that does not succeed
			r := judge(v.job.Spec.PodFailurePolicy, p)
			if r.action != "" {
				rulings[r.action]++
			}
			if r.counts {
				u.Failed = append(u.Failed, p.UID)
			}
		}
	}
	if indexed(v.job) {
		done := s.before.union(indexesOf(done))
		status.CompletedIndexes, status.Succeeded = done.String(), int32(done.count())
	}
	if perIndex(v.job) {
		text := s.lost.String()
		status.FailedIndexes = &text
	}
	return strip, rulings
}

// leaves says whether a pod's finalizer has done its work.
func leaves(v *view, s *survey, ending *verdict, p *corev1.Pod) bool {
	switch {
	case v.job.DeletionTimestamp != nil:
		return true
	case p.Status.Phase == corev1.PodSucceeded:
		return true
	case ending == nil:
		return v.failed(p) && s.held[indexOf(p)] != p
	case ending.success:
		return v.failed(p)
	}
	return !v.active(p)
}

// uncounted are the UIDs in the list.
func uncounted(s *batchv1.JobStatus) map[types.UID]bool {
	all := map[types.UID]bool{}
	if u := s.UncountedTerminatedPods; u != nil {
		for _, uid := range slices.Concat(u.Succeeded, u.Failed) {
			all[uid] = true
		}
	}
	return all
}

// settle moves from the list to the counters the pods that have no finalizer any more.
func settle(j *batchv1.Job, status *batchv1.JobStatus, guarded map[types.UID]bool) {
	u := status.UncountedTerminatedPods
	free := func(uid types.UID) bool { return !guarded[uid] }
	n := len(u.Succeeded)
	u.Succeeded = slices.DeleteFunc(u.Succeeded, free)
	if !indexed(j) {
		status.Succeeded += int32(n - len(u.Succeeded))
	}
	n = len(u.Failed)
	u.Failed = slices.DeleteFunc(u.Failed, free)
	status.Failed += int32(n - len(u.Failed))
}

// ended says whether nothing is left of a job that ends: no pod, and none to be counted.
func ended(v *view, s *survey, p plan, status *batchv1.JobStatus) bool {
	if p.ending == nil || !p.settled || len(uncounted(status)) > 0 {
		return false
	}
	return !slices.ContainsFunc(v.pods, func(o *corev1.Pod) bool { return !pod.Terminal(o) || v.guarded(o) })
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}
