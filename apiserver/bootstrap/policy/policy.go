// Package policy is who may do what in a new cluster: the default roles and bindings of
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings as two tables, roles.txt and
// controllers.txt, and their reading into objects. bootstrap brings them to the cluster. What always holds: every object bears
// the label and the annotation by which users know the defaults, and nothing here is kept once it has been handed out.
//
// A table is blocks. A block begins at the margin with what it defines:
//
//	clusterrole NAME [into=KEY] [from=KEY]   a ClusterRole; into=edit: its rules become part of edit, from=edit: it has those
//	role NAMESPACE NAME                      a Role
//	controller NAME                          the ClusterRole system:controller:NAME, bound to the service account kube-system/NAME
//
// and goes on with indented lines, a rule or a binding each. Lists have commas and no spaces:
//
//	VERBS GROUPS RESOURCES [NAMES]           verbs on resources; the group "core" is the one without a name
//	VERBS path PATHS                         verbs on paths that belong to no resource
//	events                                   writing events
//	bind user|group NAME, bind account NAMESPACE/NAME, bind nobody
//	named NAME                               the binding's name, when it is not the role's
//
// Among verbs, "read" is get, list and watch, and "write" is create, delete, deletecollection, patch and update.
package policy

import (
	_ "embed" // of the tables
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed roles.txt
var roleTable string

//go:embed controllers.txt
var controllerTable string

// Policy is all roles and bindings, in the order of the tables. Aggregated cluster roles have their selectors and no rules yet.
type Policy struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
}

// Load reads the tables. The objects are the caller's. An error is a broken table, with its line.
func Load() (*Policy, error) {
	p := &Policy{}
	for _, table := range []struct{ name, text string }{{"roles.txt", roleTable}, {"controllers.txt", controllerTable}} {
		if err := p.read(table.text); err != nil {
			return nil, fmt.Errorf("%s: %w", table.name, err)
		}
	}
	return p, nil
}

// block is what the lines of a block come to.
type block struct {
	namespace, name string
	labels          map[string]string
	from            string
	rules           []rbacv1.PolicyRule
	bound           bool // a binding is made, even if it names nobody
	binding         string
	subjects        []rbacv1.Subject
}

func (p *Policy) read(text string) error {
	var b *block
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		var err error
		switch {
		case line[0] != ' ':
			p.add(b)
			b, err = begin(words)
		case b == nil:
			err = fmt.Errorf("a rule of nothing")
		default:
			err = b.take(words)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	p.add(b)
	return nil
}

// controllerPrefix stands before the names of controllers' roles.
const controllerPrefix = "system:controller:"

func begin(words []string) (*block, error) {
	switch {
	case words[0] == "role" && len(words) == 3:
		return &block{namespace: words[1], name: words[2]}, nil
	case words[0] == "controller" && len(words) == 2:
		return &block{name: controllerPrefix + words[1], bound: true, subjects: []rbacv1.Subject{
			{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: words[1]},
		}}, nil
	case words[0] == "clusterrole" && len(words) >= 2:
		b := &block{name: words[1]}
		for _, w := range words[2:] {
			switch how, key, _ := strings.Cut(w, "="); how {
			case "into":
				b.labels = map[string]string{aggregate(key): "true"}
			case "from":
				b.from = key
			default:
				return nil, fmt.Errorf("%q means nothing", w)
			}
		}
		return b, nil
	}
	return nil, fmt.Errorf("%q defines nothing", strings.Join(words, " "))
}

// aggregate is the label of roles that are part of another.
func aggregate(key string) string { return "rbac.authorization.k8s.io/aggregate-to-" + key }

func (b *block) take(words []string) error {
	switch {
	case words[0] == "bind":
		return b.bind(words[1:])
	case words[0] == "named" && len(words) == 2:
		b.binding = words[1]
	case words[0] == "events" && len(words) == 1:
		b.rules = append(b.rules, rbacv1.PolicyRule{
			Verbs: []string{"create", "patch", "update"}, APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"},
		})
	case len(words) == 3 && words[1] == "path":
		b.rules = append(b.rules, rbacv1.PolicyRule{Verbs: verbs(words[0]), NonResourceURLs: strings.Split(words[2], ",")})
	case len(words) == 3 || len(words) == 4:
		r := rbacv1.PolicyRule{Verbs: verbs(words[0]), APIGroups: strings.Split(words[1], ","), Resources: strings.Split(words[2], ",")}
		for i, g := range r.APIGroups {
			if g == "core" {
				r.APIGroups[i] = ""
			}
		}
		if len(words) == 4 {
			r.ResourceNames = strings.Split(words[3], ",")
		}
		b.rules = append(b.rules, r)
	default:
		return fmt.Errorf("%q is no rule", strings.Join(words, " "))
	}
	return nil
}

// verbs spells out the shorthands, in the order of the alphabet.
func verbs(list string) []string {
	var all []string
	for _, v := range strings.Split(list, ",") {
		switch v {
		case "read":
			all = append(all, "get", "list", "watch")
		case "write":
			all = append(all, "create", "delete", "deletecollection", "patch", "update")
		default:
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

func (b *block) bind(words []string) error {
	b.bound = true
	switch {
	case len(words) == 1 && words[0] == "nobody":
		return nil
	case len(words) == 2 && words[0] == "user":
		b.subjects = append(b.subjects, rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: words[1]})
		return nil
	case len(words) == 2 && words[0] == "group":
		b.subjects = append(b.subjects, rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: words[1]})
		return nil
	case len(words) == 2 && words[0] == "account":
		if namespace, name, ok := strings.Cut(words[1], "/"); ok {
			b.subjects = append(b.subjects, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name})
			return nil
		}
	}
	return fmt.Errorf("%q binds nobody", strings.Join(words, " "))
}

// meta is what all defaults bear: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation
func (b *block) meta(name string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Namespace: b.namespace, Name: name,
		Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
	return m
}

// add makes the objects of a block that has ended.
func (p *Policy) add(b *block) {
	if b == nil {
		return
	}
	if b.binding == "" {
		b.binding = b.name
	}
	if b.namespace != "" {
		p.Roles = append(p.Roles, &rbacv1.Role{ObjectMeta: b.meta(b.name), Rules: b.rules})
		if b.bound {
			p.RoleBindings = append(p.RoleBindings, &rbacv1.RoleBinding{
				ObjectMeta: b.meta(b.binding), Subjects: b.subjects,
				RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: b.name},
			})
		}
		return
	}
	r := &rbacv1.ClusterRole{ObjectMeta: b.meta(b.name), Rules: b.rules}
	for k, v := range b.labels {
		r.Labels[k] = v
	}
	if b.from != "" {
		r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{
			MatchLabels: map[string]string{aggregate(b.from): "true"},
		}}}
	}
	p.ClusterRoles = append(p.ClusterRoles, r)
	if b.bound {
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, &rbacv1.ClusterRoleBinding{
			ObjectMeta: b.meta(b.binding), Subjects: b.subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: b.name},
		})
	}
}
