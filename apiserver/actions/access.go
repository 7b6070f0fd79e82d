package actions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// Access says who may do what.
type Access interface {
	Decide(ctx context.Context, u *request.User, i *request.Info) authz.Verdict
	Rules(ctx context.Context, u *request.User, namespace string) (authz.Rules, error)
}

// reviewAccess says what somebody may do: POST subjectaccessreviews.
func (p Parts) reviewAccess(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	s := &authorizationv1.SubjectAccessReview{}
	if err := question(r, on, i, s); err != nil {
		return err
	}
	s.Status = p.answer(r.Context(), subject(&s.Spec), s.Spec.ResourceAttributes, s.Spec.NonResourceAttributes)
	return write(w, r, http.StatusCreated, s, on.GVK)
}

// reviewLocalAccess says what somebody may do in one namespace: POST localsubjectaccessreviews.
func (p Parts) reviewLocalAccess(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	s := &authorizationv1.LocalSubjectAccessReview{}
	if err := question(r, on, i, s); err != nil {
		return err
	}
	s.Status = p.answer(r.Context(), subject(&s.Spec), s.Spec.ResourceAttributes, s.Spec.NonResourceAttributes)
	return write(w, r, http.StatusCreated, s, on.GVK)
}

// reviewOwnAccess says what the caller may do: POST selfsubjectaccessreviews (kubectl auth can-i).
func (p Parts) reviewOwnAccess(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	s := &authorizationv1.SelfSubjectAccessReview{}
	if err := question(r, on, i, s); err != nil {
		return err
	}
	s.Status = p.answer(r.Context(), request.UserOf(r.Context()), s.Spec.ResourceAttributes, s.Spec.NonResourceAttributes)
	return write(w, r, http.StatusCreated, s, on.GVK)
}

// reviewRules says all that the caller may do in a namespace: POST selfsubjectrulesreviews (kubectl auth can-i --list).
func (p Parts) reviewRules(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	s := &authorizationv1.SelfSubjectRulesReview{}
	if err := question(r, on, i, s); err != nil {
		return err
	}
	if s.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request")
	}
	rules, err := p.Access.Rules(r.Context(), request.UserOf(r.Context()), s.Spec.Namespace)
	s.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: merged(rules.Resources), NonResourceRules: rules.NonResources, Incomplete: rules.Incomplete,
	}
	if s.Status.NonResourceRules == nil {
		s.Status.NonResourceRules = []authorizationv1.NonResourceRule{}
	}
	if err != nil {
		s.Status.EvaluationError = err.Error()
	}
	return write(w, r, http.StatusCreated, s, on.GVK)
}

// merged puts the verbs of rules that are about precisely the same into one rule, where the first of them stands.
func merged(rules []authorizationv1.ResourceRule) []authorizationv1.ResourceRule {
	out := make([]authorizationv1.ResourceRule, 0, len(rules))
	at := map[string]int{}
	for _, r := range rules {
		key := fmt.Sprintf("%q %q %q", r.APIGroups, r.Resources, r.ResourceNames)
		i, ok := at[key]
		if !ok {
			at[key] = len(out)
			r.Verbs = slices.Clone(r.Verbs) // the role's own
			out = append(out, r)
			continue
		}
		for _, v := range r.Verbs {
			if !slices.Contains(out[i].Verbs, v) {
				out[i].Verbs = append(out[i].Verbs, v)
			}
		}
	}
	return out
}

// question reads and checks what is asked.
func question(r *http.Request, on *registry.Resource, i *request.Info, s registry.Object) error {
	if err := read(r, on.GVK, s); err != nil {
		return err
	}
	if on.Namespaced {
		switch ns := s.GetNamespace(); {
		case ns == "":
			s.SetNamespace(i.Namespace)
		case ns != i.Namespace:
			return apierrors.NewBadRequest(fmt.Sprintf(
				"the namespace of the provided object does not match the namespace sent on the request (%s, %s)", ns, i.Namespace))
		}
	}
	s.SetCreationTimestamp(metav1.Time{})
	if errs := on.Validate(s); len(errs) > 0 {
		return apierrors.NewInvalid(on.GVK.GroupKind(), "", errs)
	}
	return nil
}

func subject(s *authorizationv1.SubjectAccessReviewSpec) *request.User {
	u := &request.User{Name: s.User, UID: s.UID, Groups: s.Groups}
	for key, values := range s.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = values
	}
	return u
}

// answer asks whether u may do the one or the other; exactly one is given.
func (p Parts) answer(ctx context.Context, u *request.User, on *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	i := &request.Info{}
	var ignored error
	if on != nil {
		i = &request.Info{
			IsResource: true, Verb: on.Verb, Group: on.Group, Version: on.Version, Namespace: on.Namespace,
			Resource: on.Resource, Subresource: on.Subresource, Name: on.Name,
		}
		i.Selects, ignored = selectors(on)
	} else {
		i.Verb, i.Path = path.Verb, path.Path
	}
	v := p.Access.Decide(ctx, u, i)
	s := authorizationv1.SubjectAccessReviewStatus{Allowed: v.Decision == authz.Allowed, Denied: v.Decision == authz.Denied, Reason: v.Reason}
	if err := errors.Join(ignored, v.Err); err != nil {
		s.EvaluationError = err.Error()
	}
	return s
}
