package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

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
func (t *Tokens) Check(ctx context.Context, token string, audiences []string) (*Found, error) {
	signed, err := jwt.ParseSigned(token, t.methods) // refuses every other method, and «none»
	if err != nil || len(t.keys) == 0 {
		return nil, ErrNotMine
	}
	var issuer struct {
		Issuer string `json:"iss"`
	}
	if err := signed.UnsafeClaimsWithoutVerification(&issuer); err != nil {
		return nil, ErrNotMine
	}
	if issuer.Issuer == legacyIssuer {
		return t.checkLegacy(ctx, token, signed, audiences)
	}
	if !slices.Contains(t.cfg.Issuers, issuer.Issuer) {
		return nil, ErrNotMine
	}
	var claims jwt.Claims
	var own private
	if !t.verify(signed, &claims, &own) {
		return nil, errSignature
	}
	if err := inTime(claims, t.now()); err != nil {
		return nil, err
	}
	meant := both(audiences, claims.Audience)
	if len(meant) == 0 {
		return nil, wrongAudience(claims.Audience, audiences)
	}
	if claims.Subject != accountUser(own.Kubernetes.Namespace, own.Kubernetes.Account.Name) {
		return nil, errors.New("invalid bearer token: its subject is not the service account that it names")
	}
	u := &use{t: t, on: dependencies(&own.Kubernetes), subject: claims.Subject}
	if w := own.Kubernetes.WarnAfter; w != nil {
		u.warnAfter = w.Time()
	}
	if err := u.still(ctx); err != nil {
		return nil, err
	}
	return &Found{
		User: userOf(&own.Kubernetes, claims.ID), Audiences: meant,
		Until: claims.Expiry.Time().Add(jwt.DefaultLeeway), Still: u.still,
	}, nil
}

var errSignature = errors.New("invalid bearer token: its signature is of no key of this server")

func wrongAudience(have, want []string) error {
	return fmt.Errorf("token audiences %q is invalid for the target audiences %q", have, want)
}

// verify tries the key that the token names, or each when it names none that we know.
func (t *Tokens) verify(signed *jwt.JSONWebToken, into ...any) bool {
	if len(signed.Headers) != 1 {
		return false
	}
	named, method := signed.Headers[0].KeyID, signed.Headers[0].Algorithm
	known := slices.ContainsFunc(t.keys, func(k *verifier) bool { return k.id == named })
	for _, k := range t.keys {
		if known && k.id != named || string(k.method) != method {
			continue
		}
		if signed.Claims(k.key, into...) == nil {
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
