package deployment

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
)

// resized says whether the wish changed since the ReplicaSets that have replicas were given theirs.
func (r *rollout) resized() bool {
	for _, rs := range r.all() {
		if *rs.Spec.Replicas == 0 {
			continue
		}
		if n, ok := number(rs, desiredAnnotation); ok && n != r.want {
			return true
		}
	}
	return false
}

// scale follows a change of the wish without going on with the rollout: with one ReplicaSet alive it takes all; when the fresh
// one is complete the stale ones go to nothing; amid a rolling update each takes part of the difference by its size, so that
// a bad template does not gain by scaling.
func (r *rollout) scale() {
	if one := r.activeOrLatest(); one != nil {
		r.setReplicas(one, r.want)
		r.annotateSize(one)
		return
	}
	if f := r.fresh; f != nil && *f.Spec.Replicas == r.want && available(f) == r.want {
		if n, ok := number(f, desiredAnnotation); ok && n == r.want {
			for _, rs := range r.stale {
				r.setReplicas(rs, 0)
			}
			return
		}
	}
	if r.d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		r.share()
	}
}

// activeOrLatest is the only ReplicaSet with replicas, or the newest when none has any; nil when several have.
func (r *rollout) activeOrLatest() *appsv1.ReplicaSet {
	var active []*appsv1.ReplicaSet
	for _, rs := range r.all() {
		if *rs.Spec.Replicas > 0 {
			active = append(active, rs)
		}
	}
	switch {
	case len(active) == 1:
		return active[0]
	case len(active) > 1:
		return nil
	case r.fresh != nil:
		return r.fresh
	case len(r.stale) > 0:
		return r.stale[len(r.stale)-1]
	}
	return nil
}

// share spreads the difference between what there may be and what there is over the ReplicaSets with replicas, in proportion
// to their sizes; what rounding leaves goes to the largest.
func (r *rollout) share() {
	var active []*appsv1.ReplicaSet
	for _, rs := range r.all() {
		if *rs.Spec.Replicas > 0 {
			active = append(active, rs)
		}
	}
	allowed := int32(0)
	if r.want > 0 {
		allowed = r.want + r.surge
	}
	left := allowed - sum(active)
	up := left > 0
	// the largest first; among equals the newer one gains first and the older one loses first
	slices.SortStableFunc(active, func(a, b *appsv1.ReplicaSet) int {
		age := a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
		if up {
			age = -age
		}
		return cmp.Or(cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas), age)
	})
	sizes := make([]int32, len(active))
	for i, rs := range active {
		part := r.part(rs)
		if up {
			part = min(max(part, 0), left)
		} else {
			part = max(min(part, 0), left)
		}
		sizes[i] = *rs.Spec.Replicas + part
		left -= part
	}
	for i, rs := range active {
		if i == 0 {
			sizes[i] += left
		}
		r.setReplicas(rs, max(sizes[i], 0))
		r.annotateSize(rs)
	}
}

// part is what a ReplicaSet gains when it keeps its proportion of the whole.
func (r *rollout) part(rs *appsv1.ReplicaSet) int32 {
	now := *rs.Spec.Replicas
	if r.want == 0 {
		return -now // whatever surge says
	}
	whole, ok := number(rs, maxAnnotation)
	if !ok || whole <= 0 {
		whole = r.d.Status.Replicas
	}
	if whole <= 0 {
		return 0
	}
	return int32(min(math.Round(float64(now)*float64(r.want+r.surge)/float64(whole)), math.MaxInt32)) - now
}

func (r *rollout) annotateSize(rs *appsv1.ReplicaSet) {
	setAnnotation(rs, desiredAnnotation, strconv.Itoa(int(r.want)))
	setAnnotation(rs, maxAnnotation, strconv.Itoa(int(r.want+r.surge)))
}

func number(rs *appsv1.ReplicaSet, annotation string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[annotation], 10, 32)
	return int32(n), err == nil
}
