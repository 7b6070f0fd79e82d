package authn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/hookclient"
	"pilothouse.dev/apiserver/request"
)

// WebhookConfig says how the service is asked that knows tokens
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication).
type WebhookConfig struct {
	File    string        // a kubeconfig; empty: there is none
	Version string        // of authentication.k8s.io: v1 or v1beta1
	TTL     time.Duration // how long its answers are believed, good and bad
}

// Check says what is wrong with the configuration.
func (c WebhookConfig) Check() error {
	if c.Version != "v1" && c.Version != "v1beta1" {
		return fmt.Errorf("--authentication-token-webhook-version %q: want v1 or v1beta1", c.Version)
	}
	return nil
}

// poster sends a review and reads the answer.
type poster interface {
	Post(ctx context.Context, in, out any) error
}

var _ poster = (*hookclient.Client)(nil)

// webhook asks a service. What it answers is believed for a while; that it cannot be asked is not.
type webhook struct {
	to  poster
	cfg WebhookConfig
	own []string
	now func() time.Time

	flight singleflight.Group // many requests with one token ask once

	mu         sync.Mutex
	young, old map[tokenHash]*answer // guarded by mu, as in cache
	born       time.Time             // guarded by mu
}

// answer is what the service says; found is nil of a token that it does not know.
type answer struct {
	found *Found
	err   error
	until time.Time
}

func newWebhook(to poster, cfg WebhookConfig, own []string) *webhook {
	return &webhook{to: to, cfg: cfg, own: own, now: time.Now, young: map[tokenHash]*answer{}}
}

// askTime bounds asking for all who wait, since the first of them may go away.
const askTime = 30 * time.Second

// Check implements Bearer.
func (w *webhook) Check(ctx context.Context, token string, audiences []string) (*Found, error) {
	hash := hashOf(token, audiences)
	a := w.known(hash)
	if a == nil {
		waiting := w.flight.DoChan(string(hash[:]), func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
			defer cancel()
			a, err := w.ask(ctx, token, audiences)
			if err == nil {
				w.keep(hash, a)
			}
			return a, err
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case got := <-waiting:
			if got.Err != nil {
				return nil, fmt.Errorf("asking the token webhook: %s", without(token, got.Err.Error()))
			}
			a = got.Val.(*answer)
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	found := *a.found
	return &found, nil
}

func (w *webhook) ask(ctx context.Context, token string, audiences []string) (*answer, error) {
	review := authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/" + w.cfg.Version, Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
	}
	var said authenticationv1.TokenReview
	if err := w.to.Post(ctx, &review, &said); err != nil {
		return nil, err
	}
	s := &said.Status
	have := w.own // a service that knows nothing of audiences speaks for this server
	if len(s.Audiences) > 0 {
		have = s.Audiences
	}
	meant := both(audiences, have)
	switch {
	case !s.Authenticated && s.Error != "":
		return &answer{err: errors.New(without(token, s.Error))}, nil
	case !s.Authenticated, len(meant) == 0:
		return &answer{err: ErrNotMine}, nil
	case s.User.Username == "":
		return &answer{err: errors.New("the token webhook names no user")}, nil
	}
	u := &request.User{Name: s.User.Username, UID: s.User.UID, Groups: s.User.Groups}
	for key, values := range s.User.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = values
	}
	return &answer{found: &Found{User: u, Audiences: meant}}, nil
}

// without is a text that the service wrote with the token taken out, should it have told it.
func without(token, text string) string { return strings.ReplaceAll(text, token, "<token>") }

func (w *webhook) known(hash tokenHash) *answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.young[hash]
	if a == nil {
		a = w.old[hash]
	}
	if a == nil || !w.now().Before(a.until) {
		return nil
	}
	return a
}

func (w *webhook) keep(hash tokenHash, a *answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	a.until = now.Add(w.cfg.TTL)
	if len(w.young) >= generation || now.Sub(w.born) > w.cfg.TTL {
		w.old, w.young, w.born = w.young, map[tokenHash]*answer{}, now
	}
	w.young[hash] = a
}
