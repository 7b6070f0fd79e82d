package conformance

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// namespaceGone waits until the namespace is.
func (r *row) namespaceGone(name string) {
	r.Helper()
	r.eventually("namespace "+name+" is gone", func() (bool, error) {
		_, err := r.kube.CoreV1().Namespaces().Get(r.ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}

// AM-052: the services of a namespace go with it, and one of the same name made later has none.
func namespaceServices(r *row) {
	ns := r.namespace()
	_, err := r.kube.CoreV1().Services(ns).Create(r.ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
	r.must(err, "creating a service")
	r.must(r.kube.CoreV1().Namespaces().Delete(r.ctx, ns, metav1.DeleteOptions{}), "deleting the namespace")
	r.namespaceGone(ns)
	_, err = r.kube.CoreV1().Namespaces().Create(r.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
	r.must(err, "creating the namespace again")
	services, err := r.kube.CoreV1().Services(ns).List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing services")
	r.equal("services of the new namespace", len(services.Items), 0)
}

// AM-054: the pods of a namespace go first; while one is held, what it may need stays.
func namespacePodsFirst(r *row) {
	const finalizer = "conformance.example.com/hold"
	ns := r.namespace()
	pods, maps := r.kube.CoreV1().Pods(ns), r.kube.CoreV1().ConfigMaps(ns)
	_, err := pods.Create(r.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{finalizer}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "testapp", Args: []string{"pause"}}}}}, metav1.CreateOptions{})
	r.must(err, "creating a pod")
	release := func(ctx context.Context) error {
		_, err := pods.Patch(ctx, "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		return err
	}
	r.tidy("taking the pod's finalizer away", release) // whatever goes wrong
	_, err = maps.Create(r.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "needed"}}, metav1.CreateOptions{})
	r.must(err, "creating a config map")
	r.must(r.kube.CoreV1().Namespaces().Delete(r.ctx, ns, metav1.DeleteOptions{}), "deleting the namespace")
	r.eventually("the namespace says that a pod with a finalizer holds it", func() (bool, error) {
		n, err := r.kube.CoreV1().Namespaces().Get(r.ctx, ns, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		held := 0
		for _, c := range n.Status.Conditions {
			if c.Status == corev1.ConditionTrue && (c.Type == corev1.NamespaceContentRemaining || c.Type == corev1.NamespaceFinalizersRemaining) {
				held++
			}
		}
		return held == 2, nil
	})
	held, err := pods.Get(r.ctx, "held", metav1.GetOptions{})
	r.must(err, "getting the pod")
	needed, err := maps.Get(r.ctx, "needed", metav1.GetOptions{})
	r.must(err, "getting the config map while the pod is there")
	r.equal("being deleted are the pod and not the config map", []bool{held.DeletionTimestamp != nil, needed.DeletionTimestamp != nil}, []bool{true, false})
	r.must(release(r.ctx), "taking the pod's finalizer away")
	r.namespaceGone(ns)
}
