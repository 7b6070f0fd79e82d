package job

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Pauses before a failed pod is replaced: after the first failure of a row, and at most.
const (
	firstPause = 10 * time.Second
	worstPause = 6 * time.Minute
)

// pause is how much longer to wait after so many failures in a row, the last of them at that time.
func pause(failures int, last, now time.Time) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := worstPause
	if failures < 7 { // 10 s doubled six times is more than six minutes
		d = min(d, firstPause<<(failures-1))
	}
	return max(0, last.Add(d).Sub(now))
}

// row is the failures since the last success of a job's pods. It is not stored: a new term reads it from the pods that are
// still there.
type row struct {
	failures int
	last     time.Time          // of the failures
	seen     map[types.UID]bool // finished pods that have been taken into account, of those the cache still has
}

// look takes finished pods into account that it has not seen yet, in the order in which they finished. Pods that we gave up
// ourselves, which are going without the finalizer, are no failures.
func (r *row) look(pods []*corev1.Pod, failed func(*corev1.Pod) bool) {
	seen := make(map[types.UID]bool, len(r.seen))
	var fresh []*corev1.Pod
	for _, p := range pods {
		known := r.seen[p.UID]
		if !known && (p.Status.Phase != corev1.PodSucceeded && !failed(p) || p.DeletionTimestamp != nil && !guarded(p)) {
			continue
		}
		seen[p.UID] = true
		if !known {
			fresh = append(fresh, p)
		}
	}
	r.seen = seen
	slices.SortStableFunc(fresh, func(a, b *corev1.Pod) int {
		return cmp.Or(finishedAt(a).Compare(finishedAt(b)), -cmp.Compare(a.Status.Phase, b.Status.Phase)) // at one time, successes first
	})
	for _, p := range fresh {
		switch at := finishedAt(p); {
		case p.Status.Phase != corev1.PodSucceeded:
			r.failures++
			if at.After(r.last) {
				r.last = at
			}
		case !at.Before(r.last):
			r.failures = 0
		}
	}
}

// finishedAt is when a finished pod did: when its last container ended, or it ceased to be ready, or was asked to end, the
// first of these that it tells.
func finishedAt(p *corev1.Pod) time.Time {
	var last time.Time
	for i := range p.Status.ContainerStatuses {
		end := p.Status.ContainerStatuses[i].State.Terminated
		if end == nil || end.FinishedAt.IsZero() {
			last = time.Time{}
			break
		}
		if end.FinishedAt.After(last) {
			last = end.FinishedAt.Time
		}
	}
	if !last.IsZero() {
		return last
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Time
		}
	}
	if p.DeletionTimestamp != nil {
		var grace time.Duration
		if s := p.DeletionGracePeriodSeconds; s != nil {
			grace = time.Duration(*s) * time.Second
		}
		return p.DeletionTimestamp.Add(-grace)
	}
	return p.CreationTimestamp.Time
}
