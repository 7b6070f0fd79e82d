package garbagecollector

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func has(list []string, s string) bool { return slices.Contains(list, s) }

// delete removes an object as it was read.
func (c *controller) delete(ctx context.Context, id identity, live *metav1.PartialObjectMetadata, policy metav1.DeletionPropagation) error {
	err := c.t.Clients.Metadata.Resource(id.kind.gvr).Namespace(id.namespace).Delete(ctx, id.name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion},
		PropagationPolicy: &policy,
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting %s: %w", id, err)
	}
	c.t.Log.Debug("deleted what has no owner", zap.String("object", id.String()), zap.String("policy", string(policy)))
	return nil
}

// setOwners replaces an object's owner references, if it is as it was read.
func (c *controller) setOwners(ctx context.Context, id identity, live *metav1.PartialObjectMetadata, refs []metav1.OwnerReference) error {
	return c.patch(ctx, id, live, "ownerReferences", refs)
}

// dropFinalizer takes one finalizer away.
func (c *controller) dropFinalizer(ctx context.Context, id identity, finalizer string) error {
	live, err := c.get(ctx, id)
	if err != nil || live == nil || !has(live.Finalizers, finalizer) {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(live.Finalizers), func(f string) bool { return f == finalizer })
	return c.patch(ctx, id, live, "finalizers", rest)
}

func (c *controller) patch(ctx context.Context, id identity, live *metav1.PartialObjectMetadata, field string, value any) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": live.UID, "resourceVersion": live.ResourceVersion, field: value,
	}})
	if err != nil {
		return err
	}
	_, err = c.t.Clients.Metadata.Resource(id.kind.gvr).Namespace(id.namespace).Patch(ctx, id.name, types.MergePatchType, body, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("changing the %s of %s: %w", field, id, err)
	}
	return nil
}
