package main

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/client"
)

// grants is what a cluster's installer grants beyond the default roles, by the names that kubeadm uses where it has one: a binding of
// a cluster role to a user or a group.
var grants = []struct{ binding, role, kind, subject string }{
	{adminGroup, "cluster-admin", rbacv1.GroupKind, adminGroup},
	{kubeletClient, "system:kubelet-api-admin", rbacv1.UserKind, kubeletClient},
}

// grant makes the bindings that are missing; what an administrator has made of the others stays.
func (c *cluster) grant(ctx context.Context) error {
	cfg, err := client.Load(c.kubeconfigOf(superAdmin), "cluster")
	if err != nil {
		return err
	}
	clients, err := client.New(cfg)
	if err != nil {
		return err
	}
	bindings := clients.Kube.RbacV1().ClusterRoleBindings()
	for _, g := range grants {
		_, err := bindings.Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: g.binding},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: g.role},
			Subjects:   []rbacv1.Subject{{Kind: g.kind, APIGroup: rbacv1.GroupName, Name: g.subject}},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("granting %s to %s: %w", g.role, g.subject, err)
		}
	}
	return nil
}
