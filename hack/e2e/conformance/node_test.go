package conformance

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// NODE-001: a node that nobody runs is made, got, patched, updated, listed and deleted by collection, and its status too.
func nodeLife(r *row) {
	client := r.kube.CoreV1().Nodes()
	name, label := r.unique(), r.unique()
	w := r.follow(client.Watch(r.ctx, labelled(label)))
	cpu := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10"), corev1.ResourceMemory: resource.MustParse("10G")}
	_, err := client.Create(r.ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: label}},
		Spec:       corev1.NodeSpec{Unschedulable: true}, // no pod may go to it
		Status:     corev1.NodeStatus{Phase: corev1.NodeRunning, Capacity: cpu, Allocatable: cpu},
	}, metav1.CreateOptions{})
	r.must(err, "creating")
	r.sweep(r.dyn.Resource(corev1.SchemeGroupVersion.WithResource("nodes")), name)
	w.next(watch.Added, name, named(name))
	got, err := client.Get(r.ctx, name, metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("label got", got.Labels[rowLabel], label)

	patched, err := client.Patch(r.ctx, name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"yes"}}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("label after the patch", patched.Labels["patched"], "yes")
	w.next(watch.Modified, name, func(o metav1.Object) bool { return o.GetLabels()["patched"] == "yes" })

	_, err = client.PatchStatus(r.ctx, name, []byte(`{"status":{"conditions":[{"type":"Patched","status":"True","reason":"E2E"}]}}`))
	r.must(err, "patching the status")
	r.again("updating the status", func() error {
		n, err := client.Get(r.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: "Updated", Status: corev1.ConditionTrue, Reason: "E2E"})
		n.Status.Allocatable = cpu
		_, err = client.UpdateStatus(r.ctx, n, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, name+" with conditions", func(o metav1.Object) bool {
		has := map[corev1.NodeConditionType]bool{}
		for _, c := range o.(*corev1.Node).Status.Conditions {
			has[c.Type] = c.Status == corev1.ConditionTrue
		}
		return has["Patched"] && has["Updated"]
	})
	r.again("updating", func() error {
		n, err := client.Get(r.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Labels["updated"] = "yes"
		_, err = client.Update(r.ctx, n, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, name, func(o metav1.Object) bool { return o.GetLabels()["updated"] == "yes" })
	list, err := client.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("nodes", len(list.Items), 1)
	allocatable := list.Items[0].Status.Allocatable[corev1.ResourceCPU]
	r.equal("allocatable after an update of the status", allocatable.String(), "10")
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	w.next(watch.Deleted, name, named(name))
	_, err = client.Get(r.ctx, name, metav1.GetOptions{})
	r.refused(err, metav1.StatusReasonNotFound, "getting what was deleted")
}
