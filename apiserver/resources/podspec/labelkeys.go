package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MergeLabelKeys writes into a new pod's selectors of other pods what its matchLabelKeys and mismatchLabelKeys mean: the
// pod's own value of those labels. See the fields' documentation.
func MergeLabelKeys(p *corev1.Pod) {
	merge := func(s *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator) {
		if s == nil {
			return // refused elsewhere
		}
		for _, key := range keys {
			if value, ok := p.Labels[key]; ok {
				s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
			}
		}
	}
	term := func(t *corev1.PodAffinityTerm) {
		merge(t.LabelSelector, t.MatchLabelKeys, metav1.LabelSelectorOpIn)
		merge(t.LabelSelector, t.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
	}
	terms := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i := range required {
			term(&required[i])
		}
		for i := range preferred {
			term(&preferred[i].PodAffinityTerm)
		}
	}
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil {
		terms(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		terms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	for i := range p.Spec.TopologySpreadConstraints {
		c := &p.Spec.TopologySpreadConstraints[i]
		merge(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
	}
}

// validateLabelKeys checks keys of labels of the pod itself.
func validateLabelKeys(keys []string, s *metav1.LabelSelector, path *field.Path) field.ErrorList {
	if len(keys) > 0 && s == nil {
		return field.ErrorList{field.Forbidden(path, "must not be specified when labelSelector is not set")}
	}
	var errs field.ErrorList
	for i, key := range keys {
		errs = append(errs, metav1validation.ValidateLabelName(key, path.Index(i))...)
	}
	return errs
}

// twice finds the keys that a selector names besides what MergeLabelKeys put into it once.
func twice(keys []string, s *metav1.LabelSelector) []int {
	if s == nil {
		return nil
	}
	var out []int
	seen := sets.KeySet(s.MatchLabels)
	for _, r := range s.MatchExpressions {
		if i := slices.Index(keys, r.Key); i >= 0 && seen.Has(r.Key) {
			out = append(out, i)
		}
		seen.Insert(r.Key)
	}
	return out
}

// validateSpreadKeys checks the keys of a constraint, whose selector must not name them already.
func validateSpreadKeys(c *corev1.TopologySpreadConstraint, path *field.Path) field.ErrorList {
	errs := validateLabelKeys(c.MatchLabelKeys, c.LabelSelector, path)
	doubled := sets.New(twice(c.MatchLabelKeys, c.LabelSelector)...)
	for i, key := range c.MatchLabelKeys {
		if c.LabelSelector != nil && c.LabelSelector.MatchLabels[key] != "" {
			doubled.Insert(i)
		}
	}
	for _, i := range sets.List(doubled) {
		errs = append(errs, field.Invalid(path.Index(i), c.MatchLabelKeys[i], "exists in both matchLabelKeys and labelSelector"))
	}
	return errs
}

// validateTermKeys checks the keys of a term.
func validateTermKeys(t *corev1.PodAffinityTerm, path *field.Path) field.ErrorList {
	errs := validateLabelKeys(t.MatchLabelKeys, t.LabelSelector, path.Child("matchLabelKeys"))
	errs = append(errs, validateLabelKeys(t.MismatchLabelKeys, t.LabelSelector, path.Child("mismatchLabelKeys"))...)
	for _, i := range twice(t.MatchLabelKeys, t.LabelSelector) {
		errs = append(errs, field.Invalid(path.Index(i), t.MatchLabelKeys[i], "exists in both matchLabelKeys and labelSelector"))
	}
	for i, key := range t.MatchLabelKeys {
		if slices.Contains(t.MismatchLabelKeys, key) {
			errs = append(errs, field.Invalid(path.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys"))
		}
	}
	return errs
}
