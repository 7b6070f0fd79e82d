package conformance

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// crud does what the rows «CRUD operations for …» have in common: an object is created, read, updated, and patched in each form
// that a patch can have, its status too, anew each time; watchers of all namespaces and of its own see every step.
type crud struct {
	*row
	operations
	jsonEdit   string // what edit does, as a JSON patch
	jsonStatus string // what status does, as a JSON patch

	client  dynamic.ResourceInterface
	name    string
	label   string
	watches []*events
}

// run does all steps.
func (c *crud) run() {
	c.Helper()
	c.discover(c.operations)
	everywhere := c.dyn.Resource(c.gvr)
	wheres := []dynamic.ResourceInterface{everywhere}
	if c.namespaced {
		wheres = append(wheres, everywhere.Namespace(c.namespace()))
	}
	c.client, c.name, c.label = wheres[len(wheres)-1], c.unique(), c.unique()
	for _, where := range wheres {
		none, err := where.List(c.ctx, labelled(c.label))
		c.must(err, "listing before anything is there")
		c.equal("items before anything is there", len(none.Items), 0)
		from := labelled(c.label)
		from.ResourceVersion = none.GetResourceVersion()
		c.watches = append(c.watches, c.follow(where.Watch(c.ctx, from)))
	}
	c.sweep(c.client, c.name)
	c.create()
	got, err := c.client.Get(c.ctx, c.name, metav1.GetOptions{})
	c.must(err, "getting")
	c.has("getting", got, c.object(c.operations, c.name, c.label).Object)
	for _, where := range wheres {
		list, err := where.List(c.ctx, labelled(c.label))
		c.must(err, "listing")
		c.equal("items", len(list.Items), 1)
		c.equal("uid of the item", list.Items[0].GetUID(), got.GetUID())
	}
	c.change(c.edit, "")
	if c.status != "" {
		c.change(c.status, "status")
		got, err := c.client.Get(c.ctx, c.name, metav1.GetOptions{}, "status")
		c.must(err, "getting the status")
		c.has("getting the status", got, c.tree(c.status))
		c.has("getting the status", got, c.tree(c.edit))
	}
	c.patches(c.edit, c.jsonEdit, "")
	if c.status != "" {
		c.patches(c.status, c.jsonStatus, "status")
	}
	c.delete()
}

func (c *crud) create() {
	c.Helper()
	wish := c.object(c.operations, c.name, c.label)
	got, err := c.client.Create(c.ctx, wish, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	c.must(err, "creating")
	c.has("creating", got, wish.Object)
	for _, w := range c.watches {
		w.next(watch.Added, c.name, named(c.name))
	}
}

func (c *crud) delete() {
	c.Helper()
	c.must(c.client.Delete(c.ctx, c.name, metav1.DeleteOptions{}), "deleting")
	c.eventually("the object is gone", func() (bool, error) {
		_, err := c.client.Get(c.ctx, c.name, metav1.GetOptions{})
		if err == nil {
			return false, nil
		}
		c.refused(err, metav1.StatusReasonNotFound, "getting what was deleted")
		return true, nil
	})
	for _, w := range c.watches {
		w.next(watch.Deleted, c.name, named(c.name))
	}
}

// change puts part into the object by an update of it or of its subresource.
func (c *crud) change(part, sub string) {
	c.Helper()
	var before, got *unstructured.Unstructured
	c.again("updating "+sub, func() (err error) {
		if before, err = c.client.Get(c.ctx, c.name, metav1.GetOptions{}, subs(sub)...); err != nil {
			return err
		}
		wish := before.DeepCopy()
		merge(wish.Object, c.tree(part))
		got, err = c.client.Update(c.ctx, wish, metav1.UpdateOptions{}, subs(sub)...)
		return err
	})
	c.has("updating "+sub, got, c.tree(part))
	c.newer("updating "+sub, before.GetResourceVersion(), got.GetResourceVersion())
	c.seen(part)
}

// patches puts part into a fresh object by each form of patch.
func (c *crud) patches(part, asOperations, sub string) {
	c.Helper()
	forms := []types.PatchType{types.StrategicMergePatchType, types.ApplyYAMLPatchType, types.MergePatchType, types.JSONPatchType}
	for _, form := range forms {
		c.delete()
		c.create()
		before, err := c.client.Get(c.ctx, c.name, metav1.GetOptions{})
		c.must(err, "getting")
		// The patch is of this object, so says its uid; and of its kind, as server-side apply must.
		whole := &unstructured.Unstructured{Object: c.tree(part)}
		whole.SetAPIVersion(before.GetAPIVersion())
		whole.SetKind(before.GetKind())
		whole.SetName(c.name)
		whole.SetUID(before.GetUID())
		data, err := json.Marshal(whole)
		c.must(err, "writing the patch")
		options := metav1.PatchOptions{FieldValidation: metav1.FieldValidationStrict}
		switch form {
		case types.JSONPatchType:
			data = []byte(asOperations)
		case types.ApplyYAMLPatchType:
			force := true
			options.FieldManager, options.Force = "conformance-apply", &force
		}
		doing := string(form) + " of " + c.kind + " " + sub
		got, err := c.client.Patch(c.ctx, c.name, form, data, options, subs(sub)...)
		c.must(err, doing)
		c.has(doing, got, c.tree(part))
		c.equal(doing+": uid", got.GetUID(), before.GetUID())
		c.newer(doing, before.GetResourceVersion(), got.GetResourceVersion())
		c.seen(part)
	}
}

// seen waits until every watcher has seen the object with part.
func (c *crud) seen(part string) {
	c.Helper()
	for _, w := range c.watches {
		w.next(watch.Modified, c.name, func(o metav1.Object) bool {
			return lacking("", o.(*unstructured.Unstructured).Object, c.tree(part)) == ""
		})
	}
}

func subs(sub string) []string {
	if sub == "" {
		return nil
	}
	return []string{sub}
}
