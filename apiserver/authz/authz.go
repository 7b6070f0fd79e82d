// Package authz says what a caller may do. system:masters may do everything, each daemon's identity what its work needs, who is
// authenticated may ask who he is and what he may, and anybody may read the few paths that tell health and version; nobody else
// gets in. The rules are the tables in daemons.go and paths.go; further sources of rules (roles) join the union here.
package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"pilothouse.dev/apiserver/request"
)

// Masters is the group that may do everything.
const Masters = "system:masters"

// Decision is what one source says to a question.
type Decision uint8

// What a source may say. NoOpinion leaves it to the others; Denied ends the asking.
const (
	NoOpinion Decision = iota
	Allowed
	Denied
)

// Source is rules, asked in turn until one allows or denies; what none of them allows is refused. Safe for concurrent use.
type Source interface {
	// Decide says whether u may do what i says, and why it says so: for logs, audit and who asks on behalf of others. The error,
	// which may come with any decision, says what could not be found out.
	Decide(ctx context.Context, u *request.User, i *request.Info) (Decision, string, error)
	// Rules are what u may do in a namespace, cluster-wide rights among them. With an error, they are what is known.
	Rules(ctx context.Context, u *request.User, namespace string) (Rules, error)
}

// Rules are what somebody may do, as a SelfSubjectRulesReview tells it.
type Rules struct {
	Resources    []authorizationv1.ResourceRule
	NonResources []authorizationv1.NonResourceRule
	Incomplete   bool // there is more that cannot be told as a list
}

// Verdict is the answer of all sources together.
type Verdict struct {
	Decision Decision // NoOpinion: nobody allowed it, so it is refused
	Reason   string   // of the source that decided; of a refusal, all that was said
	Err      error    // what could not be found out; the decision stands
}

// Authorizer decides. Safe for concurrent use.
type Authorizer struct{ sources []Source }

// New makes an authorizer of system:masters and further sources, which are asked in their order.
func New(more ...Source) *Authorizer {
	return &Authorizer{append([]Source{masters{}, paths{}, tables{}}, more...)}
}

// Decide asks every source in turn.
func (a *Authorizer) Decide(ctx context.Context, u *request.User, i *request.Info) Verdict {
	var reasons []string
	var errs []error
	for _, s := range a.sources {
		d, reason, err := s.Decide(ctx, u, i)
		if err != nil {
			errs = append(errs, err)
		}
		if d != NoOpinion {
			return Verdict{d, reason, errors.Join(errs...)}
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
	}
	return Verdict{NoOpinion, strings.Join(reasons, "\n"), errors.Join(errs...)}
}

// Allow says whether u may do what i says; when not, why is for the client.
func (a *Authorizer) Allow(ctx context.Context, u *request.User, i *request.Info) (ok bool, why string) {
	v := a.Decide(ctx, u, i)
	if v.Decision == Allowed {
		return true, ""
	}
	return false, Explain(u, i, v.Reason)
}

// Rules are what u may do in a namespace. With an error, they are what is known.
func (a *Authorizer) Rules(ctx context.Context, u *request.User, namespace string) (Rules, error) {
	var all Rules
	var failed []error
	for _, s := range a.sources {
		r, err := s.Rules(ctx, u, namespace)
		if err != nil {
			failed = append(failed, err)
		}
		all.Resources = append(all.Resources, r.Resources...)
		all.NonResources = append(all.NonResources, r.NonResources...)
		all.Incomplete = all.Incomplete || r.Incomplete
	}
	return all, errors.Join(failed...)
}

// masters may do everything.
type masters struct{}

func (masters) Decide(_ context.Context, u *request.User, _ *request.Info) (Decision, string, error) {
	if u.InGroup(Masters) {
		return Allowed, "", nil
	}
	return NoOpinion, "", nil
}

func (masters) Rules(_ context.Context, u *request.User, _ string) (Rules, error) {
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

func (tables) Decide(_ context.Context, u *request.User, i *request.Info) (Decision, string, error) {
	if i.IsResource && slices.ContainsFunc(daemons, func(d daemon) bool { return d.is(u) && d.may(i) }) {
		return Allowed, "", nil
	}
	return NoOpinion, "", nil
}

func (tables) Rules(_ context.Context, u *request.User, namespace string) (Rules, error) {
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

// Explain words a refusal as users of Kubernetes know it. reason, when not empty, is what the sources said.
func Explain(u *request.User, i *request.Info, reason string) string {
	said := ""
	if reason != "" {
		said = ": " + reason
	}
	if !i.IsResource {
		return fmt.Sprintf("User %q cannot %s path %q%s", u.Name, i.Verb, i.Path, said)
	}
	resource := i.Resource
	if i.Subresource != "" {
		resource += "/" + i.Subresource
	}
	where := "at the cluster scope"
	if i.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", i.Namespace)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q %s%s", u.Name, i.Verb, resource, i.Group, where, said)
}
