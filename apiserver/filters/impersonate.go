package filters

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/apiserver/request"
)

const (
	impersonate      = "Impersonate-"
	impersonateExtra = "Impersonate-Extra-"
	authentication   = "authentication.k8s.io"
)

// Impersonate lets a caller act as somebody else, if he may impersonate each thing that he says of him
// (https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/): the request goes on as the other's.
func Impersonate(p Parts) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !impersonates(r.Header) {
				next.ServeHTTP(w, r)
				return
			}
			who, asks, err := impersonated(r.Header)
			if err != nil {
				handlers.WriteError(w, r, apierrors.NewBadRequest(err.Error()))
				return
			}
			u := request.UserOf(r.Context())
			for _, i := range asks {
				if v := p.May.Decide(r.Context(), u, i); v.Decision != authz.Allowed {
					noteVerdict(r, v)
					refuse(w, r, i, authz.Explain(u, i, v.Reason))
					return
				}
			}
			for name := range r.Header {
				if strings.HasPrefix(name, impersonate) {
					r.Header.Del(name)
				}
			}
			request.RecordOf(r.Context()).Impersonate(who)
			request.SetUser(r.Context(), who)
			next.ServeHTTP(w, r)
		})
	}
}

func impersonates(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, impersonate) {
			return true
		}
	}
	return false
}

// accountOf takes the name of a service account apart; what is none is a user like any other.
func accountOf(user string) (namespace, name string, ok bool) {
	named, ok := strings.CutPrefix(user, authn.AccountPrefix)
	namespace, name, whole := strings.Cut(named, ":")
	ok = ok && whole && len(validation.ValidateNamespaceName(namespace, false)) == 0 && len(validation.ValidateServiceAccountName(name, false)) == 0
	return namespace, name, ok
}

// impersonated reads whom the headers name, and what of him must be allowed.
func impersonated(h http.Header) (*request.User, []*request.Info, error) {
	u := &request.User{Name: h.Get("Impersonate-User"), UID: h.Get("Impersonate-Uid"), Groups: slices.Clone(h.Values("Impersonate-Group"))}
	if u.Name == "" {
		return nil, nil, errors.New("an Impersonate- header is given without Impersonate-User: name the user as well")
	}
	of := func(gr schema.GroupResource, namespace, name, sub string) *request.Info {
		return &request.Info{
			Verb: "impersonate", IsResource: true, Group: gr.Group, Version: "v1", Namespace: namespace,
			Resource: gr.Resource, Name: name, Subresource: sub,
		}
	}
	var asks []*request.Info
	namespace, account, isAccount := accountOf(u.Name)
	if isAccount {
		asks = append(asks, of(schema.GroupResource{Resource: "serviceaccounts"}, namespace, account, ""))
	} else {
		asks = append(asks, of(schema.GroupResource{Resource: "users"}, "", u.Name, ""))
	}
	for _, g := range u.Groups {
		asks = append(asks, of(schema.GroupResource{Resource: "groups"}, "", g, ""))
	}
	if u.UID != "" {
		asks = append(asks, of(schema.GroupResource{Group: authentication, Resource: "uids"}, "", u.UID, ""))
	}
	for name, values := range h {
		key, ok := strings.CutPrefix(name, impersonateExtra)
		if !ok {
			continue
		}
		key = strings.ToLower(key)
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = append(u.Extra[key], values...)
		for _, v := range values {
			asks = append(asks, of(schema.GroupResource{Group: authentication, Resource: "userextras"}, "", v, key))
		}
	}
	if isAccount && len(u.Groups) == 0 {
		u.Groups = authn.AccountGroups(namespace)
	}
	switch {
	case u.Name == authn.Anonymous:
		if !u.InGroup(authn.Unauthenticated) {
			u.Groups = append(u.Groups, authn.Unauthenticated)
		}
	case !u.InGroup(authn.Authenticated) && !u.InGroup(authn.Unauthenticated):
		u.Groups = append(u.Groups, authn.Authenticated)
	}
	return u, asks, nil
}
