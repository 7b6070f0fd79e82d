package actions

import (
	"context"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// Bearers tell whose a token is, and those of the audiences that it is for; without audiences, this server's own are meant.
type Bearers interface {
	Check(ctx context.Context, token string, audiences []string) (*request.User, []string, error)
}

// reviewToken says whose a token is: POST tokenreviews. That a token is not valid is an answer, not an error.
func (p Parts) reviewToken(w http.ResponseWriter, r *http.Request, on *registry.Resource, _ *request.Info) error {
	t := &authenticationv1.TokenReview{}
	if err := read(r, on.GVK, t); err != nil {
		return err
	}
	if t.Namespace != "" {
		return apierrors.NewBadRequest("namespace is not allowed on this type: " + t.Namespace)
	}
	if t.Spec.Token == "" {
		return apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	t.CreationTimestamp = metav1.Time{}
	t.Status = authenticationv1.TokenReviewStatus{}
	user, audiences, err := p.Bearers.Check(r.Context(), t.Spec.Token, t.Spec.Audiences)
	if err != nil {
		t.Status.Error = err.Error()
	} else {
		t.Status.Authenticated, t.Status.User, t.Status.Audiences = true, userInfo(user), audiences
	}
	return write(w, r, http.StatusCreated, t, on.GVK)
}

// reviewSelf says who asks: POST selfsubjectreviews (kubectl auth whoami).
func (p Parts) reviewSelf(w http.ResponseWriter, r *http.Request, on *registry.Resource, _ *request.Info) error {
	s := &authenticationv1.SelfSubjectReview{}
	if err := read(r, on.GVK, s); err != nil {
		return err
	}
	s.CreationTimestamp = metav1.Now().Rfc3339Copy()
	s.Status = authenticationv1.SelfSubjectReviewStatus{UserInfo: userInfo(request.UserOf(r.Context()))}
	return write(w, r, http.StatusCreated, s, on.GVK)
}

func userInfo(u *request.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}
