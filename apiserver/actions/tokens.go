package actions

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// Tokens issues tokens of service accounts.
type Tokens interface {
	Issue(c authn.Claim) (token string, expires time.Time, err error)
	Audiences() []string        // whom a token is for that is asked for without saying
	LongestLife() time.Duration // of a token; 0: as long as the API allows
	Extends() bool              // tokens that kubelets mount live longer than they ask
}

// Bounds of a token's life (https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/).
const (
	defaultLife  = int64(3600)
	shortestLife = int64(600)
	longestLife  = int64(1) << 32
	// A kubelet that mounts a token asks for exactly this life. It gets one that lives longer and tells its age, so that a client
	// which reads the file only once goes on working while its mistake can be noticed
	// (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/, --service-account-extend-token-expiration).
	warnedLife   = int64(3607)
	extendedLife = 365 * 24 * time.Hour
)

var tokenRequestKind = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")

// token issues a token: POST serviceaccounts/NAME/token.
func (p Parts) token(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	t := &authenticationv1.TokenRequest{}
	if err := read(r, tokenRequestKind, t); err != nil {
		return err
	}
	account, err := p.Objects.ServiceAccount(r.Context(), i.Namespace, i.Name)
	if err != nil {
		return err
	}
	if err := p.prepare(t, account); err != nil {
		return err
	}
	if most := int64(p.Tokens.LongestLife() / time.Second); most > 0 && *t.Spec.ExpirationSeconds > most {
		request.Warn(r.Context(), fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", *t.Spec.ExpirationSeconds, most))
		t.Spec.ExpirationSeconds = &most
	}
	if err := p.admit(r.Context(), on, admission.Create, "token", keyOf(i), t, dryRun(r)); err != nil {
		return err
	}
	claim := authn.Claim{
		Account: account, Audiences: t.Spec.Audiences, Lifetime: time.Duration(*t.Spec.ExpirationSeconds) * time.Second,
	}
	if ref := t.Spec.BoundObjectRef; ref != nil {
		if err := p.bindToken(r.Context(), ref, account, &claim); err != nil {
			return err
		}
	}
	asked := claim.Lifetime
	if p.Tokens.Extends() && claim.Pod != nil && *t.Spec.ExpirationSeconds == warnedLife && sameSet(t.Spec.Audiences, p.Tokens.Audiences()) {
		claim.Lifetime, claim.WarnAfter = extendedLife, asked
	}
	text, expires, err := p.Tokens.Issue(claim)
	if errors.Is(err, authn.ErrNoSigner) {
		return apierrors.NewServiceUnavailable(err.Error())
	}
	if err != nil {
		return err
	}
	if request.Audited(r.Context()) {
		request.Note(r.Context(), "authentication.kubernetes.io/issued-credential-id", credential(text))
	}
	// Who asked is told the time that he asked for, so that he comes back for a new one then.
	t.Status = authenticationv1.TokenRequestStatus{Token: text, ExpirationTimestamp: metav1.NewTime(expires.Add(asked - claim.Lifetime))}
	return write(w, r, http.StatusCreated, t, tokenRequestKind)
}

// credential is the name by which users of a token are known in audit, without the token.
func credential(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	claims, _, _ := strings.Cut(rest, ".")
	var c struct {
		ID string `json:"jti"`
	}
	b, err := base64.RawURLEncoding.DecodeString(claims)
	if err != nil || json.Unmarshal(b, &c) != nil {
		return "" // it was just made: no such thing
	}
	return "JTI=" + c.ID
}

// prepare fills and checks what is asked for.
func (p Parts) prepare(t *authenticationv1.TokenRequest, account *corev1.ServiceAccount) error {
	if t.Name != "" && t.Name != account.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the provided object does not match the name sent on the request (%s, %s)", t.Name, account.Name))
	}
	if t.Namespace != "" && t.Namespace != account.Namespace {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the namespace of the provided object does not match the namespace sent on the request (%s, %s)", t.Namespace, account.Namespace))
	}
	t.Name, t.Namespace, t.CreationTimestamp = account.Name, account.Namespace, metav1.Now().Rfc3339Copy()
	t.Status = authenticationv1.TokenRequestStatus{}
	t.Spec.Attestations = nil // a field that is not on by default
	if len(t.Spec.Audiences) == 0 {
		t.Spec.Audiences = slices.Clone(p.Tokens.Audiences())
	}
	if t.Spec.ExpirationSeconds == nil {
		life := defaultLife
		t.Spec.ExpirationSeconds = &life
	}
	path, life := field.NewPath("spec", "expirationSeconds"), *t.Spec.ExpirationSeconds
	var errs field.ErrorList
	if life < shortestLife {
		errs = append(errs, field.Invalid(path, life, "may not specify a duration less than 10 minutes"))
	}
	if life > longestLife {
		errs = append(errs, field.Invalid(path, life, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(tokenRequestKind.GroupKind(), "", errs)
	}
	return nil
}

// bindToken finds what a token is to be bound to.
func (p Parts) bindToken(ctx context.Context, ref *authenticationv1.BoundObjectReference, account *corev1.ServiceAccount, c *authn.Claim) error {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	var have types.UID
	switch gvk {
	case core("Pod"):
		pod, err := p.Objects.Pod(ctx, account.Namespace, ref.Name)
		if err != nil {
			return err
		}
		if pod.Spec.ServiceAccountName != account.Name {
			return apierrors.NewBadRequest(fmt.Sprintf(
				"cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account.Name))
		}
		c.Pod, have = pod, pod.UID
		if c.Node, err = p.nodeOf(ctx, pod); err != nil {
			return err
		}
	case core("Secret"):
		secret, err := p.Objects.Secret(ctx, account.Namespace, ref.Name)
		if err != nil {
			return err
		}
		c.Secret, have = secret, secret.UID
	case core("Node"):
		node, err := p.Objects.Node(ctx, ref.Name)
		if err != nil {
			return err
		}
		c.Node, have = node, node.UID
	default:
		return apierrors.NewBadRequest("cannot bind token to object of type " + gvk.String())
	}
	if ref.UID != "" && ref.UID != have {
		return apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, ref.Name, fmt.Errorf(
			"the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return nil
}

// nodeOf is the node of a pod, nil before it has one. A node that has no object is known by its name.
func (p Parts) nodeOf(ctx context.Context, pod *corev1.Pod) (metav1.Object, error) {
	if pod.Spec.NodeName == "" {
		return nil, nil
	}
	node, err := p.Objects.Node(ctx, pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return &metav1.ObjectMeta{Name: pod.Spec.NodeName}, nil
	}
	if err != nil {
		return nil, err
	}
	return node, nil
}

func sameSet(a, b []string) bool {
	in := func(all []string) func(string) bool { return func(s string) bool { return !slices.Contains(all, s) } }
	return !slices.ContainsFunc(a, in(b)) && !slices.ContainsFunc(b, in(a))
}
