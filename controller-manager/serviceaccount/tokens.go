package serviceaccount

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/util/retry"

	"pilothouse.dev/controller-manager/loop"
)

// tokens fills the secrets of the type kubernetes.io/service-account-token that name an account: with a token that has no end, the
// authority of the API server, and the namespace. One whose account is gone, or another than it was filled for, is removed; and the
// account of one that is gone forgets it
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#token-controller).
type tokens struct {
	t        loop.Tools
	signer   *Signer
	caFile   string
	secrets  corelisters.SecretLister // only those of the type
	accounts corelisters.ServiceAccountLister
}

// Tokens returns the constructor. The file of the authority, which may be "", is read at each look, so that a renewed one needs no
// restart.
func Tokens(s *Signer, caFile string) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		typed := loop.Narrow(t, "secrets", "type="+string(corev1.SecretTypeServiceAccountToken))
		c := &tokens{
			t: t, signer: s, caFile: caFile,
			secrets:  corelisters.NewSecretLister(typed.GetIndexer()),
			accounts: t.Informers.Core().V1().ServiceAccounts().Lister(),
		}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "secrets", Only: typed, Wakes: loop.Self},
				{Resource: "serviceaccounts", Wakes: loop.Func("the secrets of its tokens", c.ofAccount)},
			},
			Reconcile: c.reconcile,
		}
	}
}

// ofAccount are the secrets of an account that appeared or is gone.
func (c *tokens) ofAccount(e loop.Event) []loop.Key {
	if e.Old != nil && e.New != nil && e.Old.GetUID() == e.New.GetUID() {
		return nil
	}
	all, err := c.secrets.Secrets(e.Last().GetNamespace()).List(everything)
	if err != nil {
		return nil // a lister of a cache does not fail
	}
	var keys []loop.Key
	for _, s := range all {
		if s.Annotations[corev1.ServiceAccountNameKey] == e.Last().GetName() {
			keys = append(keys, loop.KeyOf(s))
		}
	}
	return keys
}

func (c *tokens) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	have, err := c.secrets.Secrets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, c.forget(ctx, key)
	}
	if err != nil || have.DeletionTimestamp != nil {
		return 0, err
	}
	name, uid := have.Annotations[corev1.ServiceAccountNameKey], have.Annotations[corev1.ServiceAccountUIDKey]
	account, err := c.account(ctx, key.Namespace, name, uid)
	if err != nil {
		return 0, err
	}
	client := c.t.Clients.Kube.CoreV1().Secrets(key.Namespace)
	if account == nil {
		err := client.Delete(ctx, key.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return 0, fmt.Errorf("removing a token whose account is gone: %w", err)
		}
		return 0, nil
	}
	var ca []byte
	if c.caFile != "" {
		if ca, err = os.ReadFile(c.caFile); err != nil {
			return 0, fmt.Errorf("reading the root authority: %w", err)
		}
	}
	want, err := filled(have, account, ca, c.signer)
	if err != nil {
		return 0, err
	}
	_, err = loop.Commit(ctx, client, have, want)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}

// account is that of a secret: of the name, and with the UID if the secret says one. It is nil when there is none, which is asked of
// the API itself before a secret is removed for it.
func (c *tokens) account(ctx context.Context, namespace, name, uid string) (*corev1.ServiceAccount, error) {
	is := func(a *corev1.ServiceAccount) bool { return uid == "" || uid == string(a.UID) }
	if name == "" {
		return nil, nil
	}
	if a, err := c.accounts.ServiceAccounts(namespace).Get(name); err == nil && is(a) {
		return a, nil
	}
	a, err := c.t.Clients.Kube.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !is(a) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the account of a token: %w", err)
	}
	return a, nil
}

// filled is a secret with all that it should hold. A token that is there stays.
func filled(have *corev1.Secret, account *corev1.ServiceAccount, ca []byte, s *Signer) (*corev1.Secret, error) {
	want := have.DeepCopy()
	want.Annotations, want.Data = maps.Clone(want.Annotations), maps.Clone(want.Data)
	if want.Data == nil {
		want.Data = map[string][]byte{}
	}
	want.Annotations[corev1.ServiceAccountNameKey], want.Annotations[corev1.ServiceAccountUIDKey] = account.Name, string(account.UID)
	if len(ca) > 0 && !bytes.Equal(want.Data[corev1.ServiceAccountRootCAKey], ca) {
		want.Data[corev1.ServiceAccountRootCAKey] = ca
	}
	if len(want.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		want.Data[corev1.ServiceAccountNamespaceKey] = []byte(have.Namespace)
	}
	if len(want.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := s.token(account, have)
		if err != nil {
			return nil, err
		}
		want.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	return want, nil
}

// forget takes a secret that is gone out of the accounts that list it.
func (c *tokens) forget(ctx context.Context, key loop.Key) error {
	all, err := c.accounts.ServiceAccounts(key.Namespace).List(everything)
	if err != nil {
		return err
	}
	names := func(r corev1.ObjectReference) bool { return r.Name == key.Name }
	for _, a := range all {
		if !slices.ContainsFunc(a.Secrets, names) {
			continue
		}
		secrets, accounts := c.t.Clients.Kube.CoreV1().Secrets(key.Namespace), c.t.Clients.Kube.CoreV1().ServiceAccounts(key.Namespace)
		if _, err := secrets.Get(ctx, key.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return err // it is there again
		}
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			now, err := accounts.Get(ctx, a.Name, metav1.GetOptions{})
			if err != nil || now.UID != a.UID || !slices.ContainsFunc(now.Secrets, names) {
				return err
			}
			now.Secrets = slices.DeleteFunc(now.Secrets, names)
			_, err = accounts.Update(ctx, now, metav1.UpdateOptions{})
			return err
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("taking a token that is gone out of service account %s: %w", a.Name, err)
		}
	}
	return nil
}
