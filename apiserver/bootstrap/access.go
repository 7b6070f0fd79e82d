package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/auth/rbac/reconciliation"

	"pilothouse.dev/apiserver/bootstrap/policy"
	"pilothouse.dev/pkg/roles"
)

// access brings the default roles and bindings to the cluster, once: what is missing of them is added, what somebody has added
// stays, and an object annotated rbac.authorization.kubernetes.io/autoupdate=false is left alone
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation). When all is there it costs four lists from
// memory.
func (b *Bootstrap) access(ctx context.Context) error {
	began := time.Now()
	have, err := b.granted(ctx)
	if err != nil {
		return err
	}
	todo, err := b.reconcile(b.policy, have)
	if err != nil {
		return err
	}
	if err := together(ctx, todo); err != nil {
		return err
	}
	if len(todo) > 0 {
		if err := b.seen(ctx); err != nil {
			return err
		}
		b.log.Info("default roles and bindings were brought up to date", zap.Int("written", len(todo)), zap.Duration("in", time.Since(began)))
	}
	b.policy = nil
	b.rolesDone.Store(true)
	return nil
}

// RolesDone is a health check: an error until the default roles and bindings are there.
func (b *Bootstrap) RolesDone(context.Context) error {
	if !b.rolesDone.Load() {
		return errors.New("the default roles and bindings are not all there yet")
	}
	return nil
}

// grants are all roles and bindings of a cluster.
type grants struct {
	clusterRoles    *rbacv1.ClusterRoleList
	clusterBindings *rbacv1.ClusterRoleBindingList
	roles           *rbacv1.RoleList
	bindings        *rbacv1.RoleBindingList
}

// granted reads them from memory.
func (b *Bootstrap) granted(ctx context.Context) (*grants, error) {
	g, cached := &grants{}, metav1.ListOptions{ResourceVersion: "0"}
	var errs [4]error
	g.clusterRoles, errs[0] = b.rbac.ClusterRoles().List(ctx, cached)
	g.clusterBindings, errs[1] = b.rbac.ClusterRoleBindings().List(ctx, cached)
	g.roles, errs[2] = b.rbac.Roles("").List(ctx, cached)
	g.bindings, errs[3] = b.rbac.RoleBindings("").List(ctx, cached)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("reading roles and bindings: %w", err)
	}
	return g, nil
}

// seen returns when this server's memory shows what was written: from then on requests are decided by it.
func (b *Bootstrap) seen(ctx context.Context) error {
	newest := metav1.ListOptions{Limit: 1} // a read that names no version waits for the newest
	return together(ctx, []write{
		{"cluster roles", func(ctx context.Context) error { _, err := b.rbac.ClusterRoles().List(ctx, newest); return err }},
		{"cluster role bindings", func(ctx context.Context) error { _, err := b.rbac.ClusterRoleBindings().List(ctx, newest); return err }},
		{"roles", func(ctx context.Context) error { _, err := b.rbac.Roles("").List(ctx, newest); return err }},
		{"role bindings", func(ctx context.Context) error { _, err := b.rbac.RoleBindings("").List(ctx, newest); return err }},
	})
}

// write is one thing to do.
type write struct {
	what string
	do   func(context.Context) error
}

// atOnce is how many writes are under way at a time: etcd takes what comes together in one go.
const atOnce = 32

