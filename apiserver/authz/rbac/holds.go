package rbac

import (
	"context"
	"errors"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/authz/rules"
	"pilothouse.dev/apiserver/request"
)

// newest is refresh up to all that was acknowledged before: a role that was made a moment ago can be bound, and one that was changed a
// moment ago is not taken for what it was.
func (e *Engine) newest(ctx context.Context) error {
	for i := range e.follows {
		if err := e.follows[i].feed.Newest(ctx); err != nil {
			return err
		}
	}
	return e.refresh(ctx)
}

// Confirm refuses to let u grant rules in a namespace (none: cluster-wide) that he does not hold there by roles. The error is for the
// client (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping).
func (e *Engine) Confirm(ctx context.Context, u *request.User, namespace string, wanted []rbacv1.PolicyRule) error {
	err := e.newest(ctx)
	held, lost := e.held(u, namespace)
	missing, many := rules.Missing(held, wanted)
	if many == nil && len(missing) == 0 && err == nil {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "user %q (groups=%q) is attempting to grant RBAC permissions not currently held:", u.Name, u.Groups)
	for i := range missing {
		b.WriteString("\n" + rules.Describe(&missing[i]))
	}
	if many != nil {
		b.WriteString("\n" + many.Error())
	}
	if err != nil {
		lost = append(lost, err.Error())
	}
	if len(lost) > 0 {
		fmt.Fprintf(&b, "; resolution errors: %s", list(lost))
	}
	return errors.New(b.String())
}

// RoleRules are what a role grants that a binding in a namespace (none: a cluster role binding) names. A role that does not exist is
// an apierrors NotFound.
func (e *Engine) RoleRules(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	err := e.newest(ctx)
	e.mu.RLock()
	defer e.mu.RUnlock()
	key := roleKey(namespace, &ref)
	r := e.index.roles[key]
	switch {
	case err != nil:
		return nil, fmt.Errorf("looking up the role %s: %w", key, err)
	case r != nil && r.exists:
		return r.policy, nil
	}
	kind := "clusterroles"
	if key.Namespace != "" {
		kind = "roles"
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: kind}, ref.Name)
}
