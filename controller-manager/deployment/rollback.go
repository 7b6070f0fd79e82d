package deployment

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// rollback is what came of a wish to go back, made by an annotation that stands for a field of API versions that are gone. kubectl
// and others send the old template themselves.
type rollback struct {
	want           *appsv1.Deployment // without the annotation; with the old template, if there is one to go back to
	kind           string             // of the event
	reason, detail string
}

// rollBack looks whether the Deployment is to go back to a revision (0: the last before the present), nil when not. A paused one
// waits; what is no number says nothing.
func rollBack(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *rollback {
	revision, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedRollbackTo], 10, 64)
	if err != nil || d.Spec.Paused || d.DeletionTimestamp != nil {
		return nil
	}
	r := &rollback{want: d.DeepCopy(), kind: corev1.EventTypeWarning}
	delete(r.want.Annotations, appsv1.DeprecatedRollbackTo)
	to := former(sets, revision)
	switch {
	case to == nil && revision == 0:
		r.reason, r.detail = "DeploymentRollbackRevisionNotFound", "Unable to find last revision."
	case to == nil:
		r.reason, r.detail = "DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to."
	case sameTemplate(&to.Spec.Template, &d.Spec.Template):
		r.reason, r.detail = "DeploymentRollbackTemplateUnchanged", fmt.Sprintf("The rollback revision contains the same template as current deployment %q", d.Name)
	default:
		r.kind, r.reason = corev1.EventTypeNormal, "DeploymentRollback"
		r.detail = fmt.Sprintf("Rolled back deployment %q to revision %d", d.Name, revisionOf(to))
		r.want.Spec.Template = *to.Spec.Template.DeepCopy()
		delete(r.want.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		r.want.Annotations = annotationsOf(r.want, to)
	}
	return r
}

// former is the ReplicaSet of a revision, or of the last but one; nil when there is none.
func former(sets []*appsv1.ReplicaSet, revision int64) *appsv1.ReplicaSet {
	if revision != 0 {
		if i := slices.IndexFunc(sets, func(rs *appsv1.ReplicaSet) bool { return revisionOf(rs) == revision }); i >= 0 {
			return sets[i]
		}
		return nil
	}
	sorted := slices.SortedFunc(slices.Values(sets), func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revisionOf(b), revisionOf(a)) })
	if len(sorted) < 2 || revisionOf(sorted[1]) == 0 {
		return nil
	}
	return sorted[1]
}

// annotationsOf are ours of the Deployment, and all others as the ReplicaSet took them over in its time: else what was the cause of
// the later revision would be said to be that of the earlier.
func annotationsOf(d *appsv1.Deployment, rs *appsv1.ReplicaSet) map[string]string {
	kept := maps.Clone(d.Annotations)
	maps.DeleteFunc(kept, func(k, _ string) bool { return !ours(k) })
	if kept == nil {
		kept = map[string]string{}
	}
	for k, v := range rs.Annotations {
		if !ours(k) {
			kept[k] = v
		}
	}
	return kept
}
