package filters

import (
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/apiserver/request"
)

// Authorize lets through what the caller may do, and answers 403 with the reason otherwise.
func Authorize(p Parts) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			i, u := request.InfoOf(r.Context()), request.UserOf(r.Context())
			v := p.May.Attempt(r.Context(), u, i)
			noteVerdict(r, v)
			if v.Decision == authz.Allowed {
				next.ServeHTTP(w, r)
				return
			}
			refuse(w, r, i, authz.Explain(u, i, v.Reason))
		})
	}
}

func refuse(w http.ResponseWriter, r *http.Request, i *request.Info, why string) {
	if i.IsResource {
		gr := schema.GroupResource{Group: i.Group, Resource: i.Resource}
		handlers.WriteError(w, r, apierrors.NewForbidden(gr, i.Name, errors.New(why)))
		return
	}
	handlers.WriteStatus(w, r, metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: "forbidden: " + why, Details: &metav1.StatusDetails{},
	})
}
