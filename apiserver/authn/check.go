package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/request"
)

// What a service account is as a user (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#service-account-tokens).
const (
	AccountPrefix = "system:serviceaccount:" // then NAMESPACE:NAME
	accountsGroup = "system:serviceaccounts"

	extraCredential = "authentication.kubernetes.io/credential-id"
	extraPodName    = "authentication.kubernetes.io/pod-name"
	extraPodUID     = "authentication.kubernetes.io/pod-uid"
	extraNodeName   = "authentication.kubernetes.io/node-name"
	extraNodeUID    = "authentication.kubernetes.io/node-uid"
)

// AccountGroups are the groups of every service account of a namespace.
func AccountGroups(namespace string) []string {
	return []string{accountsGroup, accountsGroup + ":" + namespace}
}

func accountUser(namespace, name string) string { return AccountPrefix + namespace + ":" + name }

// Check tells whose a service account's token is. It is valid while its time is not over, the account is there, and so is what
// it is bound to, all with the UIDs they had.
func (t *Tokens) Check(ctx context.Context, token string, audiences []string) (*request.User, []string, error) {
	signed, err := jwt.ParseSigned(token, t.methods)
	if err != nil || len(t.keys) == 0 {
		return nil, nil, ErrNotMine
	}
	var issuer struct {
		Issuer string `json:"iss"`
	}
	if err := signed.UnsafeClaimsWithoutVerification(&issuer); err != nil || !slices.Contains(t.cfg.Issuers, issuer.Issuer) {
		return nil, nil, ErrNotMine
	}
	var claims jwt.Claims
	var own private
	if !t.verify(signed, &claims, &own) {
		return nil, nil, errors.New("invalid bearer token: its signature is of no key of this server")
	}
	if err := inTime(claims, t.now()); err != nil {
		return nil, nil, err
	}
	if len(audiences) == 0 {
		audiences = t.cfg.Audiences
	}
	var meant []string
	for _, a := range audiences {
		if claims.Audience.Contains(a) {
			meant = append(meant, a)
		}
	}
	if len(meant) == 0 {
		return nil, nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", []string(claims.Audience), audiences)
	}
	if claims.Subject != accountUser(own.Kubernetes.Namespace, own.Kubernetes.Account.Name) {
		return nil, nil, errors.New("invalid bearer token: its subject is not the service account that it names")
	}
	if err := t.alive(ctx, &own.Kubernetes); err != nil {
		return nil, nil, err
	}
	return userOf(&own.Kubernetes, claims.ID), meant, nil
}

// verify tries the key that the token names, or each when it names none that we know.
func (t *Tokens) verify(signed *jwt.JSONWebToken, claims *jwt.Claims, own *private) bool {
	named := ""
	if len(signed.Headers) > 0 {
		named = signed.Headers[0].KeyID
	}
	known := slices.ContainsFunc(t.keys, func(k *verifier) bool { return k.id == named })
	for _, k := range t.keys {
		if known && k.id != named {
			continue
		}
		if signed.Claims(k.key, claims, own) == nil {
			return true
		}
	}
	return false
}

func inTime(claims jwt.Claims, now time.Time) error {
	err := claims.Validate(jwt.Expected{Time: now})
	switch {
	case err == nil && claims.Expiry == nil:
		return errors.New("service account token has no expiration time")
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrExpired):
		return errors.New("service account token has expired")
	case errors.Is(err, jwt.ErrNotValidYet):
		return errors.New("service account token is not valid yet")
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return errors.New("service account token is issued in the future")
	}
	return errors.New("service account token claims could not be validated")
}

// alive says whether the account, and what the token is bound to, are still the ones it was issued for.
func (t *Tokens) alive(ctx context.Context, b *bound) error {
	// What has been marked as deleted for longer than clocks may differ does not count any more.
	since := t.now().Add(-jwt.DefaultLeeway)
	account, err := t.objects.ServiceAccount(ctx, b.Namespace, b.Account.Name)
	if err := same("service account", b.Namespace+"/"+b.Account.Name, account, err, b.Account.UID, since); err != nil {
		return err
	}
	if b.Secret != nil {
		secret, err := t.objects.Secret(ctx, b.Namespace, b.Secret.Name)
		if err := same("secret", b.Namespace+"/"+b.Secret.Name, secret, err, b.Secret.UID, since); err != nil {
			return err
		}
	}
	if b.Pod != nil {
		pod, err := t.objects.Pod(ctx, b.Namespace, b.Pod.Name)
		if err := same("pod", b.Namespace+"/"+b.Pod.Name, pod, err, b.Pod.UID, since); err != nil {
			return err
		}
	}
	if b.Node != nil && b.Pod == nil { // beside a pod it is only told
		node, err := t.objects.Node(ctx, b.Node.Name)
		if err := same("node", b.Node.Name, node, err, b.Node.UID, since); err != nil {
			return err
		}
	}
	return nil
}

// same says whether a looked-up object is the one that a token means. o may be a nil pointer when err is set.
func same(kind, name string, o metav1.Object, err error, uid string, since time.Time) error {
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("service account token has been invalidated: %s %s does not exist", kind, name)
	case err != nil:
		return fmt.Errorf("checking a service account token: %w", err)
	case string(o.GetUID()) != uid:
		return fmt.Errorf("%s UID (%s) does not match claim (%s)", kind, o.GetUID(), uid)
	}
	if gone := o.GetDeletionTimestamp(); gone != nil && gone.Time.Before(since) {
		return fmt.Errorf("service account token has been invalidated: %s %s has been deleted", kind, name)
	}
	return nil
}

func userOf(b *bound, id string) *request.User {
	u := &request.User{
		Name: accountUser(b.Namespace, b.Account.Name), UID: b.Account.UID,
		Groups: append(AccountGroups(b.Namespace), Authenticated),
	}
	add := func(key, value string) {
		if value == "" {
			return
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = []string{value}
	}
	if id != "" {
		add(extraCredential, "JTI="+id)
	}
	if b.Pod != nil {
		add(extraPodName, b.Pod.Name)
		add(extraPodUID, b.Pod.UID)
	}
	if b.Node != nil {
		add(extraNodeName, b.Node.Name)
		add(extraNodeUID, b.Node.UID)
	}
	return u
}
