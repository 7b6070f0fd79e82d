package networking

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// annotationClass named the class before the field did.
const annotationClass = "kubernetes.io/ingress.class"

// Ingresses lead HTTP from outside to services.
var Ingresses = registry.Define(registry.Kind[*networkingv1.Ingress]{
	Group: group, Version: "v1", Kind: "Ingress", Plural: "ingresses", Short: []string{"ing"},
	Namespaced: true, Status: true, Generation: true,
	BeforeCreate:   func(g *networkingv1.Ingress) { g.Status = networkingv1.IngressStatus{} },
	Validate:       validateIngress,
	ValidateStatus: validateIngressStatus,
	Warn: func(g, old *networkingv1.Ingress) []string {
		if _, set := g.Annotations[annotationClass]; set && old == nil {
			return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", annotationClass)}
		}
		return nil
	},
	Columns: []registry.Column[*networkingv1.Ingress]{
		{Name: "Class", Description: "Which controller serves it.", Value: func(g *networkingv1.Ingress) any { return ptr.Deref(g.Spec.IngressClassName, none) }},
		{Name: "Hosts", Description: "The hosts it answers for.", Value: func(g *networkingv1.Ingress) any { return hosts(g.Spec.Rules) }},
		{Name: "Address", Description: "Where it is reached.", Value: func(g *networkingv1.Ingress) any { return addresses(g.Status.LoadBalancer.Ingress) }},
		{Name: "Ports", Description: "The ports it listens on.", Value: func(g *networkingv1.Ingress) any {
			if len(g.Spec.TLS) > 0 {
				return "80, 443"
			}
			return "80"
		}},
		registry.Age[*networkingv1.Ingress](),
	},
})

const shown = 3 // hosts in a column

func hosts(rules []networkingv1.IngressRule) string {
	var all []string
	for _, r := range rules {
		if r.Host != "" {
			all = append(all, r.Host)
		}
	}
	switch {
	case len(all) == 0:
		return "*"
	case len(all) > shown:
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:shown], ","), len(all)-shown)
	}
	return strings.Join(all, ",")
}

func addresses(points []networkingv1.IngressLoadBalancerIngress) string {
	var all []string
	for _, p := range points {
		a := p.IP
		if a == "" {
			a = p.Hostname
		}
		if a != "" && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}
