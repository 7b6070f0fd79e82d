package authz

import (
	"slices"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/request"
)

// daemon is what one identity, or one group, may do.
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
	// delegate is asking on behalf of who calls the daemon itself.
	delegate = []rule{
		{"authentication.k8s.io", []string{"tokenreviews"}, []string{"create"}, ""},
		{"authorization.k8s.io", []string{"subjectaccessreviews"}, []string{"create"}, ""},
	}
	lead = rule{"coordination.k8s.io", []string{"leases"}, []string{"get", "create", "update"}, "kube-system"}
)

// daemons is the table; its first line is everybody who is somebody. The controller manager's own controllers get an identity each
// when roles come; until then it may do everything on resources, since it deletes and adopts every kind.
var daemons = []daemon{
	{group: authn.Authenticated, rules: []rule{
		{"authentication.k8s.io", []string{"selfsubjectreviews"}, []string{"create"}, ""},
		{"authorization.k8s.io", []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}, []string{"create"}, ""},
	}},
	{user: "system:kube-scheduler", rules: slices.Concat([]rule{
		lead,
		{"", []string{"pods", "nodes", "namespaces", "services", "replicationcontrollers", "persistentvolumes", "persistentvolumeclaims"}, read, ""},
		{"apps", []string{"replicasets", "statefulsets"}, read, ""},
		{"policy", []string{"poddisruptionbudgets"}, read, ""},
		{"storage.k8s.io", []string{"*"}, read, ""},
		{"", []string{"pods/binding"}, []string{"create"}, ""},
		{"", []string{"pods/status"}, []string{"update", "patch"}, ""},
		{"", []string{"pods"}, []string{"delete"}, ""},
	}, events, delegate)},
	{user: "system:kube-controller-manager", rules: []rule{{"*", []string{"*"}, []string{"*"}, ""}}},
	// What else a kubelet may do says the room node. All nodes it reads for the routes to their pods, which is more than the node
	// authorizer allows: a role of its own for the group must say so before this table goes.
	{group: "system:nodes", rules: []rule{{"", []string{"nodes"}, []string{"list", "watch"}, ""}}},
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
