package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// TokenConfig is filled from flags.
type TokenConfig struct {
	SigningKey string   // file; empty: no tokens are issued
	Keys       []string // files of keys that check tokens; none: the signing key's
	Issuers    []string // the first issues, all are accepted
	Audiences  []string // whom tokens are for that name nobody, and what this server answers to; none: the issuer
	KeysURL    string   // where others find the keys

	// What TokenRequests get (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/).
	LongestLife time.Duration // no token lives longer, but for those that Extend means; 0: as long as the API allows
	Extend      bool          // the tokens that kubelets mount live for a year, and tell when they should have been renewed
	// Unchecked tokens of secrets are believed without looking whether account and secret are still there.
	Unchecked bool
}

// Check says what is wrong with the configuration.
func (c TokenConfig) Check() error {
	if c.LongestLife != 0 && (c.LongestLife < time.Hour || c.LongestLife > longestLife) {
		return errors.New("the service-account-max-token-expiration must be between 1 hour and 2^32 seconds")
	}
	return nil
}

const longestLife = (1 << 32) * time.Second // that of the API

// Objects finds what tokens depend on; one that does not exist is an apierrors NotFound. A resource is a plural of the core group.
type Objects interface {
	// Revision is of the last change of an object. It is asked at each request, so it is quick.
	Revision(ctx context.Context, resource, namespace, name string) (int64, error)
	Meta(ctx context.Context, resource, namespace, name string) (*metav1.ObjectMeta, error)
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	// SecretAtHand costs the storage nothing, whatever name is asked for.
	SecretAtHand(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Marker notes on a secret that its token was used on a day (2006-01-02).
type Marker interface {
	MarkUsed(ctx context.Context, secret *corev1.Secret, day string) error
}

// Tokens issues and checks the tokens of service accounts: JSON web tokens (RFC 7519) with the claims documented at
// https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens. Safe for
// concurrent use.
type Tokens struct {
	cfg     TokenConfig
	objects Objects
	signer  jose.Signer // nil: none are issued
	keys    []*verifier
	methods []jose.SignatureAlgorithm
	now     func() time.Time
	metrics *metrics
	marker  Marker // nil: nothing is noted
	log     *zap.Logger
}

// Marks is who notes the use of tokens that are kept in secrets. It is set before the first token is checked.
func (t *Tokens) Marks(m Marker) { t.marker = m }

// Extends says whether tokens that kubelets mount live longer than they ask.
func (t *Tokens) Extends() bool { return t.cfg.Extend }

// LongestLife is how long a token may live; 0: as long as the API allows.
func (t *Tokens) LongestLife() time.Duration { return t.cfg.LongestLife }

// ErrNoSigner says that there is no key to sign with.
var ErrNoSigner = errors.New("this server has no key to sign tokens with (--service-account-signing-key-file)")

// NewTokens reads the keys.
func NewTokens(cfg TokenConfig, objects Objects, log *zap.Logger) (*Tokens, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	t := &Tokens{cfg: cfg, objects: objects, now: time.Now, log: log, metrics: newMetrics(prometheus.NewRegistry())}
	if len(t.cfg.Audiences) == 0 && len(cfg.Issuers) > 0 {
		t.cfg.Audiences = cfg.Issuers[:1]
	}
	for _, file := range cfg.Keys {
		keys, err := readVerifiers(file)
		if err != nil {
			return nil, err
		}
		t.keys = append(t.keys, keys...)
	}
	if cfg.SigningKey != "" {
		signer, own, err := readSigner(cfg.SigningKey)
		if err != nil {
			return nil, err
		}
		if len(cfg.Issuers) == 0 || cfg.Issuers[0] == "" {
			return nil, errors.New("tokens are to be signed, but their issuer has no name (--service-account-issuer)")
		}
		t.signer = signer
		if len(cfg.Keys) == 0 {
			t.keys = append(t.keys, own)
		}
	}
	for _, k := range t.keys {
		if !slices.Contains(t.methods, k.method) {
			t.methods = append(t.methods, k.method)
		}
	}
	return t, nil
}

// Audiences are whom a token is for that is asked for without saying.
func (t *Tokens) Audiences() []string { return t.cfg.Audiences }

// ref names an object inside a token.
type ref struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// bound is what a token says beside the registered claims.
type bound struct {
	Namespace string           `json:"namespace,omitempty"`
	Node      *ref             `json:"node,omitempty"`
	Pod       *ref             `json:"pod,omitempty"`
	Secret    *ref             `json:"secret,omitempty"`
	Account   ref              `json:"serviceaccount"`
	WarnAfter *jwt.NumericDate `json:"warnafter,omitempty"`
}

// private is where it says it.
type private struct {
	Kubernetes bound `json:"kubernetes.io"`
}

// Claim is a token that is to be.
type Claim struct {
	Account   *corev1.ServiceAccount
	Pod       metav1.Object // what the token is bound to: at most one of Pod and Secret; Node may stand alone or beside Pod
	Secret    metav1.Object
	Node      metav1.Object // with an empty UID when only its name is known
	Audiences []string
	Lifetime  time.Duration
	// WarnAfter, when not 0, is the lifetime that was asked for of a token that lives longer: use after that is use of a stale
	// token.
	WarnAfter time.Duration
}

// Issue signs a token. The error is ErrNoSigner when there is no key.
func (t *Tokens) Issue(c Claim) (token string, expires time.Time, err error) {
	if t.signer == nil {
		return "", time.Time{}, ErrNoSigner
	}
	now := t.now()
	expires = now.Add(c.Lifetime)
	own := private{bound{
		Namespace: c.Account.Namespace, Account: *refOf(c.Account), Node: refOf(c.Node), Pod: refOf(c.Pod), Secret: refOf(c.Secret),
	}}
	if c.WarnAfter > 0 {
		own.Kubernetes.WarnAfter = jwt.NewNumericDate(now.Add(c.WarnAfter))
	}
	token, err = jwt.Signed(t.signer).Claims(jwt.Claims{
		Issuer: t.cfg.Issuers[0], Subject: accountUser(c.Account.Namespace, c.Account.Name), Audience: c.Audiences,
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(expires),
		ID: string(uuid.NewUUID()),
	}).Claims(own).Serialize()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("signing a token of service account %s/%s: %w", c.Account.Namespace, c.Account.Name, err)
	}
	return token, expires, nil
}

// refOf takes a nil interface and gives nil.
func refOf(o metav1.Object) *ref {
	if o == nil {
		return nil
	}
	return &ref{o.GetName(), string(o.GetUID())}
}