func together(ctx context.Context, todo []write) error {
	errs := make([]error, len(todo))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, w := range todo {
		slots <- struct{}{}
		wg.Go(func() {
			if err := w.do(ctx); err != nil {
				errs[i] = fmt.Errorf("%s: %w", w.what, err)
			}
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// reconcile says what must be written so that the cluster has at least what the policy wants. It asks nothing.
func (b *Bootstrap) reconcile(want *policy.Policy, have *grants) ([]write, error) {
	clusterRoles, err := b.clusterRoles(want.ClusterRoles, have.clusterRoles.Items)
	if err != nil {
		return nil, err
	}
	todo := clusterRoles
	known := ruleOwners{}
	for i := range have.roles.Items {
		known.put(reconciliation.RoleRuleOwner{Role: &have.roles.Items[i]})
	}
	for _, r := range want.Roles {
		role, op, err := known.reconcile(reconciliation.RoleRuleOwner{Role: r})
		if err != nil {
			return nil, err
		}
		if op != reconciliation.ReconcileNone {
			todo = append(todo, b.writeRole(role, op))
		}
	}
	bound := bindings{}
	for i := range have.clusterBindings.Items {
		bound.put(reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: &have.clusterBindings.Items[i]})
	}
	for i := range have.bindings.Items {
		bound.put(reconciliation.RoleBindingAdapter{RoleBinding: &have.bindings.Items[i]})
	}
	for _, r := range want.ClusterRoleBindings {
		if todo, err = b.bind(todo, bound, reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: r}); err != nil {
			return nil, err
		}
	}
	for _, r := range want.RoleBindings {
		if todo, err = b.bind(todo, bound, reconciliation.RoleBindingAdapter{RoleBinding: r}); err != nil {
			return nil, err
		}
	}
	return todo, nil
}

// clusterRoles is reconcile of cluster roles. An aggregated one that is not there begins with the union of what it is made of, so
// that it grants from the first moment; from then on its rules are the controller's.
func (b *Bootstrap) clusterRoles(want []*rbacv1.ClusterRole, have []rbacv1.ClusterRole) ([]write, error) {
	known, all := ruleOwners{}, map[string]*rbacv1.ClusterRole{}
	for i := range have {
		known.put(reconciliation.ClusterRoleRuleOwner{ClusterRole: &have[i]})
		all[have[i].Name] = &have[i]
	}
	var todo []write
	var unions []*rbacv1.ClusterRole
	for _, r := range want {
		owner, op, err := known.reconcile(reconciliation.ClusterRoleRuleOwner{ClusterRole: r})
		if err != nil {
			return nil, err
		}
		role := owner.(reconciliation.ClusterRoleRuleOwner).ClusterRole
		all[role.Name] = role
		if op == reconciliation.ReconcileCreate && role.AggregationRule != nil {
			unions = append(unions, role)
		}
		if op != reconciliation.ReconcileNone {
			todo = append(todo, b.writeRole(owner, op))
		}
	}
	list := make([]*rbacv1.ClusterRole, 0, len(all))
	for _, r := range all {
		list = append(list, r)
	}
	for _, r := range unions { // in the order of the table, in which parts stand before the whole
		rules, err := roles.Union(r, list)
		if err != nil {
			return nil, fmt.Errorf("aggregating cluster role %s: %w", r.Name, err)
		}
		r.Rules = rules
	}
	return todo, nil
}

func (b *Bootstrap) writeRole(role reconciliation.RuleOwner, op reconciliation.ReconcileOperation) write {
	var do func(context.Context) error
	create := op == reconciliation.ReconcileCreate
	switch o := role.(type) {
	case reconciliation.ClusterRoleRuleOwner:
		do = put(b.rbac.ClusterRoles(), o.ClusterRole, create)
	case reconciliation.RoleRuleOwner:
		do = put(b.rbac.Roles(o.Role.Namespace), o.Role, create)
	}
	return write{"bringing the role " + role.GetName() + " up to date", do}
}

// writer is the part of a typed client that put uses.
type writer[T any] interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
}

func put[T any](to writer[T], obj T, create bool) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		if create {
			_, err = to.Create(ctx, obj, metav1.CreateOptions{})
		} else {
			_, err = to.Update(ctx, obj, metav1.UpdateOptions{})
		}
		return err
	}
}

// ruleOwners are roles in memory, as the library asks for them: it decides, and writes nothing.
type ruleOwners map[string]reconciliation.RuleOwner

func (k ruleOwners) put(r reconciliation.RuleOwner) { k[r.GetNamespace()+"/"+r.GetName()] = r }

// reconcile is the role as it should be, and what must be done for it; nothing, too, when it is not to be touched.
func (k ruleOwners) reconcile(want reconciliation.RuleOwner) (reconciliation.RuleOwner, reconciliation.ReconcileOperation, error) {
	if have, ok := k[want.GetNamespace()+"/"+want.GetName()]; ok && same(have, want) {
		return have, reconciliation.ReconcileNone, nil
	}
	o := reconciliation.ReconcileRoleOptions{Role: want, Client: k}
	r, err := o.Run()
	if err != nil {
		return nil, "", fmt.Errorf("comparing role %s: %w", want.GetName(), err)
	}
	if r.Protected {
		return k[want.GetNamespace()+"/"+want.GetName()], reconciliation.ReconcileNone, nil
	}
	return r.Role, r.Operation, nil
}

// same says whether a role is just as it was made, which the library finds out by spelling out all rules: it would take most of
// the time of a start.
func same(have, want reconciliation.RuleOwner) bool {
	contains := func(have, want map[string]string) bool {
		for k, v := range want {
			if h, ok := have[k]; !ok || h != v {
				return false
			}
		}
		return true
	}
	return (equality.Semantic.DeepEqual(have.GetRules(), want.GetRules()) || want.GetAggregationRule() != nil) &&
		equality.Semantic.DeepEqual(have.GetAggregationRule(), want.GetAggregationRule()) &&
		contains(have.GetLabels(), want.GetLabels()) && contains(have.GetAnnotations(), want.GetAnnotations())
}

// Get and the methods below are the library's.
func (k ruleOwners) Get(namespace, name string) (reconciliation.RuleOwner, error) {
	if r, ok := k[namespace+"/"+name]; ok {
		return r, nil
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("roles"), name)
}

func (ruleOwners) Create(reconciliation.RuleOwner) (reconciliation.RuleOwner, error) {
	return nil, errors.ErrUnsupported
}

func (ruleOwners) Update(reconciliation.RuleOwner) (reconciliation.RuleOwner, error) {
	return nil, errors.ErrUnsupported
}
