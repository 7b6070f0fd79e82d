package plugins

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/pod"
)

// nodeRestriction lets a kubelet write its own node, its own lease and the pods bound to it, so that who breaks into one node
// does not own the others.
type nodeRestriction struct{}

func (nodeRestriction) Name() string { return "NodeRestriction" }

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

func (nodeRestriction) Validate(_ context.Context, a *admission.Attributes) error {
	node := nodeOf(a.User)
	if node == "" {
		return nil
	}
	switch a.Resource.GroupResource().String() {
	case "nodes":
		return restrictNode(a, node)
	case "pods":
		return restrictPod(a, node)
	case "leases.coordination.k8s.io":
		return restrictLease(a, node)
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
		p := a.Object.(*corev1.Pod)
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

func restrictLease(a *admission.Attributes, node string) error {
	if a.Namespace != corev1.NamespaceNodeLease {
		return forbid(a, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if a.Name != node {
		return forbid(a, "can only access node lease with the same name as the requesting node")
	}
	return nil
}
