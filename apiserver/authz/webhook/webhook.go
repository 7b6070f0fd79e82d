// Package webhook asks a web service whether somebody may do something: it posts a SubjectAccessReview and believes the answer
// (https://kubernetes.io/docs/reference/access-authn-authz/webhook/). Answers are kept a while, as many as fit; one that could not be
// had is never kept, and means no opinion or a refusal, as the configuration says.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/request"
)

// Client posts an object and reads the answer. hookclient.Client is one.
type Client interface {
	Post(ctx context.Context, in, out any) error
}

// Config is how a service is asked.
type Config struct {
	Name         string        // in errors and metrics
	Version      string        // of SubjectAccessReview: v1 or v1beta1
	Authorized   time.Duration // how long an answer that allows is kept; 0: not at all
	Unauthorized time.Duration // and another
	Deny         bool          // what could not be found out is refused; else the next is asked
}

// Hook is a source of rules. Safe for concurrent use.
type Hook struct {
	cfg     Config
	client  Client
	metrics *Metrics
	answers *cache
}

var _ authz.Source = (*Hook)(nil)

// keptAnswers is how many answers are kept at most, and maxKept how long a question may be to be kept: both are the callers' words.
const (
	keptAnswers = 8192
	maxKept     = 10000
)

// New makes a source; nothing is asked yet. m may be nil.
func New(cfg Config, client Client, m *Metrics) *Hook {
	return &Hook{cfg, client, m, newCache(keptAnswers, time.Now)}
}

// Rules cannot be told as a list.
func (*Hook) Rules(context.Context, *request.User, string) (authz.Rules, error) {
	return authz.Rules{Incomplete: true}, errors.New("webhook authorizer does not support user rule resolution")
}

// Decide asks, unless the answer is known.
func (h *Hook) Decide(ctx context.Context, u *request.User, i *request.Info) (authz.Decision, string, error) {
	spec := question(u, i)
	key, err := json.Marshal(spec)
	if err != nil {
		return h.failed(fmt.Errorf("encoding the question for webhook authorizer %s: %w", h.cfg.Name, err))
	}
	status, known := h.answers.get(string(key))
	if !known {
		if status, err = h.ask(ctx, spec); err != nil {
			h.metrics.evaluated(h.cfg.Name, "error")
			return h.failed(fmt.Errorf("asking webhook authorizer %s: %w", h.cfg.Name, err))
		}
		h.metrics.evaluated(h.cfg.Name, "success")
		keep := h.cfg.Unauthorized
		if status.Allowed {
			keep = h.cfg.Authorized
		}
		if keep > 0 && len(key) < maxKept {
			h.answers.put(string(key), status, keep)
		}
	}
	switch {
	case status.Denied && status.Allowed:
		return authz.Denied, status.Reason, fmt.Errorf("webhook authorizer %s both allowed and denied", h.cfg.Name)
	case status.Denied:
		return authz.Denied, status.Reason, nil
	case status.Allowed:
		return authz.Allowed, status.Reason, nil
	}
	return authz.NoOpinion, status.Reason, nil
}

func (h *Hook) failed(err error) (authz.Decision, string, error) {
	if h.cfg.Deny {
		return authz.Denied, "", err
	}
	h.metrics.failedOpen(h.cfg.Name)
	return authz.NoOpinion, "", err
}

// review is a SubjectAccessReview of either version. They differ in one name.
type review struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct{}                                  `json:"metadata"`
	Spec            any                                       `json:"spec"`
	Status          authorizationv1.SubjectAccessReviewStatus `json:"status"`
}

// specV1beta1 is a spec whose groups have another name.
type specV1beta1 struct {
	authorizationv1.SubjectAccessReviewSpec `json:",inline"`
	Groups                                  []string `json:"groups,omitempty"` // hides the other, and stays empty
	Group                                   []string `json:"group,omitempty"`
}

func (h *Hook) ask(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	in := review{Spec: spec}
	in.APIVersion, in.Kind = "authorization.k8s.io/"+h.cfg.Version, "SubjectAccessReview"
	if h.cfg.Version == "v1beta1" {
		in.Spec = specV1beta1{SubjectAccessReviewSpec: spec, Group: spec.Groups}
	}
	var out struct {
		metav1.TypeMeta `json:",inline"`
		Status          *authorizationv1.SubjectAccessReviewStatus `json:"status"`
	}
	var none authorizationv1.SubjectAccessReviewStatus
	if err := h.client.Post(ctx, in, &out); err != nil {
		return none, err
	}
	if out.TypeMeta != in.TypeMeta {
		return none, fmt.Errorf("the answer is a %s of %q, want a %s of %q", out.Kind, out.APIVersion, in.Kind, in.APIVersion)
	}
	if out.Status == nil {
		return none, errors.New("the answer has no status")
	}
	return *out.Status, nil
}

// question is a request as a service sees it.
func question(u *request.User, i *request.Info) authorizationv1.SubjectAccessReviewSpec {
	s := authorizationv1.SubjectAccessReviewSpec{User: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if s.Extra == nil {
			s.Extra = map[string]authorizationv1.ExtraValue{}
		}
		s.Extra[key] = values
	}
	if !i.IsResource {
		s.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: i.Path, Verb: i.Verb}
		return s
	}
	s.ResourceAttributes = &authorizationv1.ResourceAttributes{
		Namespace: i.Namespace, Verb: i.Verb, Group: i.Group, Version: i.Version, Resource: i.Resource, Subresource: i.Subresource, Name: i.Name,
	}
	if i.Selects != nil {
		s.ResourceAttributes.FieldSelector, s.ResourceAttributes.LabelSelector = fieldsOf(i.Selects), labelsOf(i.Selects)
	}
	return s
}
