package statefulset

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func rolling(set *appsv1.StatefulSet) bool {
	return set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType
}

// partition is the index from which on pods are updated; those below keep the current revision, also when they are made anew.
func partition(set *appsv1.StatefulSet) int {
	if u := set.Spec.UpdateStrategy.RollingUpdate; rolling(set) && u != nil && u.Partition != nil {
		return int(*u.Partition)
	}
	return 0
}

// maxUnavailable is how many of the wished pods an update may leave without: a part of them is rounded up, and one is the least.
// It is 0 for a strategy that ends no pods.
func maxUnavailable(set *appsv1.StatefulSet) int {
	if !rolling(set) {
		return 0
	}
	u := set.Spec.UpdateStrategy.RollingUpdate
	if u == nil || u.MaxUnavailable == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(u.MaxUnavailable, replicas(set), true)
	if err != nil {
		return 1 // the API server refuses these
	}
	return max(n, 1)
}

// wanted is the revision of which the pod with that index is to be made.
func (r *round) wanted(i int) revision {
	if i < partition(r.set) {
		return r.current
	}
	return r.update
}

// superseded says whether the revision of a pod is neither the one that belongs there nor the newest: then nobody wants the pod to
// become ready.
func (r *round) superseded(i int, p *corev1.Pod) bool {
	rev := revisionOf(p)
	return rolling(r.set) && rev != r.wanted(i).name && rev != r.update.name
}

// outdated says whether an update ends the pod with that index.
func (r *round) outdated(i int, p *corev1.Pod) bool {
	return i >= partition(r.set) && (revisionOf(p) != r.update.name || !stored(r.set, p, r.ordinal(p)))
}

// unwanted says whether a pod that is not ready need not be waited for, since it is to go anyway.
func (r *round) unwanted(i int, p *corev1.Pod) bool {
	return r.superseded(i, p) || rolling(r.set) && r.outdated(i, p)
}

// rollOut ends pods for an update, from the highest on, so that no more than allowed are unavailable. One that is not ready anyway and
// that nobody wants any more costs nothing and is not waited for, wherever it stands. A healthy one goes only after all healthy ones above it.
func (r *round) rollOut() {
	if !rolling(r.set) {
		return
	}
	budget := r.plan.maxUnavailable - r.plan.unavailable
	passed := false // a healthy pod that is outdated stays for now
	for _, s := range slices.Backward(r.slots) {
		i, p := s.index, s.pod
		h := r.health(p)
		switch {
		case h == unready && r.unwanted(i, p):
			r.remove(p)
		case h == young && r.outdated(i, p) && !passed:
			r.remove(p)
		case h == available && r.outdated(i, p):
			if passed = passed || budget <= 0; !passed {
				budget--
				r.remove(p)
			}
		}
	}
}
