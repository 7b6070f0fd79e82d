package rbac

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authz/rules"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// index is all bindings by their subjects. The key of a cluster role or cluster role binding has no namespace. Engine guards it.
type index struct {
	roles    map[storage.Key]*role
	bindings map[storage.Key]*binding
	cluster  grants
	local    map[string]*grants // by namespace
}

// role is one that exists, or one that some binding names.
type role struct {
	key    storage.Key
	exists bool
	policy []rbacv1.PolicyRule
	set    *rules.Set // nil: grants nothing
	bound  int        // bindings that name it
}

type binding struct {
	key      storage.Key
	role     *role
	subjects []subject
}

// subject is whom a binding names, in the words of an authenticated user: a service account is a user.
type subject struct {
	name  string
	group bool
	said  string // as a reason tells it
}

// grants are bindings by whom they name.
type grants struct {
	users, groups map[string][]*grant // in the order of the bindings' names
}

// grant is one subject of a binding.
type grant struct {
	of     *binding
	said   string
	reason atomic.Pointer[string] // made when it is wanted
}

func newIndex() *index {
	return &index{roles: map[storage.Key]*role{}, bindings: map[storage.Key]*binding{}, local: map[string]*grants{}}
}

// find is the first grant that allows what is asked, nil when none does.
func (x *index) find(u *request.User, q *rules.Question) *grant {
	if g := x.cluster.find(u, q); g != nil {
		return g
	}
	if q.IsResource && q.Namespace != "" {
		if in := x.local[q.Namespace]; in != nil {
			return in.find(u, q)
		}
	}
	return nil
}

func (s *grants) find(u *request.User, q *rules.Question) *grant {
	if g := allowing(s.users[u.Name], q); g != nil {
		return g
	}
	for _, name := range u.Groups {
		if g := allowing(s.groups[name], q); g != nil {
			return g
		}
	}
	return nil
}

func allowing(list []*grant, q *rules.Question) *grant {
	for _, g := range list {
		if set := g.of.role.set; set != nil && set.Allow(q) {
			return g
		}
	}
	return nil
}

// of are u's grants, cluster-wide ones first, which are told as such.
func (x *index) of(u *request.User, namespace string) iter.Seq2[*grant, bool] {
	return func(yield func(*grant, bool) bool) {
		if x.cluster.each(u, func(g *grant) bool { return yield(g, true) }) {
			x.local[namespace].each(u, func(g *grant) bool { return yield(g, false) })
		}
	}
}

// each tells u's grants until f has enough of them.
func (s *grants) each(u *request.User, f func(*grant) bool) (all bool) {
	if s == nil {
		return true
	}
	for _, g := range s.users[u.Name] {
		if !f(g) {
			return false
		}
	}
	for _, name := range u.Groups {
		for _, g := range s.groups[name] {
			if !f(g) {
				return false
			}
		}
	}
	return true
}

// lost says of which roles u would have rights if they existed.
func (x *index) lost(u *request.User, namespace string) []string {
	var lost []string
	for g := range x.of(u, namespace) {
		if r := g.of.role; !r.exists {
			if said := notFound(r); !slices.Contains(lost, said) {
				lost = append(lost, said)
			}
		}
	}
	return lost
}

// why is the reason of a decision, as Kubernetes users know it.
func (g *grant) why() string {
	if s := g.reason.Load(); s != nil {
		return *s
	}
	kind, name, roleKind := "ClusterRoleBinding", g.of.key.Name, "ClusterRole"
	if ns := g.of.key.Namespace; ns != "" {
		kind, name = "RoleBinding", name+"/"+ns
	}
	if g.of.role.key.Namespace != "" {
		roleKind = "Role"
	}
	s := fmt.Sprintf("RBAC: allowed by %s %q of %s %q to %s", kind, name, roleKind, g.of.role.key.Name, g.said)
	g.reason.Store(&s)
	return s
}

func (x *index) role(key storage.Key) *role {
	r := x.roles[key]
	if r == nil {
		r = &role{key: key}
		x.roles[key] = r
	}
	return r
}

func (x *index) putRole(key storage.Key, policy []rbacv1.PolicyRule, set *rules.Set) {
	r := x.role(key)
	r.exists, r.policy, r.set = true, policy, set
}

func (x *index) dropRole(key storage.Key) {
	if r := x.roles[key]; r != nil {
		r.exists, r.policy, r.set = false, nil, nil
		x.release(r)
	}
}

func (x *index) release(r *role) {
	if !r.exists && r.bound == 0 {
		delete(x.roles, r.key)
	}
}

func (x *index) putBinding(key, role storage.Key, subjects []subject) {
	x.dropBinding(key)
	b := &binding{key: key, role: x.role(role), subjects: subjects}
	b.role.bound++
	x.bindings[key] = b
	in := x.grants(key.Namespace)
	for _, s := range subjects {
		list := in.list(s)
		at, _ := slices.BinarySearchFunc(list[s.name], key, func(g *grant, key storage.Key) int { return strings.Compare(g.of.key.Name, key.Name) })
		list[s.name] = slices.Insert(list[s.name], at, &grant{of: b, said: s.said})
	}
}

func (x *index) dropBinding(key storage.Key) {
	b := x.bindings[key]
	if b == nil {
		return
	}
	delete(x.bindings, key)
	in := x.grants(key.Namespace)
	for _, s := range b.subjects {
		list := in.list(s)
		rest := slices.DeleteFunc(list[s.name], func(g *grant) bool { return g.of == b })
		if len(rest) == 0 {
			delete(list, s.name)
		} else {
			list[s.name] = rest
		}
	}
	if in != &x.cluster && len(in.users)+len(in.groups) == 0 {
		delete(x.local, key.Namespace)
	}
	b.role.bound--
	x.release(b.role)
}

func (x *index) grants(namespace string) *grants {
	if namespace == "" {
		return &x.cluster
	}
	in := x.local[namespace]
	if in == nil {
		in = &grants{}
		x.local[namespace] = in
	}
	return in
}

func (s *grants) list(of subject) map[string][]*grant {
	m := &s.users
	if of.group {
		m = &s.groups
	}
	if *m == nil {
		*m = map[string][]*grant{}
	}
	return *m
}

// subjectsOf reads whom a binding in a namespace (none: a cluster role binding) names, each once. Service accounts may leave out the
// namespace that they share with the binding.
func subjectsOf(namespace string, list []rbacv1.Subject) []subject {
	all := make([]subject, 0, len(list))
	for i := range list {
		s := &list[i]
		var one subject
		switch s.Kind {
		case rbacv1.UserKind:
			one = subject{name: s.Name, said: fmt.Sprintf("%s %q", s.Kind, s.Name)}
		case rbacv1.GroupKind:
			one = subject{name: s.Name, group: true, said: fmt.Sprintf("%s %q", s.Kind, s.Name)}
		case rbacv1.ServiceAccountKind:
			in := s.Namespace
			if in == "" {
				in = namespace
			}
			if in == "" || s.Name == "" {
				continue
			}
			one = subject{name: authn.AccountPrefix + in + ":" + s.Name, said: fmt.Sprintf("%s %q", s.Kind, s.Name+"/"+in)}
		default:
			continue
		}
		if !slices.ContainsFunc(all, func(have subject) bool { return have.name == one.name && have.group == one.group }) {
			all = append(all, one)
		}
	}
	return all
}
