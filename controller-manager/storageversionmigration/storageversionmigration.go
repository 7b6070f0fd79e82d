// Package storageversionmigration writes all objects of a resource anew when a StorageVersionMigration asks for it, so that each is
// stored in the present form: of the version, and under the key of encryption, that is preferred now
// (https://kubernetes.io/docs/tasks/manage-kubernetes-objects/storage-version-migration/). It is called by the loop; it changes
// nothing in any object.
//
// What always holds: one migration of a resource runs at a time, the oldest first; an object that was written since the migration
// began is in the present form already, so a conflict or an object that is gone is no failure, and one that began before a restart
// goes on with what is left; what may succeed later is tried again, what cannot is told when all others are done.
package storageversionmigration

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	migrationlisters "k8s.io/client-go/listers/storagemigration/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/served"
)

type controller struct {
	t      loop.Tools
	lister migrationlisters.StorageVersionMigrationLister
	store  cache.Store
	wrote  *loop.Versions
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	inf := t.Informers.Storagemigration().V1().StorageVersionMigrations()
	c := &controller{t: t, lister: inf.Lister(), store: inf.Informer().GetStore(), wrote: loop.NewVersions()}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "storageversionmigrations.storagemigration.k8s.io", Wakes: loop.Func("itself and others of its resource", c.wake)},
		},
		Reconcile: c.reconcile,
	}
}

func (c *controller) wake(e loop.Event) []loop.Key {
	m := e.Last().(*storagemigrationv1.StorageVersionMigration)
	keys := []loop.Key{loop.KeyOf(m)}
	all, err := c.lister.List(labels.Everything())
	if err != nil {
		return keys // a lister of a cache does not fail
	}
	for _, other := range all {
		if other.Spec.Resource == m.Spec.Resource && other.Name != m.Name && !over(other) {
			keys = append(keys, loop.KeyOf(other))
		}
	}
	return keys
}

// A resource that is not served may be one of a definition that was made with the migration.
const (
	patience = time.Minute
	again    = 5 * time.Second
)

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	m, err := c.lister.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || over(m) {
		return 0, err
	}
	// Decisions of whose turn it is are by what all workers wrote, of any key.
	if !c.wrote.Seen(loop.Key{}, c.store.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	all, err := c.lister.List(labels.Everything())
	if err != nil || !turn(m, all) {
		return 0, err
	}
	r, err := c.find(ctx, m.Spec.Resource)
	if err != nil {
		return 0, err
	}
	switch {
	case r == nil && time.Since(m.CreationTimestamp.Time) < patience:
		return again, nil
	case r == nil:
		return 0, c.end(ctx, m, storagemigrationv1.MigrationFailed, "resource not found")
	case !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "patch"):
		return 0, c.end(ctx, m, storagemigrationv1.MigrationFailed, "the resource cannot be listed and patched")
	}
	if m, err = c.begin(ctx, m, r); err != nil {
		return 0, err
	}
	bad, err := c.migrate(ctx, m, r)
	if err != nil {
		return 0, err
	}
	if bad.count > 0 {
		return 0, c.end(ctx, m, storagemigrationv1.MigrationFailed, bad.message())
	}
	c.t.Log.Info("migrated", zap.String("name", m.Name), zap.String("resource", m.Spec.Resource.String()))
	return 0, c.end(ctx, m, storagemigrationv1.MigrationSucceeded, "")
}

// find asks for a resource in the version its group prefers, or else in another; nil: it is not served.
func (c *controller) find(ctx context.Context, of metav1.GroupResource) (*served.Resource, error) {
	all, err := served.Find(ctx, c.t.Clients.Kube, of.Group, func(r *metav1.APIResource) bool { return r.Name == of.Resource })
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// begin notes the version at which a migration began, and that it runs. A definition of a custom resource is told, too.
func (c *controller) begin(ctx context.Context, m *storagemigrationv1.StorageVersionMigration, r *served.Resource) (*storagemigrationv1.StorageVersionMigration, error) {
	if err := c.announce(ctx, m); err != nil {
		return m, err
	}
	want := m.DeepCopy()
	if want.Status.ResourceVersion == "" {
		list, err := c.t.Clients.Metadata.Resource(r.GroupVersionResource).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return m, fmt.Errorf("asking for the present version of %s: %w", m.Spec.Resource.String(), err)
		}
		want.Status.ResourceVersion = list.ResourceVersion
	}
	say(want, storagemigrationv1.MigrationRunning, metav1.ConditionTrue, "")
	return c.write(ctx, m, want)
}

// end says how a migration went.
func (c *controller) end(ctx context.Context, m *storagemigrationv1.StorageVersionMigration, how storagemigrationv1.MigrationConditionType, message string) error {
	if err := c.conclude(ctx, m, how == storagemigrationv1.MigrationSucceeded); err != nil {
		return err
	}
	want := m.DeepCopy()
	if meta.FindStatusCondition(want.Status.Conditions, string(storagemigrationv1.MigrationRunning)) != nil {
		say(want, storagemigrationv1.MigrationRunning, metav1.ConditionFalse, "")
	}
	say(want, how, metav1.ConditionTrue, message)
	_, err := c.write(ctx, m, want)
	return err
}

func (c *controller) write(ctx context.Context, have, want *storagemigrationv1.StorageVersionMigration) (*storagemigrationv1.StorageVersionMigration, error) {
	got, err := loop.Commit(ctx, c.t.Clients.Kube.StoragemigrationV1().StorageVersionMigrations(), have, want)
	if err == nil && got != have {
		c.wrote.Wrote(loop.Key{}, got.ResourceVersion)
	}
	return got, err
}

// page is how many objects are listed at a time.
const page = 500

// migrate writes every object that has not been written since the beginning. It returns what can never be written, and an error when
// something may be later.
func (c *controller) migrate(ctx context.Context, m *storagemigrationv1.StorageVersionMigration, r *served.Resource) (failures, error) {
	var bad failures
	var later error
	client := c.t.Clients.Metadata.Resource(r.GroupVersionResource)
	for options := (metav1.ListOptions{Limit: page}); ; {
		list, err := client.List(ctx, options)
		if err != nil { // a list that took too long, too: the next one skips what was written
			return bad, fmt.Errorf("listing %s: %w", m.Spec.Resource.String(), err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			if newer(o.ResourceVersion, m.Status.ResourceVersion) {
				continue
			}
			patch, err := same(o)
			if err != nil {
				return bad, err
			}
			_, err = client.Namespace(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, patch, metav1.PatchOptions{})
			switch {
			case ctx.Err() != nil:
				return bad, ctx.Err()
			case err == nil, apierrors.IsConflict(err), apierrors.IsNotFound(err):
			case passes(err):
				if later == nil {
					later = fmt.Errorf("writing %s/%s of %s: %w", o.Namespace, o.Name, m.Spec.Resource.String(), err)
				}
			default:
				bad.add(o, err)
			}
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return bad, later
		}
	}
}
