package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// mutable is what a pod's spec lets change, in the words of the refusal.
var mutable = []string{
	"`spec.containers[*].image`",
	"`spec.initContainers[*].image`",
	"`spec.activeDeadlineSeconds`",
	"`spec.tolerations` (only additions to existing tolerations)",
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
}

// ValidatePodUpdate says what may change in a pod: images, a deadline that comes nearer, more tolerations; and where no node
// is chosen yet because gates hold the pod, gates may go and the choice of nodes may be narrowed.
func ValidatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	errs = append(errs, validateFixedAnnotations(p.Annotations, old.Annotations, field.NewPath("metadata", "annotations"))...)
	if len(p.Spec.Containers) != len(old.Spec.Containers) {
		return append(errs, field.Forbidden(path.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(path.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	errs = append(errs, validateDeadline(&p.Spec, &old.Spec, path.Child("activeDeadlineSeconds"))...)
	errs = append(errs, validateAddedTolerations(p.Spec.Tolerations, old.Spec.Tolerations, path.Child("tolerations"))...)
	errs = append(errs, validateGates(p.Spec.SchedulingGates, old.Spec.SchedulingGates, path.Child("schedulingGates"))...)

	// With everything set back that may change, nothing may be left that has changed.
	rest, was := p.Spec.DeepCopy(), old.Spec
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.Tolerations = old.Spec.Tolerations
	rest.SchedulingGates = old.Spec.SchedulingGates
	if grace := was.TerminationGracePeriodSeconds; grace != nil && *grace < 0 && ptr.Deref(rest.TerminationGracePeriodSeconds, 0) == 1 {
		rest.TerminationGracePeriodSeconds = grace
	}
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, validateNarrowed(&p.Spec, &old.Spec, path)...)
		rest.NodeSelector = was.NodeSelector
		rest.Affinity, was.Affinity = withoutNodes(rest.Affinity), withoutNodes(was.Affinity)
	}
	if !apiequality.Semantic.DeepEqual(*rest, was) {
		errs = append(errs, field.Forbidden(path, "pod updates may not change fields other than "+strings.Join(mutable, ",")+"\n"+diff.Diff(*rest, was)))
	}
	return errs
}

func validateDeadline(s, old *corev1.PodSpec, path *field.Path) field.ErrorList {
	was, is := old.ActiveDeadlineSeconds, s.ActiveDeadlineSeconds
	switch {
	case was == nil:
		return nil
	case is == nil:
		return field.ErrorList{field.Invalid(path, is, "must not update from a positive integer to nil value")}
	case *is > *was:
		return field.ErrorList{field.Invalid(path, *is, "must be less than or equal to previous value")}
	}
	return nil
}

// validateAddedTolerations lets tolerations be added, and the seconds of an existing one change.
func validateAddedTolerations(all, old []corev1.Toleration, path *field.Path) field.ErrorList {
	same := func(a, b corev1.Toleration) bool {
		a.TolerationSeconds = b.TolerationSeconds
		return apiequality.Semantic.DeepEqual(a, b)
	}
	for _, was := range old {
		found := false
		for _, is := range all {
			found = found || same(is, was)
		}
		if !found {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

func validateGates(gates, old []corev1.PodSchedulingGate, path *field.Path) field.ErrorList {
	known := sets.New[string]()
	for _, g := range old {
		known.Insert(g.Name)
	}
	var errs field.ErrorList
	for i, g := range gates {
		if !known.Has(g.Name) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("name"), "only deletion is allowed, but found new scheduling gate '"+g.Name+"'"))
		}
	}
	return errs
}

// validateNarrowed lets a gated pod choose fewer nodes, never others.
func validateNarrowed(s, old *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for k, v := range old.NodeSelector {
		if now, ok := s.NodeSelector[k]; !ok || now != v {
			errs = append(errs, field.Invalid(path.Child("nodeSelector").Key(k), s.NodeSelector, "only additions are allowed"))
		}
	}
	was := requiredNodes(old)
	if was == nil {
		return errs
	}
	at := path.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
	is := requiredNodes(s)
	if is == nil || len(is.NodeSelectorTerms) != len(was.NodeSelectorTerms) {
		return append(errs, field.Invalid(at.Child("nodeSelectorTerms"), is, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
	}
	for i, t := range was.NodeSelectorTerms {
		now := is.NodeSelectorTerms[i]
		if !prefix(t.MatchExpressions, now.MatchExpressions) || !prefix(t.MatchFields, now.MatchFields) {
			errs = append(errs, field.Invalid(at.Child("nodeSelectorTerms").Index(i), now, "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

func prefix(old, now []corev1.NodeSelectorRequirement) bool {
	return len(now) >= len(old) && apiequality.Semantic.DeepEqual(append([]corev1.NodeSelectorRequirement(nil), old...), append([]corev1.NodeSelectorRequirement(nil), now[:len(old)]...))
}

func requiredNodes(s *corev1.PodSpec) *corev1.NodeSelector {
	if s.Affinity == nil || s.Affinity.NodeAffinity == nil {
		return nil
	}
	return s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// withoutNodes is the affinity to pods alone. The choice of nodes of a gated pod is checked by validateNarrowed; the preferred
// terms may change freely.
func withoutNodes(a *corev1.Affinity) *corev1.Affinity {
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	return &corev1.Affinity{PodAffinity: a.PodAffinity, PodAntiAffinity: a.PodAntiAffinity}
}
