package authn

import (
	"context"
	"crypto/subtle"
	"errors"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/request"
)

// joiners tells those who hold a token for joining the cluster, each of which is a secret
// (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/).
type joiners struct {
	objects Objects
	log     *zap.Logger
	now     func() time.Time
}

const (
	joinerPrefix      = "system:bootstrap:"
	joinersGroup      = "system:bootstrappers"
	joinerSecret      = "bootstrap-token-" // then the ID
	joinerSecretTyped = corev1.SecretType("bootstrap.kubernetes.io/token")
)

var (
	joinerToken = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	joinerGroup = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// Check implements Bearer. What is wrong with a token goes to the log alone: who holds it need not know what there is.
func (j *joiners) Check(ctx context.Context, token string, _ []string) (*Found, error) {
	parts := joinerToken.FindStringSubmatch(token)
	if parts == nil {
		return nil, ErrNotMine
	}
	id, secret := parts[1], parts[2]
	u, err := j.user(ctx, id, secret)
	if err != nil {
		return nil, err
	}
	return &Found{User: u, Still: func(ctx context.Context) error { _, err := j.user(ctx, id, secret); return err }}, nil
}

func (j *joiners) user(ctx context.Context, id, secret string) (*request.User, error) {
	s, err := j.objects.SecretAtHand(ctx, metav1.NamespaceSystem, joinerSecret+id)
	if apierrors.IsNotFound(err) {
		return nil, ErrNotMine
	}
	if err != nil {
		return nil, err
	}
	u, err := joinerOf(s, id, secret, j.now())
	if err != nil {
		j.log.Info("a token for joining is refused", zap.String("name", s.Name), zap.Error(err))
		return nil, ErrNotMine
	}
	return u, nil
}

// joinerOf reads what the secret says of the token.
func joinerOf(s *corev1.Secret, id, secret string, now time.Time) (*request.User, error) {
	text := func(key string) string { return string(s.Data[key]) }
	switch {
	case s.DeletionTimestamp != nil:
		return nil, errors.New("the secret is deleted and awaits removal")
	case s.Type != joinerSecretTyped:
		return nil, errors.New("the secret's type is not " + string(joinerSecretTyped))
	case subtle.ConstantTimeCompare(s.Data["token-secret"], []byte(secret)) != 1:
		return nil, errors.New("token-secret is not that of the token")
	case text("token-id") != id:
		return nil, errors.New("token-id is not that of the secret's name")
	case text("usage-bootstrap-authentication") != "true":
		return nil, errors.New("it is not for authentication (usage-bootstrap-authentication)")
	}
	if until := text("expiration"); until != "" {
		t, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return nil, errors.New("expiration is no time in RFC 3339 form")
		}
		if !now.Before(t) {
			return nil, errors.New("it has expired")
		}
	}
	u := &request.User{Name: joinerPrefix + id, Groups: []string{joinersGroup}}
	if more := text("auth-extra-groups"); more != "" {
		for g := range strings.SplitSeq(more, ",") {
			if !joinerGroup.MatchString(g) {
				return nil, errors.New("auth-extra-groups holds a group that does not match " + joinerGroup.String())
			}
			u.Groups = append(u.Groups, g)
		}
	}
	return u, nil
}
