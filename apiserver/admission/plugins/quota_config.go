package plugins

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/configfile"
)

// LimitedResource is what may be used only where a quota covers it
// (https://kubernetes.io/docs/concepts/policy/resource-quotas/#limit-priority-class-consumption-by-default).
type LimitedResource struct {
	APIGroup      string                                     `json:"apiGroup"`
	Resource      string                                     `json:"resource"` // plural
	MatchContains []string                                   `json:"matchContains"`
	MatchScopes   []corev1.ScopedResourceSelectorRequirement `json:"matchScopes"`
}

// limitedResources reads a ResourceQuotaConfiguration. The empty document limits nothing.
func limitedResources(d configfile.Document) ([]LimitedResource, error) {
	if d.Empty() {
		return nil, nil
	}
	var c struct {
		metav1.TypeMeta  `json:",inline"`
		LimitedResources []LimitedResource `json:"limitedResources"`
	}
	kind := "ResourceQuotaConfiguration"
	if d.Says("kind") == "Configuration" { // as it was called before v1
		kind = "Configuration"
	}
	if err := d.Versioned(&c, kind, "apiserver.config.k8s.io/v1", "resourcequota.admission.k8s.io/v1beta1", "resourcequota.admission.k8s.io/v1alpha1"); err != nil {
		return nil, err
	}
	var errs field.ErrorList
	for i, l := range c.LimitedResources {
		if l.Resource == "" {
			errs = append(errs, field.Required(field.NewPath("limitedResources").Index(i).Child("resource"), ""))
		}
	}
	return c.LimitedResources, d.Invalid(errs)
}
