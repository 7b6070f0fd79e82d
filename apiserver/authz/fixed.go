package authz

import (
	"context"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"pilothouse.dev/apiserver/request"
)

// AlwaysAllow allows everything.
type AlwaysAllow struct{}

// Decide allows.
func (AlwaysAllow) Decide(context.Context, *request.User, *request.Info) (Decision, string, error) {
	return Allowed, "", nil
}

// Rules are everything.
func (AlwaysAllow) Rules(context.Context, *request.User, string) (Rules, error) { return all(), nil }

// AlwaysDeny denies everything.
type AlwaysDeny struct{}

// Decide denies.
func (AlwaysDeny) Decide(context.Context, *request.User, *request.Info) (Decision, string, error) {
	return NoOpinion, "Everything is forbidden.", nil
}

// Rules are none.
func (AlwaysDeny) Rules(context.Context, *request.User, string) (Rules, error) { return Rules{}, nil }

func all() Rules {
	every := []string{"*"}
	return Rules{
		Resources:    []authorizationv1.ResourceRule{{Verbs: every, APIGroups: every, Resources: every}},
		NonResources: []authorizationv1.NonResourceRule{{Verbs: every, NonResourceURLs: every}},
	}
}

// Paths are paths that anybody may use, by any verb. Make it with NewPaths.
type Paths struct {
	exact    map[string]bool
	prefixes []string
}

// NewPaths makes a source of paths; one that ends in an asterisk stands for all that begin with what is before it.
func NewPaths(patterns []string) (*Paths, error) {
	p := &Paths{exact: map[string]bool{}}
	for _, pattern := range patterns {
		pattern = strings.TrimPrefix(pattern, "/")
		if pattern == "" {
			return nil, fmt.Errorf("empty path in %q: name a path such as /healthz", patterns)
		}
		prefix, open := strings.CutSuffix(pattern, "*")
		switch {
		case strings.Contains(prefix, "*"):
			return nil, fmt.Errorf("only a trailing * is allowed in %q", pattern)
		case open:
			p.prefixes = append(p.prefixes, "/"+prefix)
		default:
			p.exact["/"+pattern] = true
		}
	}
	return p, nil
}

// Decide allows the paths.
func (p *Paths) Decide(_ context.Context, _ *request.User, i *request.Info) (Decision, string, error) {
	if i.IsResource {
		return NoOpinion, "", nil
	}
	if p.exact[i.Path] {
		return Allowed, "", nil
	}
	for _, prefix := range p.prefixes {
		if strings.HasPrefix(i.Path, prefix) {
			return Allowed, "", nil
		}
	}
	return NoOpinion, "", nil
}

// Rules are none: what everybody may is nobody's right.
func (*Paths) Rules(context.Context, *request.User, string) (Rules, error) { return Rules{}, nil }
