// Package clusterrole gives aggregated cluster roles their rules: the union of the rules of all roles that their selectors select
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles). It is called by the loop, reads cluster
// roles from the cache, and writes the rules of those that have an aggregation rule and nothing else.
//
// What always holds: a role whose rules are the union already is not written, so roles that are part of each other come to rest.
package clusterrole

import (
	"context"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/roles"
)

type controller struct {
	t     loop.Tools
	roles rbaclisters.ClusterRoleLister
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	c := &controller{t: t, roles: t.Informers.Rbac().V1().ClusterRoles().Lister()}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "clusterroles.rbac.authorization.k8s.io", Wakes: loop.Any(
				loop.Func("itself, if it is aggregated", aggregated),
				loop.Func("the roles that select it, or did", c.selecting),
			)},
		},
		Reconcile: c.reconcile,
	}
}

func aggregated(e loop.Event) []loop.Key {
	if r, ok := e.New.(*rbacv1.ClusterRole); ok && r.AggregationRule != nil {
		return []loop.Key{loop.KeyOf(r)}
	}
	return nil
}

func (c *controller) selecting(e loop.Event) []loop.Key {
	all, err := c.roles.List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, whole := range all {
		if e.Old != nil && selects(whole, e.Old) || e.New != nil && selects(whole, e.New) {
			keys = append(keys, loop.KeyOf(whole))
		}
	}
	return keys
}

func selects(whole *rbacv1.ClusterRole, part metav1.Object) bool {
	if whole.AggregationRule == nil {
		return false
	}
	for i := range whole.AggregationRule.ClusterRoleSelectors {
		s, err := metav1.LabelSelectorAsSelector(&whole.AggregationRule.ClusterRoleSelectors[i])
		if err == nil && s.Matches(labels.Set(part.GetLabels())) {
			return true
		}
	}
	return false
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	have, err := c.roles.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || have.AggregationRule == nil || have.DeletionTimestamp != nil {
		return 0, err
	}
	all, err := c.roles.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	union, err := roles.Union(have, all)
	if err != nil {
		return 0, fmt.Errorf("reading the selectors: %w", err)
	}
	if equality.Semantic.DeepEqual(have.Rules, union) {
		return 0, nil
	}
	want := have.DeepCopy()
	want.Rules = union
	_, err = loop.Commit(ctx, c.t.Clients.Kube.RbacV1().ClusterRoles(), have, want)
	return 0, err
}
