package authn

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/request"
)

// The tokens that secrets of the type kubernetes.io/service-account-token hold: they have no end of their own and are for nobody
// named, and live as long as their secret and its account
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#manual-secret-management-for-serviceaccounts).
const (
	legacyIssuer = "kubernetes/serviceaccount"

	// The labels of their secrets.
	lastUsed     = "kubernetes.io/legacy-token-last-used"
	invalidSince = "kubernetes.io/legacy-token-invalid-since"
)

// inSecret is what such a token says beside issuer and subject.
type inSecret struct {
	Account    string `json:"kubernetes.io/serviceaccount/service-account.name"`
	AccountUID string `json:"kubernetes.io/serviceaccount/service-account.uid"`
	Secret     string `json:"kubernetes.io/serviceaccount/secret.name"`
	Namespace  string `json:"kubernetes.io/serviceaccount/namespace"`
}

// secretUse is such a token in use.
type secretUse struct {
	t       *Tokens
	in      inSecret
	token   string
	account *dependency
	seen    atomic.Int64 // the revision of the secret that was found good
}

func (t *Tokens) checkLegacy(ctx context.Context, token string, signed *jwt.JSONWebToken, audiences []string) (*Found, error) {
	var claims jwt.Claims
	var in inSecret
	if !t.verify(signed, &claims, &in) {
		return nil, errSignature
	}
	if err := claims.Validate(jwt.Expected{Time: t.now()}); err != nil {
		return nil, errors.New("service account token claims could not be validated")
	}
	for _, c := range [][2]string{
		{"sub", claims.Subject}, {"namespace", in.Namespace}, {"secretName", in.Secret}, {"serviceAccountName", in.Account}, {"serviceAccountUID", in.AccountUID},
	} {
		if c[1] == "" {
			return nil, fmt.Errorf("%s claim is missing", c[0])
		}
	}
	if claims.Subject != accountUser(in.Namespace, in.Account) {
		return nil, errors.New("sub claim is invalid")
	}
	own := t.cfg.Audiences
	if len(claims.Audience) > 0 {
		own = claims.Audience
	}
	meant := both(audiences, own)
	if len(meant) == 0 {
		return nil, wrongAudience(own, audiences)
	}
	t.metrics.legacy.Inc()
	request.Note(ctx, "authentication.k8s.io/legacy-token", claims.Subject)
	u := &request.User{Name: claims.Subject, UID: in.AccountUID, Groups: append(AccountGroups(in.Namespace), Authenticated)}
	found := &Found{User: u, Audiences: meant}
	if claims.Expiry != nil {
		found.Until = claims.Expiry.Time()
	}
	if !t.cfg.Unchecked {
		s := &secretUse{t: t, in: in, token: token, account: &dependency{
			resource: "serviceaccounts", what: "service account", namespace: in.Namespace, name: in.Account, uid: in.AccountUID,
		}}
		if err := s.still(ctx); err != nil {
			return nil, err
		}
		found.Still = s.still
	}
	return found, nil
}

// still says whether the account and the secret are there and the secret holds the token. It is looked into when it has changed.
func (s *secretUse) still(ctx context.Context) error {
	if err := s.account.check(ctx, s.t.objects, s.t.now()); err != nil {
		return err
	}
	revision, err := s.t.objects.Revision(ctx, "secrets", s.in.Namespace, s.in.Secret)
	if apierrors.IsNotFound(err) {
		return errInvalidated
	}
	if err != nil {
		return fmt.Errorf("checking a service account token: %w", err)
	}
	if s.seen.Load() == revision {
		return nil
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	s.seen.Store(revision)
	return nil
}

var errInvalidated = errors.New("service account token has been invalidated")

func (s *secretUse) look(ctx context.Context) error {
	secret, err := s.t.objects.Secret(ctx, s.in.Namespace, s.in.Secret)
	if apierrors.IsNotFound(err) {
		return errInvalidated
	}
	if err != nil {
		return fmt.Errorf("checking a service account token: %w", err)
	}
	if secret.DeletionTimestamp != nil || secret.Type != corev1.SecretTypeServiceAccountToken {
		return errInvalidated
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(s.token)) != 1 {
		return errors.New("service account token does not match server's copy")
	}
	// Of another account, or of one of the same name that is gone.
	if uid := secret.Annotations[corev1.ServiceAccountUIDKey]; secret.Annotations[corev1.ServiceAccountNameKey] != s.in.Account || uid != "" && uid != s.in.AccountUID {
		return errInvalidated
	}
	if secret.Labels[invalidSince] != "" {
		s.t.metrics.legacyInvalid.Inc()
		request.Note(ctx, "authentication.k8s.io/legacy-token-invalidated", secret.Name+"/"+secret.Namespace)
		s.mark(ctx, secret)
		return fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or "+
			"manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			secret.Namespace, secret.Name, s.in.Namespace, s.in.Account, invalidSince)
	}
	account, err := s.t.objects.ServiceAccount(ctx, s.in.Namespace, s.in.Account)
	if err != nil {
		return s.account.missing(err)
	}
	if slices.ContainsFunc(account.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret.Name }) {
		s.t.metrics.legacyAuto.Inc()
		request.Warn(ctx, "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.")
		request.Note(ctx, "authentication.k8s.io/legacy-token-autogenerated-secret", secret.Name)
	} else {
		s.t.metrics.legacyManual.Inc()
		request.Note(ctx, "authentication.k8s.io/legacy-token-manual-secret", secret.Name)
	}
	s.mark(ctx, secret)
	return nil
}

// markTime bounds the note, for which the request waits, once a day.
const markTime = 5 * time.Second

// mark notes the day on the secret. That it cannot be noted does not make the token invalid.
func (s *secretUse) mark(ctx context.Context, secret *corev1.Secret) {
	now := s.t.now().UTC()
	today, tomorrow := now.Format(time.DateOnly), now.AddDate(0, 0, 1).Format(time.DateOnly)
	// Tomorrow, by a server whose clock goes before.
	if have := secret.Labels[lastUsed]; s.t.marker == nil || have == today || have == tomorrow {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTime)
	defer cancel()
	if err := s.t.marker.MarkUsed(ctx, secret, today); err != nil {
		s.t.log.Warn("the use of a token kept in a secret is not noted", zap.String("namespace", secret.Namespace), zap.String("name", secret.Name), zap.Error(err))
	}
}
