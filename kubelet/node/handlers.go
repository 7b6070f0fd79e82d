package node

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
)

// Handlers tells the node's OCI runtimes and what they can do, for Parts.Contribute: what the scheduler and users choose RuntimeClasses by.
func Handlers(list []containers.Handler) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.RuntimeHandlers = nil
		for _, h := range list {
			n.Status.RuntimeHandlers = append(n.Status.RuntimeHandlers, corev1.NodeRuntimeHandler{Name: h.Name, Features: &corev1.NodeRuntimeHandlerFeatures{
				RecursiveReadOnlyMounts: new(h.Features.RecursiveReadOnly), UserNamespaces: new(h.Features.UserNamespaces),
			}})
		}
		n.Status.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: new(true)}
	}
}
