// Package admission decides whether a write that is authorized may happen, and may change it first: all mutating plugins in
// order, then (after defaults and validation of the kind) all validating ones. The order is the table in admission/plugins.
// A plugin refuses by returning an error: an apierrors.StatusError is passed on as it is, anything else becomes 403 Forbidden.
package admission

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// Operation is what a write does, as admission names it.
type Operation string

const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes describe one write. Object may be changed by mutating plugins; the rest may not.
type Attributes struct {
	Operation   Operation
	Resource    *registry.Resource
	Subresource string
	Namespace   string
	Name        string          // may be empty at create with generateName
	Object      registry.Object // the stored version; nil for delete and connect
	Old         registry.Object // nil for create
	User        *request.User
	DryRun      bool
	Delete      *metav1.DeleteOptions // for Delete
}

// Is says whether this is an operation on a whole object (no subresource) of the core kind plural.
func (a *Attributes) Is(group, plural string) bool {
	return a.Subresource == "" && a.Resource.GVK.Group == group && a.Resource.Plural == plural
}

// Plugin is one link. It has Mutate, Validate, or both.
type Plugin interface{ Name() string }

// Mutator changes what is being written.
type Mutator interface {
	Plugin
	Mutate(ctx context.Context, a *Attributes) error
}

// Validator only says no.
type Validator interface {
	Plugin
	Validate(ctx context.Context, a *Attributes) error
}

// Undoer is a mutator that took something (an address, a share of a quota) which must be given back when the write fails
// after it. Undo is called with a context that may outlive the request's.
type Undoer interface {
	Undo(ctx context.Context, a *Attributes)
}

// Chain is the ordered plugins. Immutable; safe for concurrent use.
type Chain struct{ plugins []Plugin }

// New makes a chain that runs in the order given.
func New(plugins []Plugin) *Chain { return &Chain{plugins} }

// Mutate runs every mutating plugin; the first error ends it.
func (c *Chain) Mutate(ctx context.Context, a *Attributes) error {
	for _, p := range c.plugins {
		if m, ok := p.(Mutator); ok {
			if err := m.Mutate(ctx, a); err != nil {
				return refuse(a, p, err)
			}
		}
	}
	return nil
}

// Validate runs every validating plugin; the first error ends it.
func (c *Chain) Validate(ctx context.Context, a *Attributes) error {
	for _, p := range c.plugins {
		if v, ok := p.(Validator); ok {
			if err := v.Validate(ctx, a); err != nil {
				return refuse(a, p, err)
			}
		}
	}
	return nil
}

// Undo gives back what was taken for a write that failed after Mutate began.
func (c *Chain) Undo(ctx context.Context, a *Attributes) {
	for i := len(c.plugins) - 1; i >= 0; i-- {
		if u, ok := c.plugins[i].(Undoer); ok {
			u.Undo(ctx, a)
		}
	}
}

func refuse(a *Attributes, p Plugin, err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	return apierrors.NewForbidden(a.Resource.GroupResource(), a.Name, fmt.Errorf("%s: %w", p.Name(), err))
}
