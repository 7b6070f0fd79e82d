package conformance

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// AM-048: a finalizer is added to a namespace and taken from it by the subresource finalize.
func namespaceFinalizer(r *row) {
	const finalizer = "conformance.example.com/finalizer"
	client := r.kube.CoreV1().Namespaces()
	name := r.namespace()
	change := func(doing string, f func([]corev1.FinalizerName) []corev1.FinalizerName) *corev1.Namespace {
		var out *corev1.Namespace
		r.again(doing, func() error {
			n, err := client.Get(r.ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			n.Spec.Finalizers = f(n.Spec.Finalizers)
			out, err = client.Finalize(r.ctx, n, metav1.UpdateOptions{})
			return err
		})
		return out
	}
	// Whatever goes wrong, the namespace must be able to end.
	r.tidy("taking the finalizer away", func(ctx context.Context) error {
		n, err := client.Get(ctx, name, metav1.GetOptions{})
		if err != nil || !slices.Contains(n.Spec.Finalizers, finalizer) {
			return err
		}
		n.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
		_, err = client.Finalize(ctx, n, metav1.UpdateOptions{})
		return err
	})
	added := change("adding a finalizer", func(f []corev1.FinalizerName) []corev1.FinalizerName { return append(f, finalizer) })
	r.equal("finalizers after adding one", added.Spec.Finalizers, []corev1.FinalizerName{corev1.FinalizerKubernetes, finalizer})
	got, err := client.Get(r.ctx, name, metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("finalizers got", got.Spec.Finalizers, added.Spec.Finalizers)
	removed := change("removing the finalizer", func(f []corev1.FinalizerName) []corev1.FinalizerName {
		return slices.DeleteFunc(f, func(n corev1.FinalizerName) bool { return n == finalizer })
	})
	r.equal("finalizers after removing it", removed.Spec.Finalizers, []corev1.FinalizerName{corev1.FinalizerKubernetes})
}

// AM-049: an update of a namespace's labels is kept.
func namespaceUpdate(r *row) {
	client := r.kube.CoreV1().Namespaces()
	name := r.namespace()
	label := r.unique()
	var updated *corev1.Namespace
	r.again("updating", func() error {
		n, err := client.Get(r.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Labels[rowLabel] = label
		updated, err = client.Update(r.ctx, n, metav1.UpdateOptions{})
		return err
	})
	r.equal("label after the update", updated.Labels[rowLabel], label)
	r.equal("label of every namespace", updated.Labels["kubernetes.io/metadata.name"], name)
	list, err := client.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("namespaces with the label", len(list.Items), 1)
	r.equal("name of the one with the label", list.Items[0].Name, name)
}

// AM-050: the status of a namespace is read, patched and updated.
func namespaceStatus(r *row) {
	client := r.kube.CoreV1().Namespaces()
	name := r.namespace()
	got, err := r.dyn.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).Get(r.ctx, name, metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.equal("phase", got.Object["status"], any(map[string]any{"phase": "Active"}))

	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{"patched": "status"}},
		"status":   map[string]any{"conditions": []corev1.NamespaceCondition{{Type: "StatusPatch", Status: corev1.ConditionTrue, Reason: "Row"}}},
	})
	r.must(err, "writing the patch")
	patched, err := client.Patch(r.ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	r.equal("conditions after the patch", conditionsOf(patched), []string{"StatusPatch=True"})
	r.equal("annotation after the patch", patched.Annotations["patched"], "status")
	r.equal("phase after the patch", patched.Status.Phase, corev1.NamespaceActive)

	var updated *corev1.Namespace
	r.again("updating the status", func() error {
		n, err := client.Get(r.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Status.Conditions = append(n.Status.Conditions, corev1.NamespaceCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "Row"})
		updated, err = client.UpdateStatus(r.ctx, n, metav1.UpdateOptions{})
		return err
	})
	r.equal("conditions after the update", conditionsOf(updated), []string{"StatusPatch=True", "StatusUpdate=True"})
	kept, err := client.Get(r.ctx, name, metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("conditions got", conditionsOf(kept), conditionsOf(updated))
}

func conditionsOf(n *corev1.Namespace) []string {
	var out []string
	for _, c := range n.Status.Conditions {
		out = append(out, string(c.Type)+"="+string(c.Status))
	}
	return out
}

// AM-053: a patch of a namespace's labels is kept.
func namespacePatch(r *row) {
	client := r.kube.CoreV1().Namespaces()
	name := r.namespace()
	patched, err := client.Patch(r.ctx, name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"testLabel":"testValue"}}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("label after the patch", patched.Labels["testLabel"], "testValue")
	got, err := client.Get(r.ctx, name, metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("label got", got.Labels["testLabel"], "testValue")
	r.equal("label from before", got.Labels["conformance"], "row")
}
