// Package accounts gives each controller an identity of its own: the service account kube-system/NAME, which has the rights of the
// role system:controller:NAME and no others (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#controller-roles). It
// asks the API server for short-lived tokens in the controller manager's name and makes accounts that are missing. main makes it;
// loop asks it.
//
// What always holds: a token is asked for when it is needed and renewed when a fifth of its life is left; one that is refused is
// not used again; all accounts share one connection to the API server, which bears no certificate; nothing is kept on disk.
package accounts

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/client"
)

// life is how long a token is asked for.
const life = time.Hour

// Accounts are all identities of one process. Safe for concurrent use.
type Accounts struct {
	anonymous *rest.Config
	issuer    issuer

	mu   sync.Mutex
	made map[string]made // guarded by mu
}

type made struct {
	clients *client.Clients
	bearer  *bearer
}

// issuer is where tokens come from: a token and how long it is good.
type issuer func(ctx context.Context, name string) (string, time.Time, error)

// New makes accounts with tokens asked for by kube. anonymous has the transport that all share (client.Anonymous). Nothing is dialled yet.
func New(anonymous *rest.Config, kube typedcorev1.CoreV1Interface) *Accounts {
	return &Accounts{anonymous: anonymous, issuer: issue(kube.ServiceAccounts(metav1.NamespaceSystem)), made: map[string]made{}}
}

// As are the clients of one account, the same each time, and what says whether they can be used yet: nil once there is a token. A
// request that is made before waits for its token, and fails if none can be had.
func (a *Accounts) As(name string) (*client.Clients, func(context.Context) error, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, ok := a.made[name]
	if !ok {
		m.bearer = &bearer{name: name, next: a.anonymous.Transport, issue: a.issuer}
		cfg := rest.CopyConfig(a.anonymous)
		cfg.Transport = m.bearer
		cfg.UserAgent += "/" + name
		var err error
		if m.clients, err = client.New(cfg); err != nil {
			return nil, nil, fmt.Errorf("service account %s: %w", name, err)
		}
		a.made[name] = m
	}
	return m.clients, func(ctx context.Context) error { _, err := m.bearer.token(ctx); return err }, nil
}

// issue asks for tokens, and makes the account when there is none.
func issue(accounts typedcorev1.ServiceAccountInterface) issuer {
	return func(ctx context.Context, name string) (string, time.Time, error) {
		seconds := int64(life.Seconds())
		ask := func() (*authenticationv1.TokenRequest, error) {
			return accounts.CreateToken(ctx, name, &authenticationv1.TokenRequest{
				Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
			}, metav1.CreateOptions{})
		}
		t, err := ask()
		if apierrors.IsNotFound(err) {
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name}}
			if _, err = accounts.Create(ctx, account, metav1.CreateOptions{}); err == nil || apierrors.IsAlreadyExists(err) {
				t, err = ask()
			}
		}
		if err != nil {
			return "", time.Time{}, fmt.Errorf("asking for a token of the service account %s/%s: %w", metav1.NamespaceSystem, name, err)
		}
		return t.Status.Token, t.Status.ExpirationTimestamp.Time, nil
	}
}

// bearer adds an account's token to requests. Safe for concurrent use.
type bearer struct {
	name  string
	next  http.RoundTripper
	issue issuer

	mu    sync.Mutex // held while asking
	value string     // guarded by mu
	renew time.Time  // guarded by mu: when to ask for another
	ends  time.Time  // guarded by mu
}

// RoundTrip sends a request with the token. A token that is refused, as after its account was made anew, is forgotten: whoever
// tries again gets another.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.token(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as a transport must; the error that counts is the token's
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := b.next.RoundTrip(r)
	if err == nil && answer.StatusCode == http.StatusUnauthorized {
		b.forget(token)
	}
	return answer, err
}

// WrappedRoundTripper lets apimachinery find what is below.
func (b *bearer) WrappedRoundTripper() http.RoundTripper { return b.next }

// Pauses after a renewal that failed while the token is still good.
const again = 10 * time.Second

func (b *bearer) token(ctx context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.value != "" && now.Before(b.renew) {
		return b.value, nil
	}
	value, ends, err := b.issue(ctx, b.name)
	switch {
	case err == nil:
		b.value, b.ends = value, ends
		b.renew = now.Add(ends.Sub(now) * 4 / 5)
	case b.value != "" && now.Before(b.ends): // it will do until there is another
		b.renew = now.Add(again)
	default:
		return "", err
	}
	return b.value, nil
}

func (b *bearer) forget(token string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.value == token {
		b.value = ""
	}
}
