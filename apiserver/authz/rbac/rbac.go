// Package rbac allows what roles grant to those whom bindings name
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/). It keeps an index of all bindings by their subjects and of all
// roles compiled, brings it up to date before each decision by what has changed since, and never looks at all of them again.
//
// What always holds: a decision is as fresh as the watch cache; a binding of a role that does not exist grants nothing. It says too
// what somebody holds, so that admission can keep people from granting more than that (holds.go).
package rbac

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/authz/rules"
	"pilothouse.dev/apiserver/request"
)

// Feeds tell what changes of the four kinds.
type Feeds struct {
	Roles, ClusterRoles, RoleBindings, ClusterRoleBindings authz.Feed
}

// Engine is a source of rules. Safe for concurrent use.
type Engine struct {
	follows []follow // set once

	pulling sync.Mutex // held by who brings the index up to date; taken before mu

	mu    sync.RWMutex
	index *index // guarded by mu
}

var _ authz.Source = (*Engine)(nil)

// New makes an engine; nothing is read yet.
func New(f Feeds) *Engine {
	e := &Engine{index: newIndex()}
	e.follows = []follow{
		{f.ClusterRoles, e.dropRoles(true), e.clusterRole},
		{f.Roles, e.dropRoles(false), e.role},
		{f.ClusterRoleBindings, e.dropBindings(true), e.clusterRoleBinding},
		{f.RoleBindings, e.dropBindings(false), e.roleBinding},
	}
	return e
}

// Decide allows what a role grants that is bound to u, or to a group of his. The reason of an allowed request names the first binding
// that was found; that of another, the roles that u is bound to and that do not exist.
func (e *Engine) Decide(ctx context.Context, u *request.User, i *request.Info) (authz.Decision, string, error) {
	failed := e.refresh(ctx)
	q := rules.Ask(i)
	e.mu.RLock()
	defer e.mu.RUnlock()
	if g := e.index.find(u, &q); g != nil {
		return authz.Allowed, g.why(), nil
	}
	reason := ""
	if lost := e.index.lost(u, q.Namespace); len(lost) > 0 {
		reason = "RBAC: " + list(lost)
	}
	return authz.NoOpinion, reason, failed
}

// Rules are what the roles grant that u is bound to: cluster-wide, and in the namespace.
func (e *Engine) Rules(ctx context.Context, u *request.User, namespace string) (authz.Rules, error) {
	err := e.refresh(ctx)
	held, lost := e.held(u, namespace)
	out := authz.Rules{Incomplete: err != nil}
	for i := range held {
		r := &held[i]
		if len(r.Resources) > 0 {
			out.Resources = append(out.Resources, authorizationv1.ResourceRule{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames,
			})
		}
		if len(r.NonResourceURLs) > 0 {
			out.NonResources = append(out.NonResources, authorizationv1.NonResourceRule{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	if len(lost) > 0 {
		err = errors.Join(err, errors.New(list(lost)))
	}
	return out, err
}

// held are the rules of the roles that u is bound to, each role once, and the roles that do not exist.
func (e *Engine) held(u *request.User, namespace string) (held []rbacv1.PolicyRule, lost []string) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	seen := map[*role]bool{} // value: with its paths
	for g, cluster := range e.index.of(u, namespace) {
		r := g.of.role
		if with, ok := seen[r]; ok && (with || !cluster) {
			continue
		}
		seen[r] = cluster
		for _, p := range r.policy {
			if !cluster { // paths are of no namespace
				p.NonResourceURLs = nil
			}
			if len(p.Resources)+len(p.NonResourceURLs) > 0 && !slices.ContainsFunc(held, func(h rbacv1.PolicyRule) bool { return same(&h, &p) }) {
				held = append(held, p)
			}
		}
	}
	return held, e.index.lost(u, namespace)
}

func same(a, b *rbacv1.PolicyRule) bool {
	return slices.Equal(a.Verbs, b.Verbs) && slices.Equal(a.APIGroups, b.APIGroups) && slices.Equal(a.Resources, b.Resources) &&
		slices.Equal(a.ResourceNames, b.ResourceNames) && slices.Equal(a.NonResourceURLs, b.NonResourceURLs)
}

// list words several complaints as one.
func list(all []string) string {
	if len(all) == 1 {
		return all[0]
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func notFound(r *role) string {
	kind := "clusterrole"
	if r.key.Namespace != "" {
		kind = "role"
	}
	return fmt.Sprintf("%s.%s %q not found", kind, rbacv1.GroupName, r.key.Name)
}
