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

	undo   []func(context.Context) // of what was taken for this write
	stored []func(context.Context) // what waits until it is stored
}

// OnUndo notes what gives back something a plugin took for this write (an address, a share of a quota), should the write fail.
func (a *Attributes) OnUndo(f func(context.Context)) { a.undo = append(a.undo, f) }

// OnStored notes what a plugin wants to do once the write is stored: for Delete, once the object is gone.
func (a *Attributes) OnStored(f func(context.Context)) { a.stored = append(a.stored, f) }

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

// Undo gives back what was taken for a write that failed after Mutate began, the last first. Its context should outlive the
// request's. What cannot be given back is left to whoever repairs the thing taken.
func (c *Chain) Undo(ctx context.Context, a *Attributes) {
	for i := len(a.undo) - 1; i >= 0; i-- {
		a.undo[i](ctx)
	}
	a.undo, a.stored = nil, nil
}

// Stored does what waited for the write to be stored.
func (c *Chain) Stored(ctx context.Context, a *Attributes) {
	for _, f := range a.stored {
		f(ctx)
	}
	a.undo, a.stored = nil, nil
}

func refuse(a *Attributes, p Plugin, err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	return apierrors.NewForbidden(a.Resource.GroupResource(), a.Name, fmt.Errorf("%s: %w", p.Name(), err))
}
