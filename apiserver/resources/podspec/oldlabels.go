package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// WarnLabel says of a label's key at path that it has a newer name; nil when it has none.
func WarnLabel(key string, path *field.Path) []string {
	if why, old := oldLabels[key]; old {
		return []string{path.String() + ": " + key + " is " + why}
	}
	return nil
}

// WarnNodeSelector says so of the keys of a choice of nodes.
func WarnNodeSelector(s *corev1.NodeSelector, path *field.Path) []string {
	var out []string
	for i, t := range s.NodeSelectorTerms {
		for j, r := range t.MatchExpressions {
			out = append(out, WarnLabel(r.Key, path.Child("nodeSelectorTerms").Index(i).Child("matchExpressions").Index(j).Child("key"))...)
		}
	}
	return out
}
