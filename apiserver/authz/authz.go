// Package authz says what a caller may do: the contract that sources of rules keep (the rooms beside this one: rbac, node, webhook),
// and their union. system:masters may do everything; after that each source is asked in its order until one allows or denies, and
// what none of them allows is refused. Which sources there are, and their order, the room modes reads from flags or a file, and may
// replace while requests are served. What the cluster's own daemons may do are roles like any others (bootstrap/policy).
package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	authorizationv1 "k8s.io/api/authorization/v1"

	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
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

// Feed tells what has changed of one kind since it was asked last: what a source of rules is kept up to date by. Behind is safe for
// concurrent use and costs next to nothing; one caller at a time Pulls.
type Feed interface {
	// Behind says whether there may be something to pull.
	Behind() bool
	// Newest waits until Pull would tell everything that was acknowledged before the call.
	Newest(ctx context.Context) error
	// Pull tells all changes up to now, without waiting for any: each is an Added, Modified or Deleted event, whose entry is shared.
	// reset is called before the present state is told from the beginning, since history was lost or this is the first pull. With
	// an error, more is to come.
	Pull(ctx context.Context, reset func(), each func(storage.Event)) error
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

// Named is a source as metrics know it: its type (Node, RBAC, Webhook …) and its name.
type Named struct {
	Type, Name string
	Source     Source
}

// Authorizer decides. Safe for concurrent use.
type Authorizer struct {
	metrics *Metrics               // nil: nothing is counted
	links   atomic.Pointer[[]link] // replaced as a whole
}

// New makes an authorizer of system:masters and further sources, which are asked in their order.
func New(more ...Source) *Authorizer {
	named := make([]Named, 0, len(more))
	for _, s := range more {
		named = append(named, Named{Source: s})
	}
	return NewCounted(nil, named)
}

// NewCounted is New with sources that metrics count; nil counts nothing.
func NewCounted(m *Metrics, more []Named) *Authorizer {
	a := &Authorizer{metrics: m}
	a.Use(more)
	return a
}

// Use puts other sources in place of those that there are. Requests that are being decided go on with the old ones.
func (a *Authorizer) Use(more []Named) {
	links := []link{{source: masters{}}}
	for _, n := range more {
		links = append(links, a.metrics.link(n))
	}
	a.links.Store(&links)
}

// Decide asks every source in turn.
func (a *Authorizer) Decide(ctx context.Context, u *request.User, i *request.Info) Verdict {
	var reasons []string
	var errs []error
	for _, l := range *a.links.Load() {
		d, reason, err := l.source.Decide(ctx, u, i)
		if err != nil {
			errs = append(errs, err)
		}
		if d != NoOpinion {
			l.count(d)
			return Verdict{d, reason, errors.Join(errs...)}
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
	}
	return Verdict{NoOpinion, strings.Join(reasons, "\n"), errors.Join(errs...)}
}

// Attempt decides on a request to this server, and counts it as one.
func (a *Authorizer) Attempt(ctx context.Context, u *request.User, i *request.Info) Verdict {
	v := a.Decide(ctx, u, i)
	a.metrics.attempt(v)
	return v
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
	for _, l := range *a.links.Load() {
		r, err := l.source.Rules(ctx, u, namespace)
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
	return all(), nil
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
