package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/pod"
)

// leaves checks that a pod is known to have been counted, or given up, when its finalizer goes.
func (m *model) leaves(seen, is *corev1.Pod) {
	counted := m.entered[is.UID]
	if i := indexOf(is); indexed(m.job) && is.Status.Phase == corev1.PodSucceeded && !counted {
		if counted = parseIndexes(m.job.Status.CompletedIndexes, wanted(m.job)).has(i); counted {
			if _, there := m.done[i]; there {
				m.note("%s is a double", is.UID)
				m.doubles++
			}
			m.done[i] = is.UID
		}
	}
	lost := perIndex(m.job) && parseIndexes(ptr.Deref(m.job.Status.FailedIndexes, ""), wanted(m.job)).has(indexOf(is))
	if counted || lost || m.job.DeletionTimestamp != nil || m.rules.rivals && finished(m.job) {
		return
	}
	if pod.Terminal(seen) {
		m.wrong("%s ended %s and was not counted", is.UID, is.Status.Phase)
	}
	m.note("%s is dismissed", is.UID)
	m.dismissed++
}

// check compares two statuses that follow each other.
func (m *model) check(was, is *batchv1.JobStatus) {
	a, b := uncounted(was), uncounted(is)
	leftFailed, leftSucceeded := 0, 0
	if was.UncountedTerminatedPods != nil {
		for _, uid := range was.UncountedTerminatedPods.Failed {
			if !b[uid] {
				leftFailed++
			}
		}
		for _, uid := range was.UncountedTerminatedPods.Succeeded {
			if !b[uid] {
				leftSucceeded++
			}
		}
	}
	for uid := range a {
		if p := m.pods[uid]; !b[uid] && p != nil && guarded(p) {
			m.wrong("%s left the list with its finalizer", uid)
		}
	}
	for uid := range b {
		if a[uid] {
			continue
		}
		if m.entered[uid] {
			m.wrong("%s was entered twice", uid)
		}
		m.entered[uid] = true
		p := m.pods[uid]
		switch {
		case p == nil || !guarded(p):
			if m.rules.rivals {
				continue // one gave it up while the other saw it end; it is counted once
			}
			m.wrong("%s was entered without its finalizer", uid)
		case slices.Contains(is.UncountedTerminatedPods.Succeeded, uid) && p.Status.Phase != corev1.PodSucceeded:
			m.wrong("%s was entered as succeeded and is %s", uid, p.Status.Phase)
		case slices.Contains(is.UncountedTerminatedPods.Failed, uid) && p.Status.Phase != corev1.PodFailed && p.DeletionTimestamp == nil:
			m.wrong("%s was entered as failed and is %s", uid, p.Status.Phase)
		}
	}
	if int(is.Failed-was.Failed) != leftFailed || !indexed(m.job) && int(is.Succeeded-was.Succeeded) != leftSucceeded {
		m.wrong("counters moved by %d and %d, the list by %d and %d", is.Succeeded-was.Succeeded, is.Failed-was.Failed, leftSucceeded, leftFailed)
	}
	if m.over(is) && !m.over(was) && !m.rules.rivals {
		for _, p := range m.pods {
			if guarded(p) || !pod.Terminal(p) {
				m.wrong("the job has ended, and %s has not been let go: %s %v", p.UID, p.Status.Phase, p.Finalizers)
			}
		}
	}
}
