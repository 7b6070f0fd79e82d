package conformance

import (
	"fmt"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// CN-004
func configMapEmptyKey(r *row) {
	_, err := r.kube.CoreV1().ConfigMaps(r.namespace()).Create(r.ctx,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "empty"}, Data: map[string]string{"": "value-1"}}, metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonInvalid, "creating a ConfigMap with an empty key")
	if !strings.Contains(err.Error(), "data[]: Invalid value") {
		r.Errorf("creating a ConfigMap with an empty key: %v", err)
	}
}

// CN-085
func secretEmptyKey(r *row) {
	_, err := r.kube.CoreV1().Secrets(r.namespace()).Create(r.ctx,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "empty"}, Data: map[string][]byte{"": []byte("value-1")}}, metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonInvalid, "creating a Secret with an empty key")
	if !strings.Contains(err.Error(), "data[]: Invalid value") {
		r.Errorf("creating a Secret with an empty key: %v", err)
	}
}

// CN-005: ConfigMaps are made, got, patched, listed in all namespaces and deleted by collection; a watcher sees it.
func configMapLife(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().ConfigMaps(ns)
	label := r.unique()
	w := r.follow(client.Watch(r.ctx, labelled(label)))
	made := note("one", label)
	made.Data = map[string]string{"value": "first", "kept": "yes"}
	_, err := client.Create(r.ctx, made, metav1.CreateOptions{})
	r.must(err, "creating")
	w.strict(watch.Added, named("one"))
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("data got", got.Data, made.Data)
	_, err = client.Patch(r.ctx, "one", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"yes"}},"data":{"value":"second"}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	w.strict(watch.Modified, func(o metav1.Object) bool { return o.GetLabels()["patched"] == "yes" })
	list, err := r.kube.CoreV1().ConfigMaps(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("ConfigMaps in all namespaces", len(list.Items), 1)
	r.equal("data after the patch", list.Items[0].Data, map[string]string{"value": "second", "kept": "yes"})
	r.equal("name of the one", list.Items[0].Namespace+"/"+list.Items[0].Name, ns+"/one")
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	w.strict(watch.Deleted, named("one"))
	left, err := client.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("ConfigMaps left", len(left.Items), 0)
}

// CN-006
func configMapUpdate(r *row) {
	client := r.kube.CoreV1().ConfigMaps(r.namespace())
	first := note("one", r.unique())
	first.Data = map[string]string{"data": "value-1"}
	made, err := client.Create(r.ctx, first, metav1.CreateOptions{})
	r.must(err, "creating")
	made.Data = map[string]string{"data": "value-2", "more": "value-3"}
	updated, err := client.Update(r.ctx, made, metav1.UpdateOptions{})
	r.must(err, "updating")
	r.newer("updating", made.ResourceVersion, updated.ResourceVersion)
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("data got", got.Data, map[string]string{"data": "value-2", "more": "value-3"})
}

// CN-086: a secret found among those of all namespaces is patched, and deleted by its label.
func secretPatch(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().Secrets(ns)
	label := r.unique()
	_, err := client.Create(r.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{rowLabel: label}},
		Data:       map[string][]byte{"key": []byte("value")}, Type: corev1.SecretTypeOpaque,
	}, metav1.CreateOptions{})
	r.must(err, "creating")
	everywhere := r.kube.CoreV1().Secrets(metav1.NamespaceAll)
	list, err := everywhere.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("secrets", len(list.Items), 1)
	_, err = client.Patch(r.ctx, "one", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"patched":"yes"}},"data":{"key":"dmFsdWUx"}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("key after the patch", string(got.Data["key"]), "value1")
	r.equal("label after the patch", got.Labels["patched"], "yes")
	r.equal("type after the patch", got.Type, corev1.SecretTypeOpaque)
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting")
	list, err = everywhere.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("secrets left", len(list.Items), 0)
}

// CN-048: leases, whose fields are times and names.
func leases(r *row) {
	o := operations{
		gvr: coordinationv1.SchemeGroupVersion.WithResource("leases"), kind: "Lease", namespaced: true,
		manifest: `{spec: {holderIdentity: holder, leaseDurationSeconds: 30, acquireTime: "2026-01-01T00:00:00.000000Z",
  renewTime: "2026-01-01T00:00:05.123456Z", leaseTransitions: 0}}`,
		edit: `{spec: {holderIdentity: holder2, leaseDurationSeconds: 60, acquireTime: "2026-01-01T00:00:10.000001Z", leaseTransitions: 1}}`,
	}
	r.operate(o)
}

