// Package tokens gets the service account tokens that pods of this node mount, and says when to get the next: each is bound to its
// pod, so it ends with it.
//
// Tokens are kept in memory only, and never part of an error. A kubelet that starts again asks for new ones.
package tokens

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// When a token is replaced (https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken): at four fifths of
// its life, and at the latest after a day, each pod at its own moment.
const (
	oldest = 24 * time.Hour
	jitter = 10 * time.Second
	again  = 30 * time.Second // after a try that failed
	answer = 10 * time.Second // most time for one try
)

// Tokens gets and keeps tokens. Safe for concurrent use.
type Tokens struct {
	accounts corev1client.ServiceAccountsGetter // set once, as all in this group
	log      *zap.Logger
	now      func() time.Time

	mu   sync.Mutex
	kept map[types.UID]map[wish]kept // guarded by mu
}

// wish is a token that a pod mounts.
type wish struct {
	audience string
	seconds  int64
}

type kept struct {
	token        string
	renew, until time.Time
}

// New stores what it is given.
func New(accounts corev1client.ServiceAccountsGetter, log *zap.Logger) *Tokens {
	return &Tokens{accounts: accounts, log: log.Named("tokens"), now: time.Now, kept: map[types.UID]map[wish]kept{}}
}

// Token returns a valid token of the pod's service account as p wants it, and when to ask for the next. While no new one can be had,
// the one at hand is returned for as long as it lives.
func (t *Tokens) Token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (token string, renew time.Time, err error) {
	w := wish{audience: p.Audience, seconds: 3600}
	if p.ExpirationSeconds != nil {
		w.seconds = *p.ExpirationSeconds
	}
	t.mu.Lock()
	have := t.kept[pod.UID][w]
	t.mu.Unlock()
	now := t.now()
	if now.Before(have.renew) {
		return have.token, have.renew, nil
	}
	next, err := t.ask(ctx, pod, w)
	switch {
	case err == nil:
	case now.Before(have.until) && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err):
		t.log.Warn("a token could not be renewed: the old one stays until it ends", zap.String("pod", pod.Namespace+"/"+pod.Name),
			zap.Time("ends", have.until), zap.Error(err))
		next = have
		next.renew = now.Add(again)
	default:
		return "", time.Time{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept[pod.UID] == nil {
		t.kept[pod.UID] = map[wish]kept{}
	}
	t.kept[pod.UID][w] = next
	return next.token, next.renew, nil
}

// Forget drops the tokens of a pod that is gone.
func (t *Tokens) Forget(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.kept, uid)
}

func (t *Tokens) ask(ctx context.Context, pod *corev1.Pod, w wish) (kept, error) {
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &w.seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if w.audience != "" {
		r.Spec.Audiences = []string{w.audience}
	}
	asked := t.now()
	r, err := t.accounts.ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, r, metav1.CreateOptions{})
	if err != nil {
		return kept{}, err
	}
	// The life is counted on this clock: the API server's may differ.
	life := time.Duration(w.seconds) * time.Second
	if r.Spec.ExpirationSeconds != nil { // what was granted
		life = time.Duration(*r.Spec.ExpirationSeconds) * time.Second
	}
	return kept{r.Status.Token, asked.Add(young(life)), asked.Add(life)}, nil
}

// young is how long a token of this life is not replaced.
func young(life time.Duration) time.Duration {
	return min(life*4/5, oldest) - rand.N(min(jitter, life/10+1))
}
