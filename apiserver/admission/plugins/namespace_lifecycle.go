package plugins

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/admission"
)

// namespaceLifecycle lets things be made only in namespaces that exist and are to stay, and keeps the cluster's own namespaces
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespacelifecycle).
type namespaceLifecycle struct{ namespaces Namespaces }

func (*namespaceLifecycle) Name() string { return "NamespaceLifecycle" }

// kept are the namespaces without which a cluster does not work: the documented three, and that of the nodes' heartbeats.
var kept = map[string]bool{
	metav1.NamespaceDefault: true, metav1.NamespaceSystem: true, metav1.NamespacePublic: true, corev1.NamespaceNodeLease: true,
}

// Mutate changes nothing, but comes first of all, so that nothing is taken for what cannot be.
func (p *namespaceLifecycle) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation == admission.Delete && a.Is("", "namespaces") && kept[a.Name] {
		return apierrors.NewForbidden(a.Resource.GroupResource(), a.Name, errors.New("this namespace may not be deleted"))
	}
	if a.Operation != admission.Create || !a.Resource.Namespaced {
		return nil
	}
	ns, err := p.namespaces.Namespace(ctx, a.Namespace)
	if err != nil {
		return err
	}
	if ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	no := apierrors.NewForbidden(a.Resource.GroupResource(), a.Name,
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	no.ErrStatus.Details.Causes = append(no.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace), Field: "metadata.namespace",
	})
	return no
}