// CN-069
func podTemplateCollection(r *row) {
	client := r.kube.CoreV1().PodTemplates(r.namespace())
	label := r.unique()
	for i := range 3 {
		_, err := client.Create(r.ctx, template(fmt.Sprintf("test-%d", i), label), metav1.CreateOptions{})
		r.must(err, "creating")
	}
	list, err := client.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("templates", len(list.Items), 3)
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	list, err = client.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("templates left", len(list.Items), 0)
}

// CN-070
func podTemplateReplace(r *row) {
	client := r.kube.CoreV1().PodTemplates(r.namespace())
	made, err := client.Create(r.ctx, template("one", r.unique()), metav1.CreateOptions{})
	r.must(err, "creating")
	made.Annotations = map[string]string{"updated": "true"}
	made.Template.Spec.Containers[0].Image = "test3"
	updated, err := client.Update(r.ctx, made, metav1.UpdateOptions{})
	r.must(err, "replacing")
	r.equal("annotation", updated.Annotations["updated"], "true")
	r.newer("replacing", made.ResourceVersion, updated.ResourceVersion)
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("image got", got.Template.Spec.Containers[0].Image, "test3")
}

// CN-071
func podTemplateLife(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().PodTemplates(ns)
	label := r.unique()
	w := r.follow(client.Watch(r.ctx, labelled(label)))
	_, err := client.Create(r.ctx, template("one", label), metav1.CreateOptions{})
	r.must(err, "creating")
	w.strict(watch.Added, named("one"))
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("image", got.Template.Spec.Containers[0].Image, "test2")
	r.equal("restart policy, by default", got.Template.Spec.RestartPolicy, corev1.RestartPolicyAlways)
	_, err = client.Patch(r.ctx, "one", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"patched":"yes"}},"template":{"spec":{"containers":[{"name":"test","image":"test9"}]}}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	w.strict(watch.Modified, func(o metav1.Object) bool { return o.GetLabels()["patched"] == "yes" })
	list, err := r.kube.CoreV1().PodTemplates(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("templates in all namespaces", len(list.Items), 1)
	r.equal("containers after the patch", len(list.Items[0].Template.Spec.Containers), 1)
	r.equal("image after the patch", list.Items[0].Template.Spec.Containers[0].Image, "test9")
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting")
	w.strict(watch.Deleted, named("one"))
	list, err = r.kube.CoreV1().PodTemplates(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("templates left", len(list.Items), 0)
}

// CN-081
func runtimeClasses(r *row) {
	r.operate(operations{
		gvr: nodev1.SchemeGroupVersion.WithResource("runtimeclasses"), kind: "RuntimeClass",
		manifest: `{handler: non-existent-handler}`,
		edit:     `{scheduling: {nodeSelector: {conformance.example.com/nobody: has-this}}}`,
	})
}

// ofClass is a pod of that runtime class.
func ofClass(class string) *corev1.Pod {
	pod := limited("of-class", nil, nil)
	pod.Spec.RuntimeClassName = &class
	return pod
}

// CN-078
func podOfNoRuntimeClass(r *row) {
	class := r.unique()
	_, err := r.kube.CoreV1().Pods(r.namespace()).Create(r.ctx, ofClass(class), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a pod of a class that is not there")
	if !strings.Contains(err.Error(), class) {
		r.Errorf("the refusal does not name the class: %v", err)
	}
}

// CN-077
func podOfDeletedRuntimeClass(r *row) {
	classes := r.kube.NodeV1().RuntimeClasses()
	pods := r.kube.CoreV1().Pods(r.namespace())
	class, err := classes.Create(r.ctx, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: r.unique()}, Handler: "h"}, metav1.CreateOptions{})
	r.must(err, "creating a class")
	r.sweep(r.dyn.Resource(nodev1.SchemeGroupVersion.WithResource("runtimeclasses")), class.Name)
	r.eventually("a pod of the class can be made", func() (bool, error) {
		_, err := pods.Create(r.ctx, ofClass(class.Name), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil, err
	})
	r.must(classes.Delete(r.ctx, class.Name, metav1.DeleteOptions{}), "deleting the class")
	r.eventually("the class is gone", func() (bool, error) {
		_, err := classes.Get(r.ctx, class.Name, metav1.GetOptions{})
		return err != nil, nil
	})
	r.eventually("a pod of the deleted class is refused", func() (bool, error) {
		_, err := pods.Create(r.ctx, ofClass(class.Name), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			r.refused(err, metav1.StatusReasonForbidden, "creating a pod of a deleted class")
		}
		return err != nil, nil
	})
	_, err = pods.Create(r.ctx, ofClass(class.Name), metav1.CreateOptions{})
	r.refused(err, metav1.StatusReasonForbidden, "creating a pod of a deleted class")
}
