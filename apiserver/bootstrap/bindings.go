package bootstrap

import (
	"context"
	"errors"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
)

// bindings are role bindings in memory, as the library asks for them: it decides, and writes nothing.
type bindings map[string]reconciliation.RoleBinding

func (k bindings) put(r reconciliation.RoleBinding) { k[r.GetNamespace()+"/"+r.GetName()] = r }

// bind appends what must be written for one binding. One that gives another role is made anew, as its role cannot be changed.
func (b *Bootstrap) bind(todo []write, have bindings, want reconciliation.RoleBinding) ([]write, error) {
	o := reconciliation.ReconcileRoleBindingOptions{RoleBinding: want, Client: have}
	r, err := o.Run()
	if err != nil {
		return nil, fmt.Errorf("comparing the binding %s: %w", want.GetName(), err)
	}
	if r.Protected || r.Operation == reconciliation.ReconcileNone {
		return todo, nil
	}
	create := r.Operation != reconciliation.ReconcileUpdate
	var do func(context.Context) error
	var remove func(context.Context, string, metav1.DeleteOptions) error
	switch o := r.RoleBinding.(type) {
	case reconciliation.ClusterRoleBindingAdapter:
		to := b.rbac.ClusterRoleBindings()
		do, remove = put(to, o.ClusterRoleBinding, create), to.Delete
	case reconciliation.RoleBindingAdapter:
		to := b.rbac.RoleBindings(o.RoleBinding.Namespace)
		do, remove = put(to, o.RoleBinding, create), to.Delete
	}
	if r.Operation == reconciliation.ReconcileRecreate {
		again, uid := do, have[want.GetNamespace()+"/"+want.GetName()].GetUID()
		do = func(ctx context.Context) error {
			err := remove(ctx, want.GetName(), *metav1.NewPreconditionDeleteOptions(string(uid)))
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			return again(ctx)
		}
	}
	return append(todo, write{"bringing the binding " + want.GetName() + " up to date", do}), nil
}

// Get and the methods below are the library's.
func (k bindings) Get(namespace, name string) (reconciliation.RoleBinding, error) {
	if r, ok := k[namespace+"/"+name]; ok {
		return r, nil
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("rolebindings"), name)
}

func (bindings) Delete(string, string, types.UID) error { return errors.ErrUnsupported }

func (bindings) Create(reconciliation.RoleBinding) (reconciliation.RoleBinding, error) {
	return nil, errors.ErrUnsupported
}

func (bindings) Update(reconciliation.RoleBinding) (reconciliation.RoleBinding, error) {
	return nil, errors.ErrUnsupported
}
