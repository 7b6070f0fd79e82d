package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// roll is one step of a rolling update. What tidy decided stands; both together never take more from the nodes than the strategy
// allows, since a node on which tidy acts counts as unavailable here.
func (s scene) roll(p *plan, spots []spot) {
	desired := 0
	for _, t := range spots {
		if t.run {
			desired++
		}
	}
	if more := surge(s.ds, desired); more > 0 {
		s.rollUp(p, spots, more, desired)
	} else {
		s.rollDown(p, spots, lack(s.ds, desired))
	}
}

// rollDown ends old pods, as many as may be missing; new ones are made when they are gone. An old one that is not available serves
// nobody and is always replaced, so a broken template never stands in the way of the one that mends it.
func (s scene) rollDown(p *plan, spots []spot, lack int) {
	var candidates []*corev1.Pod
	missing := 0
	for _, t := range spots {
		switch {
		case !t.stay: // tidied
		case t.fresh != nil:
			if !s.available(t.fresh) {
				missing++
			}
		case t.stale == nil:
			if t.run || len(t.pods) > 0 {
				missing++
			}
		case !s.available(t.stale):
			p.remove = append(p.remove, t.stale)
			missing++
		default:
			candidates = append(candidates, t.stale)
		}
	}
	p.remove = append(p.remove, candidates[:min(max(lack-missing, 0), len(candidates))]...)
}

// rollUp makes new pods beside old ones that are available, as many as may be too many, and beside all that are not; tidy ends the
// old ones when the new are available. A new one that ended counts until it is gone: where they fail at once, the next one waits for
// its node's pause. Where a pod only stays because it is there, it stays until enough others are available.
func (s scene) rollUp(p *plan, spots []spot, more, desired int) {
	var candidates []string
	var leaving []*corev1.Pod
	surging, available := 0, 0
	for _, t := range spots {
		if o := t.stale; o != nil && s.available(o) || o == nil && t.fresh != nil && s.available(t.fresh) {
			available++
		}
		switch {
		case t.stale == nil:
		case t.fresh != nil, t.ended:
			surging++
		case s.available(t.stale) && t.run:
			candidates = append(candidates, t.node)
		case s.available(t.stale):
			leaving = append(leaving, t.stale)
		case t.run:
			p.create = append(p.create, t.node)
		default:
			p.remove = append(p.remove, t.stale)
		}
	}
	p.create = append(p.create, candidates[:min(max(more-surging, 0), len(candidates))]...)
	p.remove = append(p.remove, leaving[:min(max(available-desired, 0), len(leaving))]...)
}

// surge is how many nodes may have a second pod, of so many that should have one.
func surge(ds *appsv1.DaemonSet, desired int) int {
	r := ds.Spec.UpdateStrategy.RollingUpdate
	if ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || r == nil {
		return 0
	}
	return count(r.MaxSurge, desired)
}

// lack is how many nodes may be without an available pod, of so many that should have one. None would stand still, so it is one
// then.
func lack(ds *appsv1.DaemonSet, desired int) int {
	n := 0
	if r := ds.Spec.UpdateStrategy.RollingUpdate; r != nil {
		n = count(r.MaxUnavailable, desired)
	}
	return max(n, 1)
}

// count resolves a number or percentage of desired, rounded up.
func count(v *intstr.IntOrString, desired int) int {
	if v == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, desired, true)
	if err != nil {
		return 0 // the API server refuses what is no number
	}
	return n
}
