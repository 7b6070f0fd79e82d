package plugins

import (
	"context"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/pod"
)

// nodeRestriction lets a kubelet write its own node, its own lease and the pods bound to it, and get tokens for those pods,
// so that who breaks into one node does not own the others.
type nodeRestriction struct{ pods Pods }

func (*nodeRestriction) Name() string { return "NodeRestriction" }

const (
	nodesGroup = "system:nodes"
	nodePrefix = "system:node:"
)

// nodeOf is the node a user is the kubelet of, empty for anybody else.
func nodeOf(u *request.User) string {
	if u == nil || !u.InGroup(nodesGroup) {
		return ""
	}
	name, ok := strings.CutPrefix(u.Name, nodePrefix)
	if !ok {
		return ""
	}
	return name
}

func (p *nodeRestriction) Validate(ctx context.Context, a *admission.Attributes) error {
	node := nodeOf(a.User)
	if node == "" {
		return nil
	}
	switch a.Resource.GroupResource().String() {
	case "nodes":
		return restrictNode(a, node)
	case "pods":
		if a.Subresource == "eviction" {
			return p.restrictEviction(ctx, a, node)
		}
		return restrictPod(a, node)
	case "leases.coordination.k8s.io":
		return restrictLease(a, node)
	case "serviceaccounts":
		if a.Subresource == "token" {
			return p.restrictToken(ctx, a, node)
		}
	}
	return nil
}

// restrictToken wants a token to be bound to a pod of the node that asks
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction).
func (p *nodeRestriction) restrictToken(ctx context.Context, a *admission.Attributes, node string) error {
	ref := a.Object.(*authenticationv1.TokenRequest).Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return forbid(a, "node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return forbid(a, "node requested token with a pod binding without a uid")
	}
	o, err := p.pods.Pod(ctx, a.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if ref.UID != o.UID {
		return forbid(a, "the UID in the bound object reference (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", ref.UID, o.UID)
	}
	if o.Spec.NodeName != node {
		return forbid(a, "node requested token bound to a pod scheduled on a different node")
	}
	return nil
}

func restrictNode(a *admission.Attributes, node string) error {
	if a.Name != node {
		return forbid(a, "node %q is not allowed to modify node %q", node, a.Name)
	}
	if a.Operation == admission.Update && a.Subresource == "" {
		if !apiequality.Semantic.DeepEqual(a.Object.(*corev1.Node).Spec.Taints, a.Old.(*corev1.Node).Spec.Taints) {
			return forbid(a, "node %q is not allowed to modify taints", node)
		}
	}
	return nil
}

func restrictPod(a *admission.Attributes, node string) error {
	switch a.Operation {
	case admission.Create:
		p, ok := a.Object.(*corev1.Pod)
		if !ok {
			return forbid(a, "unexpected operation %q on %q", a.Operation, a.Subresource)
		}
		if !pod.Mirror(p) {
			return forbid(a, "pod does not have %q annotation, node %q can only create mirror pods", pod.AnnotationMirror, node)
		}
		if p.Spec.NodeName != node {
			return forbid(a, "node %q can only create pods with spec.nodeName set to itself", node)
		}
	case admission.Delete:
		if a.Old.(*corev1.Pod).Spec.NodeName != node {
			return forbid(a, "node %q can only delete pods with spec.nodeName set to itself", node)
		}
	case admission.Update:
		if a.Subresource != "status" {
			return forbid(a, "unexpected operation %q", a.Operation)
		}
		if a.Old.(*corev1.Pod).Spec.NodeName != node {
			return forbid(a, "node %q can only update pod status for pods with spec.nodeName set to itself", node)
		}
		if !apiequality.Semantic.DeepEqual(a.Object.GetLabels(), a.Old.GetLabels()) {
			return forbid(a, "node %q cannot update labels through pod status", node)
		}
	}
	return nil
}

// restrictEviction wants an evicted pod to be on the node that asks.
func (p *nodeRestriction) restrictEviction(ctx context.Context, a *admission.Attributes, node string) error {
	o, err := p.pods.Pod(ctx, a.Namespace, a.Name)
	if err != nil {
		return err
	}
	if o.Spec.NodeName != node {
		return forbid(a, "node %s can only evict pods with spec.nodeName set to itself", node)
	}
	return nil
}

func restrictLease(a *admission.Attributes, node string) error {
	if a.Namespace != corev1.NamespaceNodeLease {
		return forbid(a, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if a.Name != node {
		return forbid(a, "can only access node lease with the same name as the requesting node")
	}
	return nil
}
