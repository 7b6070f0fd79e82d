// Package rules is what roles are made of: policy rules compiled to answer quickly whether they allow a request, and the question
// whether some rules hold all that others grant. It knows neither users nor bindings. What a rule means is
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources.
package rules

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"pilothouse.dev/apiserver/request"
)

// maxExact bounds what one rule may take in the table of a Set: a small rule can name very many pairs of group and resource.
const maxExact = 4096

// Set is the rules of one role, compiled. Immutable.
type Set struct {
	exact map[target][]rule // of rules that name what they are about
	loose []looseRule       // of rules with an asterisk in their groups or resources
	urls  []urlRule
}

// target is one resource as a rule names it.
type target struct{ group, resource, sub string }

// rule is what is left of a policy rule when group and resource are known to match.
type rule struct {
	verbs verbs
	names []string // empty: any
}

type looseRule struct {
	rule
	groups    []string
	resources []string
}

type urlRule struct {
	verbs verbs
	urls  []string
}

// Question is a request as Sets are asked about it. Make it with Ask.
type Question struct {
	*request.Info
	verb   verbs
	target target
}

// Ask prepares a request for the asking.
func Ask(i *request.Info) Question {
	q := Question{Info: i, verb: verbOf(i.Verb), target: target{i.Group, i.Resource, i.Subresource}}
	if i.Subresource == "" { // a review may name both in one word
		q.target.resource, q.target.sub = split(i.Resource)
	}
	return q
}

// Compile makes a Set, which keeps parts of the rules.
func Compile(policy []rbacv1.PolicyRule) *Set {
	s := &Set{}
	for i := range policy {
		p := &policy[i]
		v := compileVerbs(p.Verbs)
		if len(p.NonResourceURLs) > 0 {
			s.urls = append(s.urls, urlRule{v, p.NonResourceURLs})
		}
		if len(p.APIGroups) == 0 || len(p.Resources) == 0 {
			continue
		}
		r := rule{v, p.ResourceNames}
		if slices.Contains(p.APIGroups, "*") || slices.ContainsFunc(p.Resources, wild) || len(p.APIGroups)*len(p.Resources) > maxExact {
			s.loose = append(s.loose, looseRule{r, p.APIGroups, p.Resources})
			continue
		}
		if s.exact == nil {
			s.exact = make(map[target][]rule, len(p.APIGroups)*len(p.Resources))
		}
		for _, g := range p.APIGroups {
			for _, name := range p.Resources {
				at := target{group: g}
				at.resource, at.sub = split(name)
				s.exact[at] = append(s.exact[at], r)
			}
		}
	}
	return s
}

// split parts a resource from its subresource.
func split(name string) (resource, sub string) {
	if i := strings.IndexByte(name, '/'); i >= 0 && i < len(name)-1 {
		return name[:i], name[i+1:]
	}
	return name, ""
}

// wild says whether a resource of a rule stands for several.
func wild(resource string) bool { return resource == "*" || strings.HasPrefix(resource, "*/") }

// Allow says whether the rules allow what is asked. It does not allocate.
func (s *Set) Allow(q *Question) bool {
	if !q.IsResource {
		for i := range s.urls {
			if s.urls[i].verbs.have(q.verb, q.Verb) && coversURL(s.urls[i].urls, q.Path) {
				return true
			}
		}
		return false
	}
	if len(s.exact) > 0 {
		for _, r := range s.exact[q.target] {
			if r.allow(q) {
				return true
			}
		}
	}
	for i := range s.loose {
		if r := &s.loose[i]; r.allow(q) && named(r.groups, q.Group) && coversResource(r.resources, q.target.resource, q.target.sub) {
			return true
		}
	}
	return false
}

func (r *rule) allow(q *Question) bool {
	return r.verbs.have(q.verb, q.Verb) && (len(r.names) == 0 || slices.Contains(r.names, q.Name))
}

// named says whether a list names something, or everything.
func named(list []string, what string) bool {
	for _, s := range list {
		if s == "*" || s == what {
			return true
		}
	}
	return false
}

// coversResource says whether a rule's resources name a resource, or its subresource: «pods», «pods/log», «*/scale», «*».
func coversResource(list []string, resource, sub string) bool {
	for _, s := range list {
		switch {
		case s == "*":
			return true
		case sub == "":
			if s == resource {
				return true
			}
		default:
			of, part := split(s)
			if part == sub && (of == resource || of == "*") {
				return true
			}
		}
	}
	return false
}

// coversURL says whether a rule's URLs name a path: «/healthz», «/healthz/*», «*».
func coversURL(list []string, path string) bool {
	for _, s := range list {
		if s == path || s == "*" {
			return true
		}
		if strings.HasSuffix(s, "*") && strings.HasPrefix(path, strings.TrimRight(s, "*")) {
			return true
		}
	}
	return false
}

// verbs is a set of verbs: the usual ones as bits, others by name.
type verbs struct {
	bits   uint16
	others []string
}

const anyVerb = 1 << 15

func bit(verb string) uint16 {
	switch verb {
	case "get":
		return 1 << 0
	case "list":
		return 1 << 1
	case "watch":
		return 1 << 2
	case "create":
		return 1 << 3
	case "update":
		return 1 << 4
	case "patch":
		return 1 << 5
	case "delete":
		return 1 << 6
	case "deletecollection":
		return 1 << 7
	case "*":
		return anyVerb
	}
	return 0
}

func compileVerbs(list []string) (v verbs) {
	for _, s := range list {
		if b := bit(s); b != 0 {
			v.bits |= b
		} else {
			v.others = append(v.others, s)
		}
	}
	return v
}

func verbOf(verb string) verbs { return verbs{bits: bit(verb)} }

// have says whether asked, whose name is verb, is in the set.
func (v *verbs) have(asked verbs, verb string) bool {
	if v.bits&(asked.bits|anyVerb) != 0 {
		return true
	}
	return asked.bits == 0 && slices.Contains(v.others, verb)
}
