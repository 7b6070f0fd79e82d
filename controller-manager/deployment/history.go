package deployment

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Annotations that kubectl and people read.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"
)

// ours are annotations of the Deployment that its ReplicaSets do not take over.
func ours(annotation string) bool {
	switch annotation {
	case revisionAnnotation, historyAnnotation, desiredAnnotation, maxAnnotation,
		corev1.LastAppliedConfigAnnotation, appsv1.DeprecatedRollbackTo:
		return true
	}
	return false
}

// split finds the ReplicaSet of the present template (the oldest, should there be several) and the others, by age.
func split(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (fresh *appsv1.ReplicaSet, stale []*appsv1.ReplicaSet) {
	sorted := slices.SortedFunc(slices.Values(sets), func(a, b *appsv1.ReplicaSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, rs := range sorted {
		if fresh == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			fresh = rs
		} else {
			stale = append(stale, rs)
		}
	}
	return fresh, stale
}

// sameTemplate compares but for the hash that we ourselves put on.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	delete(a.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(a, b)
}

// templateHash names a template. It is taken from the JSON form, in which fields that later versions add are absent until
// used; what finds a ReplicaSet again is sameTemplate, not the hash.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	if err := json.NewEncoder(h).Encode(t); err != nil {
		panic(fmt.Sprintf("a pod template has no JSON form: %v", err)) // it came as one
	}
	if collisions != nil {
		fmt.Fprintf(h, "%d", *collisions)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

func revisionOf(o metav1.Object) int64 {
	n, err := strconv.ParseInt(o.GetAnnotations()[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// nextRevision is one more than that of any stale ReplicaSet: what the present template's must at least be.
func (r *rollout) nextRevision() string {
	var last int64
	for _, rs := range r.stale {
		last = max(last, revisionOf(rs))
	}
	return strconv.FormatInt(last+1, 10)
}

// stamp gives the present template's ReplicaSet its revision, the Deployment's annotations and minReadySeconds. One that was
// rolled back to gets a new revision; the former one goes to its history.
func (r *rollout) stamp(rs *appsv1.ReplicaSet, revision string) {
	for k, v := range r.d.Annotations {
		if !ours(k) {
			setAnnotation(rs, k, v)
		}
	}
	rs.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	next, err := strconv.ParseInt(revision, 10, 64)
	old := revisionOf(rs)
	if err != nil || old >= next {
		return
	}
	if old > 0 {
		setAnnotation(rs, historyAnnotation, remembered(rs.Annotations[historyAnnotation], strconv.FormatInt(old, 10)))
	}
	setAnnotation(rs, revisionAnnotation, revision)
}

// longest is how many bytes of former revisions a ReplicaSet remembers: one that is rolled back to forever must not grow forever.
const longest = 2000

// remembered is the list of former revisions with one more. The oldest make room for it.
func remembered(history, former string) string {
	if history == "" {
		return former
	}
	all := strings.Split(history, ",")
	if slices.Contains(all, former) {
		return history
	}
	size := len(history) + 1 + len(former)
	for len(all) > 0 && size > longest {
		size -= len(all[0]) + 1
		all = all[1:]
	}
	return strings.Join(append(all, former), ",")
}

// beyondHistory are the stale ReplicaSets, by revision, that are empty and more than the limit keeps.
func (r *rollout) beyondHistory() (gone []*appsv1.ReplicaSet) {
	if r.d.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	var there []*appsv1.ReplicaSet
	for _, rs := range r.stale {
		if rs.DeletionTimestamp == nil {
			there = append(there, rs)
		}
	}
	slices.SortStableFunc(there, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revisionOf(a), revisionOf(b)) })
	extra := len(there) - int(*r.d.Spec.RevisionHistoryLimit)
	for _, rs := range there[:max(extra, 0)] {
		if rs.Status.Replicas == 0 && *rs.Spec.Replicas == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			gone = append(gone, rs)
		}
	}
	return gone
}

// setAnnotation copies the map before it writes: objects share theirs. One of ours that is empty says nothing, and is left out.
func setAnnotation(o metav1.Object, k, v string) {
	have := o.GetAnnotations()
	if old, there := have[k]; there && old == v || v == "" && ours(k) {
		return
	}
	m := maps.Clone(have)
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	o.SetAnnotations(m)
}
