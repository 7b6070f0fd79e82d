package plugins

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/admission"
)

// denyExternalIPs lets no service take external addresses that it does not have yet
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#denyserviceexternalips).
type denyExternalIPs struct{}

func (denyExternalIPs) Name() string { return "DenyServiceExternalIPs" }

func (denyExternalIPs) Validate(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update || !a.Is("", "services") {
		return nil
	}
	var had []string
	if old, ok := a.Old.(*corev1.Service); ok {
		had = old.Spec.ExternalIPs
	}
	for _, ip := range a.Object.(*corev1.Service).Spec.ExternalIPs {
		if !slices.Contains(had, ip) {
			return forbid(a, "Use of external IPs is denied by admission control.")
		}
	}
	return nil
}
