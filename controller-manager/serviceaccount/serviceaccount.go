// Package serviceaccount sees to it that every namespace has the service account default, which pods that name none run as
// (serviceaccount.go), and fills the secrets that hold tokens of accounts (tokens.go).
package serviceaccount

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
)

const name = "default"

type controller struct {
	t          loop.Tools
	namespaces corelisters.NamespaceLister
	accounts   corelisters.ServiceAccountLister
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	core := t.Informers.Core().V1()
	c := &controller{t: t, namespaces: core.Namespaces().Lister(), accounts: core.ServiceAccounts().Lister()}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "namespaces", Wakes: loop.Self},
			{Resource: "serviceaccounts", Wakes: loop.Func("its namespace, when the default one is gone", gone)},
		},
		Reconcile: c.reconcile,
	}
}

func gone(e loop.Event) []loop.Key {
	if e.New != nil || e.Old.GetName() != name {
		return nil
	}
	return []loop.Key{{Name: e.Old.GetNamespace()}}
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	ns, err := c.namespaces.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
		return 0, err
	}
	if _, err := c.accounts.ServiceAccounts(key.Name).Get(name); !apierrors.IsNotFound(err) {
		return 0, err
	}
	want := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: name}}
	_, err = c.t.Clients.Kube.CoreV1().ServiceAccounts(key.Name).Create(ctx, want, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, nil
	}
	return 0, fmt.Errorf("creating the service account %s: %w", name, err)
}
