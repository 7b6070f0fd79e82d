// Package garbagecollector deletes what belongs to nothing any more. Every object may name owners; when the last of them is
// gone, it goes too. It watches the metadata of every kind that can be listed, watched and deleted, custom ones as they come,
// and keeps of it only a graph of who names whom.
//
// The three ways to delete an owner, as seen here:
//
//	background   the owner is gone; its dependents find no owner and are deleted
//	foreground   the owner stays, going, with the finalizer foregroundDeletion: dependents are deleted, and when none that
//	             blocks is left, the finalizer is taken away
//	orphan       the owner stays, going, with the finalizer orphan: dependents lose their reference to it, then it the finalizer
//
// What always holds: nothing is deleted because the graph does not know its owner: an owner counts as absent only when its
// deletion was seen or the API server, asked live, does not know its UID; and what is deleted is the object as it was judged,
// by UID and resource version.
package garbagecollector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t     loop.Tools
	graph *graph
	kinds *kinds
}

// New makes the controller. Its keys are UIDs.
func New(t loop.Tools) loop.Controller {
	c := &controller{t: t, graph: newGraph()}
	c.kinds = newKinds(t, c.graph)
	return loop.Controller{Reconcile: c.reconcile, Feed: c.kinds.run,
		Feeds: "the metadata of every kind that can be listed, watched and deleted"}
}

// unsynced is how soon to look again while the graph is incomplete.
const unsynced = 200 * time.Millisecond

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if !c.kinds.synced() {
		return unsynced, nil
	}
	v, there := c.graph.view(types.UID(key.Name))
	if !there {
		return 0, nil
	}
	switch v.step() {
	case stepOrphan:
		return 0, c.orphan(ctx, v)
	case stepRelease:
		return 0, c.dropFinalizer(ctx, v.id, metav1.FinalizerDeleteDependents)
	case stepJudge:
		return c.judge(ctx, v)
	}
	return 0, nil
}

// judge reads a dependent and those of its owners live that the graph cannot vouch for, and does what follows.
func (c *controller) judge(ctx context.Context, v view) (time.Duration, error) {
	live, err := c.get(ctx, v.id)
	if err != nil || live == nil || live.DeletionTimestamp != nil {
		return 0, err
	}
	var o owners
	for _, ref := range live.OwnerReferences {
		state, err := c.ownerState(ctx, v, ref)
		if errors.Is(err, errNoKind) {
			c.t.Log.Debug("an owner's kind is not known", zap.String("name", v.id.String()), zap.String("kind", ref.Kind), zap.String("apiVersion", ref.APIVersion))
			c.kinds.again()
			return time.Minute, nil
		}
		if err != nil {
			return 0, err
		}
		o.add(ref, state)
	}
	switch j := verdict(o, live.Finalizers, v); j.do {
	case unref:
		return 0, c.setOwners(ctx, v.id, live, j.owners)
	case remove:
		if len(j.owners) > 0 { // a circle: nobody may wait for us any more
			if err := c.setOwners(ctx, v.id, live, j.owners); err != nil {
				return 0, err
			}
			if live, err = c.get(ctx, v.id); err != nil || live == nil {
				return 0, err
			}
		}
		return 0, c.delete(ctx, v.id, live, j.policy)
	}
	return 0, nil
}

// ownerState says what has become of an owner.
func (c *controller) ownerState(ctx context.Context, v view, ref metav1.OwnerReference) (ownerState, error) {
	if s, sure := v.known(ref.UID); sure {
		return s, nil
	}
	k, ok := c.kinds.find(ref.APIVersion, ref.Kind)
	if !ok {
		return solid, errNoKind
	}
	if k.namespaced && v.id.namespace == "" {
		c.t.Log.Debug("an object without a namespace names an owner within one, which cannot be", zap.String("name", v.id.String()))
		return solid, nil
	}
	id := identity{kind: k, name: ref.Name, uid: ref.UID}
	if k.namespaced {
		id.namespace = v.id.namespace
	}
	live, err := c.get(ctx, id)
	switch {
	case err != nil:
		return solid, err
	case live == nil:
		return dangling, nil
	case live.DeletionTimestamp != nil && has(live.Finalizers, metav1.FinalizerDeleteDependents):
		return waiting, nil
	}
	return solid, nil
}

// orphan takes the owner's reference from all its dependents, then its finalizer.
func (c *controller) orphan(ctx context.Context, v view) error {
	for _, d := range v.dependents {
		live, err := c.get(ctx, d)
		if err != nil {
			return err
		}
		if live == nil {
			continue
		}
		var rest []metav1.OwnerReference
		for _, ref := range live.OwnerReferences {
			if ref.UID != v.id.uid {
				rest = append(rest, ref)
			}
		}
		if len(rest) == len(live.OwnerReferences) {
			continue
		}
		if err := c.setOwners(ctx, d, live, rest); err != nil {
			return fmt.Errorf("orphaning %s: %w", d, err)
		}
	}
	return c.dropFinalizer(ctx, v.id, metav1.FinalizerOrphanDependents)
}

// get reads an object's metadata; nil when there is none of that UID.
func (c *controller) get(ctx context.Context, id identity) (*metav1.PartialObjectMetadata, error) {
	live, err := c.t.Clients.Metadata.Resource(id.kind.gvr).Namespace(id.namespace).Get(ctx, id.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", id, err)
	case live.UID != id.uid:
		return nil, nil
	}
	return live, nil
}
