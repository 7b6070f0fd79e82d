package plugins

import (
	"context"
	"errors"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// Grants says what somebody may give to others.
type Grants interface {
	// Confirm is an error for the client when u does not hold the rules in the namespace (none: cluster-wide).
	Confirm(ctx context.Context, u *request.User, namespace string, wanted []rbacv1.PolicyRule) error
	// RoleRules are what a role grants that a binding in the namespace names; one that does not exist is an apierrors NotFound.
	RoleRules(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error)
}

// rbacEscalation keeps people from giving themselves, or others, more than they have: who writes a role needs every right in it, or
// the verb escalate on it; who writes a binding needs every right of its role, or the verb bind on that
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping). It looks at what
// is about to be stored, so it makes no difference whether that was created, updated, patched or applied.
type rbacEscalation struct {
	access Access
	grants Grants
}

func (*rbacEscalation) Name() string { return "RBACEscalation" }

// masters is the group that needs no role.
const masters = "system:masters"

// everything is what an aggregation rule may come to gather.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

func (p *rbacEscalation) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Object == nil || a.Subresource != "" || a.Operation != admission.Create && a.Operation != admission.Update ||
		a.User.InGroup(masters) || a.Old != nil && onlyCollection(a.Object, a.Old) {
		return nil
	}
	switch o := a.Object.(type) {
	case *rbacv1.Role:
		return p.role(ctx, a, o.Rules)
	case *rbacv1.ClusterRole:
		old, _ := a.Old.(*rbacv1.ClusterRole)
		if err := p.role(ctx, a, o.Rules); err != nil || o.AggregationRule == nil && (old == nil || old.AggregationRule == nil) {
			return err
		}
		return p.aggregation(ctx, a)
	case *rbacv1.RoleBinding:
		return p.binding(ctx, a, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return p.binding(ctx, a, o.RoleRef)
	}
	return nil
}

func (p *rbacEscalation) role(ctx context.Context, a *admission.Attributes, rules []rbacv1.PolicyRule) error {
	if p.mayEscalate(ctx, a) {
		return nil
	}
	return p.confirm(ctx, a, rules)
}

func (p *rbacEscalation) aggregation(ctx context.Context, a *admission.Attributes) error {
	if p.mayEscalate(ctx, a) || p.grants.Confirm(ctx, a.User, "", everything) == nil {
		return nil
	}
	return refuseGrant(a, errors.New("must have cluster-admin privileges to use the aggregationRule"))
}

func (p *rbacEscalation) binding(ctx context.Context, a *admission.Attributes, ref rbacv1.RoleRef) error {
	kind := "clusterroles"
	if ref.Kind == "Role" {
		kind = "roles"
	}
	if p.may(ctx, a, "bind", kind, ref.Name) {
		return nil
	}
	rules, err := p.grants.RoleRules(ctx, a.Namespace, ref)
	if err != nil {
		return err
	}
	return p.confirm(ctx, a, rules)
}

func (p *rbacEscalation) confirm(ctx context.Context, a *admission.Attributes, rules []rbacv1.PolicyRule) error {
	if err := p.grants.Confirm(ctx, a.User, a.Namespace, rules); err != nil {
		return refuseGrant(a, err)
	}
	return nil
}

// mayEscalate says whether the verb escalate is allowed on the role, or, when it has no name in the request yet, on all.
func (p *rbacEscalation) mayEscalate(ctx context.Context, a *admission.Attributes) bool {
	name := ""
	if a.Operation == admission.Update {
		name = a.Name
	} else if i := request.InfoOf(ctx); i != nil && i.Resource == a.Resource.Plural && i.Subresource == "" {
		name = i.Name // made by apply, or by an update that may create
	}
	return p.may(ctx, a, "escalate", a.Resource.Plural, name)
}

func (p *rbacEscalation) may(ctx context.Context, a *admission.Attributes, verb, plural, name string) bool {
	ok, _ := p.access.Allow(ctx, a.User, &request.Info{
		IsResource: true, Verb: verb, Group: rbacv1.GroupName, Version: "v1", Resource: plural, Namespace: a.Namespace, Name: name,
	})
	return ok
}

func refuseGrant(a *admission.Attributes, why error) error {
	return apierrors.NewForbidden(a.Resource.GroupResource(), a.Name, why)
}

// onlyCollection says whether nothing changes but owners and finalizers: the garbage collector must be able to finish a role that it
// could not grant.
func onlyCollection(now, old registry.Object) bool {
	was := old.DeepCopyObject().(registry.Object)
	was.SetOwnerReferences(now.GetOwnerReferences())
	was.SetFinalizers(now.GetFinalizers())
	was.SetManagedFields(now.GetManagedFields())
	was.SetResourceVersion(now.GetResourceVersion())
	return apiequality.Semantic.DeepEqual(now, was)
}
