package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

// serviceAccount gives every pod an account to act as. (Tokens are not mounted yet: that comes with their issuer.)
type serviceAccount struct{ accounts ServiceAccounts }

func (*serviceAccount) Name() string { return "ServiceAccount" }

func (p *serviceAccount) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	o := a.Object.(*corev1.Pod)
	if pod.Mirror(o) { // it runs already, and not as anybody
		if o.Spec.ServiceAccountName != "" {
			return forbid(a, "a mirror pod may not reference service accounts")
		}
		return nil
	}
	if o.Spec.ServiceAccountName == "" {
		o.Spec.ServiceAccountName = "default"
	}
	o.Spec.DeprecatedServiceAccount = o.Spec.ServiceAccountName
	sa, err := p.accounts.ServiceAccount(ctx, a.Namespace, o.Spec.ServiceAccountName)
	if apierrors.IsNotFound(err) {
		return forbid(a, "error looking up service account %s/%s: %v", a.Namespace, o.Spec.ServiceAccountName, err)
	}
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if len(o.Spec.ImagePullSecrets) == 0 {
		o.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference(nil), sa.ImagePullSecrets...)
	}
	return nil
}

// forbid refuses with words that users know, without the plugin's name before them.
func forbid(a *admission.Attributes, format string, args ...any) error {
	return apierrors.NewForbidden(a.Resource.GroupResource(), a.Name, fmt.Errorf(format, args...))
}
