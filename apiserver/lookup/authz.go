package lookup

import (
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/fields"

	"pilothouse.dev/apiserver/authz/node"
	"pilothouse.dev/apiserver/authz/rbac"
	"pilothouse.dev/apiserver/storage"
)

// RoleFeeds tell what changes of roles and bindings.
func (l *Lookup) RoleFeeds() rbac.Feeds {
	of := func(plural string) *Tail {
		return l.Tail(rbacv1.SchemeGroupVersion.WithResource(plural), storage.Selector{})
	}
	return rbac.Feeds{
		Roles: of("roles"), ClusterRoles: of("clusterroles"), RoleBindings: of("rolebindings"), ClusterRoleBindings: of("clusterrolebindings"),
	}
}

// NodeFeeds tell what changes of the pods that are bound to nodes, and of what else a node has to do with.
func (l *Lookup) NodeFeeds() node.Feeds {
	bound := storage.Selector{Fields: fields.OneTermNotEqualSelector("spec.nodeName", "")}
	return node.Feeds{
		Pods:        l.Tail(core("pods"), bound),
		Volumes:     l.Tail(core("persistentvolumes"), storage.Selector{}),
		Attachments: l.Tail(storagev1.SchemeGroupVersion.WithResource("volumeattachments"), storage.Selector{}),
		Slices:      l.Tail(resourcev1.SchemeGroupVersion.WithResource("resourceslices"), storage.Selector{}),
	}
}
