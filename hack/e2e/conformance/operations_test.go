package conformance

import (
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// operations are the steps that the rows «should support … API operations» have in common, for one kind.
type operations struct {
	gvr        schema.GroupVersionResource
	kind       string
	namespaced bool
	manifest   string                                           // YAML of a valid object; its name is given by the engine
	names      func(i int) string                               // for kinds whose names are not free
	edit       string                                           // YAML of the part that an update changes, beside an annotation
	status     string                                           // YAML {status: …} set by a patch of the subresource; empty if the kind has none
	update     string                                           // the same, set by an update of the subresource afterwards
	also       func(dynamic.ResourceInterface, *events, string) // further steps with an object of that name, before it is deleted
	silent     bool                                             // an update of the status leaves the metadata as they are
}

// object is a new object of the kind, labelled.
func (r *row) object(o operations, name, label string) *unstructured.Unstructured {
	r.Helper()
	u := &unstructured.Unstructured{Object: r.tree(o.manifest)}
	u.SetAPIVersion(o.gvr.GroupVersion().String())
	u.SetKind(o.kind)
	u.SetName(name)
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[rowLabel] = label
	u.SetLabels(labels)
	return u
}

// operate does them all.
func (r *row) operate(o operations) {
	r.Helper()
	r.discover(o)
	everywhere := r.dyn.Resource(o.gvr)
	var client dynamic.ResourceInterface = everywhere
	if o.namespaced {
		client = everywhere.Namespace(r.namespace())
	}
	label := r.unique()
	none, err := everywhere.List(r.ctx, labelled(label))
	r.must(err, "listing before anything is there")
	r.equal("items before anything is there", len(none.Items), 0)
	from := labelled(label)
	from.ResourceVersion = none.GetResourceVersion()
	w := r.follow(everywhere.Watch(r.ctx, from))

	created := r.createThree(o, client, label)
	for _, u := range created {
		w.next(watch.Added, u.GetName(), named(u.GetName()))
	}
	r.readThree(o, client, everywhere, label, created)
	first := created[0].GetName()
	r.patchOne(o, client, w, created[0])
	r.updateOne(o, client, w, first)
	if o.status != "" {
		r.statusOfOne(o, client, w, first)
	}
	if o.also != nil {
		o.also(client, w, first)
	}
	r.deleteThree(client, w, label, created)
}

// createThree makes three objects and checks what the server says it made.
func (r *row) createThree(o operations, client dynamic.ResourceInterface, label string) []*unstructured.Unstructured {
	r.Helper()
	var created []*unstructured.Unstructured
	for i := range 3 {
		name := r.unique()
		if o.names != nil {
			name = o.names(i)
		}
		wish := r.object(o, name, label)
		u, err := client.Create(r.ctx, wish, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		r.must(err, "creating "+name)
		r.sweep(client, name)
		r.has("creating "+name, u, wish.Object)
		if born := u.GetCreationTimestamp(); u.GetUID() == "" || u.GetResourceVersion() == "" || born.IsZero() {
			r.Fatalf("creating %s: uid, resource version or time of creation is empty: %s", name, asJSON(u))
		}
		created = append(created, u)
	}
	again := r.object(o, created[0].GetName(), label)
	_, err := client.Create(r.ctx, again, metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonAlreadyExists, "creating a second "+again.GetName())
	return created
}

// readThree gets one, and lists all in their namespace and in all namespaces.
func (r *row) readThree(o operations, client, everywhere dynamic.ResourceInterface, label string, created []*unstructured.Unstructured) {
	r.Helper()
	got, err := client.Get(r.ctx, created[0].GetName(), metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("uid of the object got", got.GetUID(), created[0].GetUID())
	r.has("getting", got, r.object(o, created[0].GetName(), label).Object)
	var want []string
	for _, u := range created {
		want = append(want, u.GetName())
	}
	slices.Sort(want)
	for where, lister := range map[string]dynamic.ResourceInterface{"the namespace": client, "all namespaces": everywhere} {
		list, err := lister.List(r.ctx, labelled(label))
		r.must(err, "listing "+where)
		r.equal("kind of the list", list.GetKind(), o.kind+"List")
		r.equal("version of the list", list.GetAPIVersion(), o.gvr.GroupVersion().String())
		var names []string
		for _, item := range list.Items {
			names = append(names, item.GetName())
		}
		r.equal("names listed in "+where, names, want)
		r.newer("listing after creating", created[1].GetResourceVersion(), list.GetResourceVersion())
	}
}

// patchOne sets an annotation by a merge patch, and nothing else.
func (r *row) patchOne(o operations, client dynamic.ResourceInterface, w *events, before *unstructured.Unstructured) {
	r.Helper()
	name := before.GetName()
	got, err := client.Patch(r.ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"patched":"true"}}}`), metav1.PatchOptions{})
	r.must(err, "patching "+name)
	r.equal("annotation patched", got.GetAnnotations()["patched"], "true")
	r.equal("labels after a patch of annotations", got.GetLabels(), before.GetLabels())
	r.equal("uid after a patch", got.GetUID(), before.GetUID())
	r.has("patching "+name, got, r.object(o, name, before.GetLabels()[rowLabel]).Object)
	r.newer("patching "+name, before.GetResourceVersion(), got.GetResourceVersion())
	w.next(watch.Modified, name, annotated(name, "patched", "true"))
}

// updateOne changes an annotation and what the kind lets change; and finds that an update from an old version is refused.
func (r *row) updateOne(o operations, client dynamic.ResourceInterface, w *events, name string) {
	r.Helper()
	part := merged(r.tree(`{metadata: {annotations: {updated: "true"}}}`), r.tree(o.edit))
	var old, got *unstructured.Unstructured
	r.again("updating "+name, func() (err error) {
		if old, err = client.Get(r.ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		wish := old.DeepCopy()
		merge(wish.Object, part)
		got, err = client.Update(r.ctx, wish, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
		return err
	})
	r.has("updating "+name, got, part)
	r.equal("annotation patched after an update", got.GetAnnotations()["patched"], "true")
	r.newer("updating "+name, old.GetResourceVersion(), got.GetResourceVersion())
	w.next(watch.Modified, name, annotated(name, "updated", "true"))
	old.SetAnnotations(map[string]string{"updated": "late"})
	_, err := client.Update(r.ctx, old, metav1.UpdateOptions{})
	r.refused(err, metav1.StatusReasonConflict, "updating from an old resource version")
}

// statusOfOne gets, patches and updates the status by its subresource, which leaves the rest of the object alone.
func (r *row) statusOfOne(o operations, client dynamic.ResourceInterface, w *events, name string) {
	r.Helper()
	before, err := client.Get(r.ctx, name, metav1.GetOptions{}, "status")
	r.must(err, "getting the status of "+name)
	r.equal("kind of what the subresource gives", before.GetKind(), o.kind)
	r.equal("name of what the subresource gives", before.GetName(), name)

	part := merged(r.tree(`{metadata: {annotations: {patchedstatus: "true"}}}`), r.tree(o.status))
	patch, err := json.Marshal(part)
	r.must(err, "writing the patch")
	got, err := client.Patch(r.ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	r.must(err, "patching the status of "+name)
	r.has("patching the status of "+name, got, r.tree(o.status))
	if !o.silent {
		r.equal("annotation patchedstatus", got.GetAnnotations()["patchedstatus"], "true")
	}
	r.newer("patching the status", before.GetResourceVersion(), got.GetResourceVersion())
	r.equal("spec after a patch of the status", got.Object["spec"], before.Object["spec"])
	r.equal("generation after a patch of the status", got.GetGeneration(), before.GetGeneration())
	w.next(watch.Modified, name+" with its status", func(m metav1.Object) bool {
		return lacking("", m.(*unstructured.Unstructured).Object, r.tree(o.status)) == ""
	})
	if o.update == "" {
		return
	}
	r.again("updating the status of "+name, func() error {
		wish, err := client.Get(r.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		merge(wish.Object, r.tree(o.update))
		got, err = client.UpdateStatus(r.ctx, wish, metav1.UpdateOptions{})
		return err
	})
	r.has("updating the status of "+name, got, r.tree(o.update))
	r.equal("spec after an update of the status", got.Object["spec"], before.Object["spec"])
	w.next(watch.Modified, name+" with its updated status", func(m metav1.Object) bool {
		return lacking("", m.(*unstructured.Unstructured).Object, r.tree(o.update)) == ""
	})
}

// deleteThree deletes one by its name and the others as a collection.
func (r *row) deleteThree(client dynamic.ResourceInterface, w *events, label string, created []*unstructured.Unstructured) {
	r.Helper()
	first := created[0].GetName()
	r.must(client.Delete(r.ctx, first, metav1.DeleteOptions{}), "deleting "+first)
	r.eventually(first+" is gone", func() (bool, error) {
		_, err := client.Get(r.ctx, first, metav1.GetOptions{})
		if err == nil {
			return false, nil
		}
		r.refused(err, metav1.StatusReasonNotFound, "getting what was deleted")
		return true, nil
	})
	w.next(watch.Deleted, first, named(first))
	list, err := client.List(r.ctx, labelled(label))
	r.must(err, "listing after deleting one")
	r.equal("items after deleting one", len(list.Items), 2)
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	r.eventually("the collection is gone", func() (bool, error) {
		list, err := client.List(r.ctx, labelled(label))
		return err == nil && len(list.Items) == 0, err
	})
	left := []string{created[1].GetName(), created[2].GetName()}
	for len(left) > 0 {
		gone := w.next(watch.Deleted, "one of "+asJSON(left), func(o metav1.Object) bool { return slices.Contains(left, o.GetName()) })
		left = slices.DeleteFunc(left, func(name string) bool { return name == gone.GetName() })
	}
}
