package plugins

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"

	"pilothouse.dev/apiserver/admission"
)

// defaultIngressClass gives ingresses that name no class the default one
// (https://kubernetes.io/docs/concepts/services-networking/ingress/#default-ingress-class).
type defaultIngressClass struct{ classes IngressClasses }

func (*defaultIngressClass) Name() string { return "DefaultIngressClass" }

// annotationIngressClass is how a class was named before there was a field for it.
const annotationIngressClass = "kubernetes.io/ingress.class"

func (p *defaultIngressClass) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("networking.k8s.io", "ingresses") {
		return nil
	}
	ingress, ok := a.Object.(*networkingv1.Ingress)
	if !ok || ingress.Spec.IngressClassName != nil {
		return nil
	}
	if _, named := ingress.Annotations[annotationIngressClass]; named {
		return nil
	}
	all, err := p.classes.IngressClasses(ctx)
	if err != nil {
		return err
	}
	if class := newestDefault(all, networkingv1.AnnotationIsDefaultIngressClass); class != nil {
		ingress.Spec.IngressClassName = &class.Name
	}
	return nil
}
