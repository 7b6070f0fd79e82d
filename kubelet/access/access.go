// Package access says who calls this kubelet, and whether he may: a client certificate of the cluster or a bearer token says who, and
// the API server decides, as it decides everything, by its rules on the subresources of this node
// (https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/). server asks it before it does anything.
//
// What always holds: who is not known gets in only if anonymous callers are asked for; what the API server did not allow is refused,
// and so is everything that is new while it cannot be asked. Its answers are kept for a while.
package access

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
)

// The modes of authorization.
const (
	Webhook     = "Webhook" // the API server is asked
	AlwaysAllow = "AlwaysAllow"
)

// Config is filled from flags.
type Config struct {
	Node       string        // of this kubelet
	Mode       string        // Webhook or AlwaysAllow
	Anonymous  bool          // who shows nothing is system:anonymous, instead of nobody
	Tokens     bool          // bearer tokens are known
	TokenTTL   time.Duration // how long it is kept whose a token is
	AllowedTTL time.Duration // how long it is kept that somebody may
	RefusedTTL time.Duration // … that he may not
}

// Check says what is wrong with it.
func (c Config) Check() error {
	if c.Mode != Webhook && c.Mode != AlwaysAllow {
		return fmt.Errorf("--authorization-mode %q: want %s or %s", c.Mode, Webhook, AlwaysAllow)
	}
	return nil
}

// TokenReviews and AccessReviews are the parts of typed clients that are used.
type (
	TokenReviews interface {
		Create(context.Context, *authenticationv1.TokenReview, metav1.CreateOptions) (*authenticationv1.TokenReview, error)
	}
	AccessReviews interface {
		Create(context.Context, *authorizationv1.SubjectAccessReview, metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error)
	}
)

// User is who calls.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Access decides. Safe for concurrent use.
type Access struct {
	cfg    Config
	tokens TokenReviews
	access AccessReviews
	known  *cache.LRUExpireCache // User, by the hash of a token
	nobody *cache.LRUExpireCache // hashes of tokens that are nobody's
	said   *cache.LRUExpireCache // answer, by question
}

// forget is when it is asked again whether a token is nobody's.
const forget = 10 * time.Second

// kept is how many answers of a kind are.
const kept = 1024

// New stores what it is given.
func New(cfg Config, tokens TokenReviews, access AccessReviews) *Access {
	return &Access{cfg, tokens, access, cache.NewLRUExpireCache(kept), cache.NewLRUExpireCache(kept), cache.NewLRUExpireCache(kept)}
}

// ErrUnknown is returned for who is nobody.
var ErrUnknown = errors.New("unauthorized")

// patience is for one answer of the API server.
const patience = 10 * time.Second

// Who calls: ErrUnknown for nobody, another error when it cannot be found out.
func (a *Access) Who(r *http.Request) (User, error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		if s := r.TLS.VerifiedChains[0][0].Subject; s.CommonName != "" { // groups alone are nobody, as for the API server
			return User{Name: s.CommonName, Groups: append(append([]string{}, s.Organization...), "system:authenticated")}, nil
		}
	}
	if scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " "); a.cfg.Tokens && strings.EqualFold(scheme, "bearer") && token != "" {
		return a.bearer(r.Context(), strings.TrimSpace(token))
	}
	if r.Header.Get("Authorization") == "" && a.cfg.Anonymous {
		return User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, nil
	}
	return User{}, ErrUnknown
}

func (a *Access) bearer(ctx context.Context, token string) (User, error) {
	key := sha256.Sum256([]byte(token))
	if u, ok := a.known.Get(key); ok {
		return u.(User), nil
	}
	if _, ok := a.nobody.Get(key); ok {
		return User{}, ErrUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	review, err := a.tokens.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return User{}, fmt.Errorf("asking whose token it is: %w", err)
	}
	if !review.Status.Authenticated {
		a.nobody.Add(key, nil, min(a.cfg.TokenTTL, forget)) // in a memory of its own: who guesses tokens drives no good one out
		return User{}, ErrUnknown
	}
	from := review.Status.User
	u := User{Name: from.Username, UID: from.UID, Groups: from.Groups, Extra: map[string][]string{}}
	for k, v := range from.Extra {
		u.Extra[k] = v
	}
	a.known.Add(key, u, a.cfg.TokenTTL)
	return u, nil
}

// question is what a request asks of this node: allowed when any of the subresources is.
type question struct {
	verb         string
	subresources []string
}

// streams are paths whose GET does more than get: they run something in a container, or reach into it. Kubernetes asks the verb of
// the method there, so that whoever may only read through nodes/proxy can run commands by a WebSocket; here they are always a create.
var streams = []string{"/exec/", "/attach/", "/portForward/", "/run/"}

// Stream says whether a request runs something in a container or reaches into it.
func Stream(r *http.Request) bool {
	return slices.ContainsFunc(streams, func(s string) bool { return strings.HasPrefix(r.URL.Path, s) })
}

// ask reads a request as https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/#kubelet-authorization has it.
func ask(r *http.Request) question {
	q := question{verb: "", subresources: []string{"proxy"}}
	switch r.Method {
	case http.MethodPost:
		q.verb = "create"
	case http.MethodGet, http.MethodHead:
		q.verb = "get"
	case http.MethodPut:
		q.verb = "update"
	case http.MethodPatch:
		q.verb = "patch"
	case http.MethodDelete:
		q.verb = "delete"
	}
	if Stream(r) {
		q.verb = "create"
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch first {
	case "stats", "metrics", "spec", "checkpoint":
		q.subresources = []string{first}
	case "logs":
		q.subresources = []string{"log"}
	case "pods", "runningpods":
		q.subresources = []string{"pods", "proxy"}
	case "healthz", "livez", "readyz":
		q.subresources = []string{"healthz", "proxy"}
	case "configz":
		q.subresources = []string{"configz", "proxy"}
	}
	return q
}

// May says whether u may do what r asks, and if not, why, for the client. An error is that it could not be found out.
func (a *Access) May(r *http.Request, u User) (why string, err error) {
	if a.cfg.Mode == AlwaysAllow {
		return "", nil
	}
	q := ask(r)
	var said []string
	for _, sub := range q.subresources {
		ok, reason, err := a.allowed(r.Context(), u, q.verb, sub)
		if err != nil {
			return "", fmt.Errorf("authorization error (user=%s, verb=%s, resource=nodes, subresource(s)=%v): %w", u.Name, q.verb, q.subresources, err)
		}
		if ok {
			return "", nil
		}
		if reason != "" {
			said = append(said, reason)
		}
	}
	why = fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", u.Name, q.verb, q.subresources)
	if len(said) > 0 {
		why += ": " + strings.Join(said, "; ")
	}
	return why, nil
}

type answer struct {
	ok     bool
	reason string
}

func (a *Access) allowed(ctx context.Context, u User, verb, subresource string) (bool, string, error) {
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: u.Name, UID: u.UID, Groups: u.Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: a.cfg.Node,
		},
	}
	for k, v := range u.Extra {
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[k] = v
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return false, "", err
	}
	key := sha256.Sum256(text)
	if have, ok := a.said.Get(key); ok {
		return have.(answer).ok, have.(answer).reason, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	review, err := a.access.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return false, "", err
	}
	got, ttl := answer{review.Status.Allowed, review.Status.Reason}, a.cfg.AllowedTTL
	if !got.ok {
		ttl = a.cfg.RefusedTTL
	}
	a.said.Add(key, got, ttl)
	return got.ok, got.reason, nil
}
