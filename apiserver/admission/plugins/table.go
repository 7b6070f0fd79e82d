// Package plugins holds the admission plugins, a file each, and their order. What they must know of the cluster they declare
// as small interfaces, which lookup and allocator satisfy; main hands them over.
package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/admission"
)

// Namespaces finds a namespace; one that does not exist is an apierrors NotFound.
type Namespaces interface {
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
}

// ServiceAccounts finds a service account; one that does not exist is an apierrors NotFound.
type ServiceAccounts interface {
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
}

// Pods finds a pod; one that does not exist is an apierrors NotFound.
type Pods interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
}

// Parts are what the plugins are made of.
type Parts struct {
	Namespaces      Namespaces
	ServiceAccounts ServiceAccounts
	Pods            Pods
	IPs             []IPs // a range of cluster IPs a family, the preferred one first; see Ranges
	Ports           Ports
	// TolerationSeconds is how long a pod stays on a node that is not ready or unreachable, unless it says so itself.
	TolerationSeconds int64
}

// Table is every plugin in the order in which they run.
func Table(p Parts) []admission.Plugin {
	return []admission.Plugin{
		&namespaceLifecycle{p.Namespaces},
		&nodeRestriction{p.Pods},
		&serviceAccount{p.ServiceAccounts},
		taintNewNodes{},
		priority{},
		&tolerateForAWhile{p.TolerationSeconds},
		certificateRequest{},
		&serviceAddresses{ips: p.IPs, ports: p.Ports},
	}
}
