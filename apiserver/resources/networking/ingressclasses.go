package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

const longestController = 250

// IngressClasses name the controllers that serve ingresses.
var IngressClasses = registry.Define(registry.Kind[*networkingv1.IngressClass]{
	Group: group, Version: "v1", Kind: "IngressClass", Plural: "ingressclasses",
	Generation: true,
	Default: func(c *networkingv1.IngressClass) {
		if p := c.Spec.Parameters; p != nil && p.Scope == nil {
			p.Scope = ptr.To(networkingv1.IngressClassParametersReferenceScopeCluster)
		}
	},
	Validate: validateIngressClass,
	ValidateUpdate: func(c, old *networkingv1.IngressClass) field.ErrorList {
		return apivalidation.ValidateImmutableField(c.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller"))
	},
	Columns: []registry.Column[*networkingv1.IngressClass]{
		{Name: "Controller", Description: "Who serves the class.", Value: func(c *networkingv1.IngressClass) any { return c.Spec.Controller }},
		{Name: "Parameters", Description: "The object that holds further settings.", Value: func(c *networkingv1.IngressClass) any { return parameters(c.Spec.Parameters) }},
		registry.Age[*networkingv1.IngressClass](),
	},
})

func parameters(p *networkingv1.IngressClassParametersReference) string {
	if p == nil {
		return none
	}
	kind := p.Kind
	if p.APIGroup != nil {
		kind += "." + *p.APIGroup
	}
	return kind + "/" + p.Name
}

func validateIngressClass(c *networkingv1.IngressClass) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec", "controller")
	if c.Spec.Controller == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		if len(c.Spec.Controller) > longestController {
			errs = append(errs, field.TooLong(at, c.Spec.Controller, longestController))
		}
		errs = append(errs, validation.IsDomainPrefixedPath(at, c.Spec.Controller)...)
	}
	p := c.Spec.Parameters
	if p == nil {
		return errs
	}
	at = field.NewPath("spec", "parameters")
	if p.APIGroup != nil {
		errs = append(errs, registry.Invalid(*p.APIGroup, validation.IsDNS1123Subdomain(*p.APIGroup), at.Child("apiGroup"))...)
	}
	errs = append(errs, segment(p.Kind, at.Child("kind"))...)
	errs = append(errs, segment(p.Name, at.Child("name"))...)
	return append(errs, validateScope(p, at)...)
}

func validateScope(p *networkingv1.IngressClassParametersReference, at *field.Path) field.ErrorList {
	const cluster, namespace = networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace
	where := at.Child("namespace")
	switch {
	case p.Scope == nil:
		return field.ErrorList{field.Required(at.Child("scope"), "")}
	case *p.Scope == namespace && p.Namespace == nil:
		return field.ErrorList{field.Required(where, "`parameters.scope` is set to 'Namespace'")}
	case *p.Scope == namespace:
		return registry.Invalid(*p.Namespace, apivalidation.ValidateNamespaceName(*p.Namespace, false), where)
	case *p.Scope == cluster && p.Namespace != nil:
		return field.ErrorList{field.Forbidden(where, "`parameters.scope` is set to 'Cluster'")}
	case *p.Scope != cluster:
		return field.ErrorList{field.NotSupported(at.Child("scope"), *p.Scope, []string{cluster, namespace})}
	}
	return nil
}
