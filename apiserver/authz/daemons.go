package authz

import (
	"slices"

	"pilothouse.dev/apiserver/request"
)

// daemon is what one identity may do. A node's own restrictions (only its own Node, Lease and pods) are admission's.
type daemon struct {
	user, group string // one of them
	rules       []rule
}

// rule allows verbs on resources (plural, or plural/subresource; "*" is any) of one API group ("*" is any).
type rule struct {
	group     string
	resources []string
	verbs     []string
	namespace string // empty: any
}

var (
	read   = []string{"get", "list", "watch"}
	events = []rule{
		{"", []string{"events"}, []string{"create", "update", "patch"}, ""},
		{"events.k8s.io", []string{"events"}, []string{"create", "update", "patch"}, ""},
	}
	lead = rule{"coordination.k8s.io", []string{"leases"}, []string{"get", "create", "update"}, "kube-system"}
)

// daemons is the table. The controller manager's own controllers get an identity each when roles come; until then it may do
// everything on resources, since it deletes and adopts every kind.
var daemons = []daemon{
	{user: "system:kube-scheduler", rules: append([]rule{
		lead,
		{"", []string{"pods", "nodes", "namespaces", "services", "replicationcontrollers", "persistentvolumes", "persistentvolumeclaims"}, read, ""},
		{"apps", []string{"replicasets", "statefulsets"}, read, ""},
		{"policy", []string{"poddisruptionbudgets"}, read, ""},
		{"storage.k8s.io", []string{"*"}, read, ""},
		{"", []string{"pods/binding"}, []string{"create"}, ""},
		{"", []string{"pods/status"}, []string{"update", "patch"}, ""},
		{"", []string{"pods"}, []string{"delete"}, ""},
	}, events...)},
	{user: "system:kube-controller-manager", rules: []rule{{"*", []string{"*"}, []string{"*"}, ""}}},
	{group: "system:nodes", rules: append([]rule{
		{"", []string{"nodes"}, []string{"get", "list", "watch", "create", "update", "patch"}, ""},
		{"", []string{"nodes/status"}, []string{"update", "patch"}, ""},
		{"", []string{"pods"}, []string{"get", "list", "watch", "create", "delete"}, ""},
		{"", []string{"pods/status"}, []string{"update", "patch"}, ""},
		{"", []string{"services", "configmaps", "secrets", "namespaces"}, read, ""},
		{"discovery.k8s.io", []string{"endpointslices"}, read, ""},
		{"coordination.k8s.io", []string{"leases"}, []string{"get", "create", "update", "patch", "delete"}, "kube-node-lease"},
	}, events...)},
	{user: "system:kube-proxy", rules: append([]rule{
		{"", []string{"services", "endpoints", "nodes"}, read, ""},
		{"discovery.k8s.io", []string{"endpointslices"}, read, ""},
	}, events...)},
}

func (d daemon) is(u *request.User) bool {
	return d.user != "" && d.user == u.Name || d.group != "" && u.InGroup(d.group)
}

func (d daemon) may(i *request.Info) bool {
	resource := i.Resource
	if i.Subresource != "" {
		resource += "/" + i.Subresource
	}
	return slices.ContainsFunc(d.rules, func(r rule) bool {
		return (r.group == "*" || r.group == i.Group) &&
			(r.namespace == "" || r.namespace == i.Namespace) &&
			(slices.Contains(r.verbs, "*") || slices.Contains(r.verbs, i.Verb)) &&
			(slices.Contains(r.resources, "*") || slices.Contains(r.resources, resource))
	})
}
