package storageversionmigration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// The definition of a custom resource says while it is migrated that it is, and afterwards lists only the version that all objects are
// stored in, unless it changed meanwhile. It is read and written as it comes, since the clients of its group are not linked.
var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// migrating is the type of the condition.
const migrating = "StorageMigrating"

func (c *controller) announce(ctx context.Context, m *storagemigrationv1.StorageVersionMigration) error {
	return c.define(ctx, m, func(d *unstructured.Unstructured) error {
		if had := conditionOf(d); had != nil && had["status"] == "True" && had["reason"] == "MigrationRunning" && observed(had) != 0 && is(m, storagemigrationv1.MigrationRunning) {
			return nil // by us, before a restart; the generation it names is what counts
		}
		return setCondition(d, "True", "MigrationRunning", fmt.Sprintf("Migration %s is running", m.Name))
	})
}

func (c *controller) conclude(ctx context.Context, m *storagemigrationv1.StorageVersionMigration, well bool) error {
	return c.define(ctx, m, func(d *unstructured.Unstructured) error {
		had := conditionOf(d)
		if had == nil || had["status"] != "True" {
			return nil
		}
		if !well {
			return setCondition(d, "False", "MigrationFailed", "The migration has failed")
		}
		if observed(had) != d.GetGeneration() {
			return setCondition(d, "False", "MigrationSucceeded", "The migration has succeeded but the stored versions have not been updated due to a generation mismatch")
		}
		if err := unstructured.SetNestedStringSlice(d.Object, []string{storedIn(d)}, "status", "storedVersions"); err != nil {
			return err
		}
		return setCondition(d, "False", "MigrationSucceeded", "The migration has succeeded and the stored versions have been updated")
	})
}

// define changes the status of a resource's definition, if it has one.
func (c *controller) define(ctx context.Context, m *storagemigrationv1.StorageVersionMigration, change func(*unstructured.Unstructured) error) error {
	if m.Spec.Resource.Group == "" {
		return nil
	}
	client := c.t.Clients.Dynamic.Resource(definitions)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		have, err := client.Get(ctx, m.Spec.Resource.Resource+"."+m.Spec.Resource.Group, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		patch, err := statusPatch(have, change)
		if err != nil || patch == nil {
			return err
		}
		_, err = client.Patch(ctx, have.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	})
	if err != nil {
		return fmt.Errorf("telling the definition of %s of its migration: %w", m.Spec.Resource.String(), err)
	}
	return nil
}

// statusPatch is a merge patch of what a change does to the status of an object as it is; nil when it does nothing.
func statusPatch(have *unstructured.Unstructured, change func(*unstructured.Unstructured) error) ([]byte, error) {
	want := have.DeepCopy()
	if err := change(want); err != nil || equality.Semantic.DeepEqual(have.Object["status"], want.Object["status"]) {
		return nil, err
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": have.GetUID(), "resourceVersion": have.GetResourceVersion()}, "status": want.Object["status"]})
}

func conditionOf(d *unstructured.Unstructured) map[string]any {
	all, _, err := unstructured.NestedSlice(d.Object, "status", "conditions")
	if err != nil {
		return nil // it is no list, which the API server does not serve
	}
	for _, c := range all {
		if c, ok := c.(map[string]any); ok && c["type"] == migrating {
			return c
		}
	}
	return nil
}

func observed(condition map[string]any) int64 {
	n, _ := condition["observedGeneration"].(int64)
	return n
}

// setCondition sets it in place or appends it.
func setCondition(d *unstructured.Unstructured, status, reason, message string) error {
	all, _, err := unstructured.NestedSlice(d.Object, "status", "conditions")
	if err != nil {
		return err
	}
	now := map[string]any{"type": migrating, "status": status, "reason": reason, "message": message, "observedGeneration": d.GetGeneration(),
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339)}
	i := slices.IndexFunc(all, func(c any) bool { m, ok := c.(map[string]any); return ok && m["type"] == migrating })
	if i < 0 {
		all = append(all, now)
	} else {
		all[i] = now
	}
	return unstructured.SetNestedSlice(d.Object, all, "status", "conditions")
}

// storedIn is the version that a definition stores objects in; a definition always has one.
func storedIn(d *unstructured.Unstructured) string {
	versions, _, err := unstructured.NestedSlice(d.Object, "spec", "versions")
	if err != nil {
		return ""
	}
	for _, v := range versions {
		if v, ok := v.(map[string]any); ok && v["storage"] == true {
			name, _ := v["name"].(string)
			return name
		}
	}
	return ""
}
