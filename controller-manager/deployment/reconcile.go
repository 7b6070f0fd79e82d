package deployment

import (
	"math"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// plan is what one look at a Deployment decides.
type plan struct {
	create   *appsv1.ReplicaSet
	changes  []change
	remove   []*appsv1.ReplicaSet
	revision string // of the Deployment
	status   appsv1.DeploymentStatus
	again    time.Duration
}

// change is an existing ReplicaSet as it is and as it should be.
type change struct{ have, want *appsv1.ReplicaSet }

// rollout is the state decide works on: copies that it changes. Fresh is the ReplicaSet of the present template, nil when
// there is none yet; stale ones are in order of creation.
type rollout struct {
	d        *appsv1.Deployment
	want     int32 // replicas
	surge    int32
	lack     int32 // maxUnavailable
	fresh    *appsv1.ReplicaSet
	stale    []*appsv1.ReplicaSet
	original map[*appsv1.ReplicaSet]*appsv1.ReplicaSet
}

// decide looks at a Deployment and the ReplicaSets it owns. It changes neither.
func decide(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, now time.Time) plan {
	r := newRollout(d, sets)
	p := plan{revision: d.Annotations[revisionAnnotation]}
	if d.DeletionTimestamp != nil {
		p.status = count(r)
		return p
	}
	revision := r.nextRevision()
	if r.fresh != nil {
		r.stamp(r.fresh, revision)
		p.revision = r.fresh.Annotations[revisionAnnotation]
	}
	created := false
	switch {
	case d.Spec.Paused:
		r.scale()
	case d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		created = r.recreate(revision) // the wish is that of the fresh ReplicaSet alone, whatever its number
	case r.resized():
		r.scale()
	default:
		created = r.roll(revision)
	}
	if created {
		p.create, p.revision = r.fresh, revision
	}
	// the history is cut by what the caches say, before the numbers just decided; so is the status
	seen := newRollout(d, sets)
	p.status, p.again = nextStatus(seen, created, r.fresh, now)
	if complete(d, &p.status) || d.Spec.Paused {
		p.remove = seen.beyondHistory()
	}
	p.changes = r.changes()
	return p
}

func newRollout(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *rollout {
	r := &rollout{d: d, want: *d.Spec.Replicas, original: map[*appsv1.ReplicaSet]*appsv1.ReplicaSet{}}
	r.surge, r.lack = limits(d)
	fresh, stale := split(d, sets)
	if fresh != nil {
		r.fresh = r.copy(fresh)
	}
	for _, rs := range stale {
		r.stale = append(r.stale, r.copy(rs))
	}
	return r
}

func (r *rollout) copy(rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	c := rs.DeepCopy()
	r.original[c] = rs
	return c
}

func (r *rollout) changes() (all []change) {
	for _, rs := range r.all() {
		if o := r.original[rs]; o != nil {
			all = append(all, change{o, rs})
		}
	}
	return all
}

// all are the ReplicaSets, the present template's first.
func (r *rollout) all() []*appsv1.ReplicaSet {
	if r.fresh == nil {
		return r.stale
	}
	return append([]*appsv1.ReplicaSet{r.fresh}, r.stale...)
}

// limits are maxSurge and maxUnavailable in pods: percents of the wish, surge rounded up and unavailable down. Both zero would
// stand still, so one may be missing then.
func limits(d *appsv1.Deployment) (surge, lack int32) {
	ru := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || ru == nil {
		return 0, 0
	}
	resolve := func(v *intstr.IntOrString, up bool) int32 {
		if v == nil {
			return 0
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(v, int(*d.Spec.Replicas), up)
		if err != nil {
			return 0 // the API server refuses what is no number
		}
		return int32(min(n, math.MaxInt32))
	}
	// with the wish, surge makes no more than a number holds
	surge, lack = min(resolve(ru.MaxSurge, true), math.MaxInt32-*d.Spec.Replicas), resolve(ru.MaxUnavailable, false)
	if surge == 0 && lack == 0 {
		lack = 1
	}
	return surge, min(lack, *d.Spec.Replicas)
}

// roll is one step of a rolling update: the fresh ReplicaSet up as far as surge allows, the stale ones down as far as
// availability allows. Both in one step is safe: what the fresh one gains in replicas it gains in missing ones too, so the
// budget of the stale ones does not change by it.
func (r *rollout) roll(revision string) (created bool) {
	if r.fresh == nil {
		r.fresh = r.makeSet(revision)
		created = true
	}
	switch n := *r.fresh.Spec.Replicas; {
	case n > r.want:
		r.setReplicas(r.fresh, r.want)
	case n < r.want:
		room := r.want + r.surge - sum(r.all())
		r.setReplicas(r.fresh, n+min(max(room, 0), r.want-n))
	}
	r.lower()
	return created
}

// lower takes replicas from the stale ReplicaSets: first those that serve nobody, then as many others as are available beyond
// the least that must be.
func (r *rollout) lower() {
	least := r.want - r.lack
	missing := max(*r.fresh.Spec.Replicas-available(r.fresh), 0)
	budget := sum(r.all()) - least - missing
	for _, rs := range r.stale {
		if budget <= 0 {
			return
		}
		if dead := *rs.Spec.Replicas - available(rs); dead > 0 {
			n := min(dead, budget)
			r.setReplicas(rs, *rs.Spec.Replicas-n)
			budget -= n
		}
	}
	spare := -least
	for _, rs := range r.all() {
		spare += available(rs)
	}
	for _, rs := range r.stale {
		n := min(*rs.Spec.Replicas, max(min(spare, budget), 0))
		r.setReplicas(rs, *rs.Spec.Replicas-n)
		spare, budget = spare-n, budget-n
	}
}

// recreate ends all stale pods, waits until the last is gone, and only then starts the fresh ones.
func (r *rollout) recreate(revision string) (created bool) {
	quiet := true
	for _, rs := range r.stale {
		s := rs.Status
		if *rs.Spec.Replicas != 0 || s.ObservedGeneration < rs.Generation || s.Replicas != 0 || s.TerminatingReplicas != nil && *s.TerminatingReplicas != 0 {
			quiet = false
		}
		r.setReplicas(rs, 0)
	}
	if !quiet {
		return false
	}
	if r.fresh == nil {
		r.fresh = r.makeSet(revision)
		created = true
	}
	r.setReplicas(r.fresh, r.want)
	return created
}

// makeSet is the ReplicaSet of the present template, with no replicas yet.
func (r *rollout) makeSet(revision string) *appsv1.ReplicaSet {
	hash := templateHash(&r.d.Spec.Template, r.d.Status.CollisionCount)
	t := *r.d.Spec.Template.DeepCopy()
	t.Labels = with(t.Labels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	selector := r.d.Spec.Selector.DeepCopy()
	selector.MatchLabels = with(selector.MatchLabels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	none := int32(0)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.d.Namespace, Name: setName(r.d.Name, hash), Labels: t.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.d, kind)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &none, MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: t},
	}
	r.stamp(rs, revision)
	r.annotateSize(rs)
	return rs
}

// setName is that of a Deployment, as far as there is room for it, and the hash.
func setName(deployment, hash string) string {
	room := min(len(deployment), validation.DNS1123SubdomainMaxLength-1-len(hash))
	return strings.TrimRight(deployment[:room], "-.") + "-" + hash
}

// setReplicas changes a number and notes for what wish it was made.
func (r *rollout) setReplicas(rs *appsv1.ReplicaSet, n int32) {
	if *rs.Spec.Replicas == n {
		return
	}
	rs.Spec.Replicas = &n
	r.annotateSize(rs)
}

// sum is the replicas of all, or the largest number there is.
func sum(sets []*appsv1.ReplicaSet) int32 {
	n := int64(0)
	for _, rs := range sets {
		n += int64(*rs.Spec.Replicas)
	}
	return int32(min(n, math.MaxInt32))
}

// available never counts pods that are about to be given up.
func available(rs *appsv1.ReplicaSet) int32 {
	return min(rs.Status.AvailableReplicas, *rs.Spec.Replicas)
}

func with(m map[string]string, k, v string) map[string]string {
	out := make(map[string]string, len(m)+1)
	for a, b := range m {
		out[a] = b
	}
	out[k] = v
	return out
}
