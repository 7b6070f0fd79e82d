// Package authz says what a caller may do. system:masters may do everything, each daemon's identity what its work needs, who is
// authenticated may ask who he is and what he may, and anybody may read the few paths that tell health and version; nobody else
// gets in. The rules are the tables in daemons.go and paths.go; further sources of rules (roles) join the union here.
package authz

import (
	"fmt"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"

	"pilothouse.dev/apiserver/request"
)

// Masters is the group that may do everything.
const Masters = "system:masters"

// Source is rules. What none of the sources allows is refused. Safe for concurrent use.
type Source interface {
	// Allow says whether u may do what i says.
	Allow(u *request.User, i *request.Info) bool
	// Rules are what u may do in a namespace, cluster-wide rights among them.
	Rules(u *request.User, namespace string) (Rules, error)
}

// Rules are what somebody may do, as a SelfSubjectRulesReview tells it.
type Rules struct {
	Resources    []authorizationv1.ResourceRule
	NonResources []authorizationv1.NonResourceRule
}

// Authorizer decides. Safe for concurrent use.
type Authorizer struct{ sources []Source }

// New makes an authorizer of the built-in rules and further sources, which are asked in their order.
func New(more ...Source) *Authorizer {
	return &Authorizer{append([]Source{masters{}, paths{}, tables{}}, more...)}
}

// Allow says whether u may do what i says; when not, why is for the client.
func (a *Authorizer) Allow(u *request.User, i *request.Info) (ok bool, why string) {
	for _, s := range a.sources {
		if s.Allow(u, i) {
			return true, ""
		}
	}
	return false, explain(u, i)
}

// Rules are what u may do in a namespace. With an error, they are what is known.
func (a *Authorizer) Rules(u *request.User, namespace string) (Rules, error) {
	var all Rules
	var failed error
	for _, s := range a.sources {
		r, err := s.Rules(u, namespace)
		if err != nil && failed == nil {
			failed = err
		}
		all.Resources = append(all.Resources, r.Resources...)
		all.NonResources = append(all.NonResources, r.NonResources...)
	}
	return all, failed
}

// masters may do everything.
type masters struct{}

func (masters) Allow(u *request.User, _ *request.Info) bool { return u.InGroup(Masters) }

func (masters) Rules(u *request.User, _ string) (Rules, error) {
	if !u.InGroup(Masters) {
		return Rules{}, nil
	}
	every := []string{"*"}
	return Rules{
		Resources:    []authorizationv1.ResourceRule{{Verbs: every, APIGroups: every, Resources: every}},
		NonResources: []authorizationv1.NonResourceRule{{Verbs: every, NonResourceURLs: every}},
	}, nil
}

// tables are the daemons' rules, and everybody's.
type tables struct{}

func (tables) Allow(u *request.User, i *request.Info) bool {
	return i.IsResource && slices.ContainsFunc(daemons, func(d daemon) bool { return d.is(u) && d.may(i) })
}

func (tables) Rules(u *request.User, namespace string) (Rules, error) {
	var out Rules
	for _, d := range daemons {
		if !d.is(u) {
			continue
		}
		for _, r := range d.rules {
			if r.namespace == "" || r.namespace == namespace {
				out.Resources = append(out.Resources, authorizationv1.ResourceRule{
					Verbs: r.verbs, APIGroups: []string{r.group}, Resources: r.resources,
				})
			}
		}
	}
	return out, nil
}

// explain words a refusal as users of Kubernetes know it.
func explain(u *request.User, i *request.Info) string {
	if !i.IsResource {
		return fmt.Sprintf("User %q cannot %s path %q", u.Name, i.Verb, i.Path)
	}
	resource := i.Resource
	if i.Subresource != "" {
		resource += "/" + i.Subresource
	}
	where := "at the cluster scope"
	if i.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", i.Namespace)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", u.Name, i.Verb, resource, i.Group, where)
}
