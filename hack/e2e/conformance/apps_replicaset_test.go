package conformance

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// replicas waits until that many pods of the ReplicaSet are available, and returns it.
func (d *rollouts) replicas(name string, n int32) *appsv1.ReplicaSet {
	d.Helper()
	var got *appsv1.ReplicaSet
	d.settles(fmt.Sprintf("%d pods of %s are available", n, name), func() (bool, error) {
		rs, err := d.sets.Get(d.ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		got = rs
		return rs.Status.ObservedGeneration >= rs.Generation && rs.Status.AvailableReplicas == n && rs.Status.Replicas == n, fmt.Errorf("status %s", asJSON(rs.Status))
	})
	return got
}

// APP-047: a ReplicaSet is replaced, and patched, and its size follows.
func replicaSetPatch(r *row) {
	d := r.rollouts()
	d.before("set", 1)
	w := r.follow(d.sets.Watch(r.ctx, labelled(d.label)))
	w.next(watch.Added, "set", named("set"))
	r.again("replacing", func() error {
		rs, err := d.sets.Get(r.ctx, "set", metav1.GetOptions{})
		if err != nil {
			return err
		}
		three := int32(3)
		rs.Spec.Replicas = &three
		_, err = d.sets.Update(r.ctx, rs, metav1.UpdateOptions{})
		return err
	})
	d.replicas("set", 3)
	_, err := d.sets.Patch(r.ctx, "set", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"patched":"yes"}},"spec":{"replicas":2,"template":{"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"testapp:2"}]}}}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	w.next(watch.Modified, "set, patched", func(o metav1.Object) bool {
		rs := o.(*appsv1.ReplicaSet)
		return rs.Labels["patched"] == "yes" && *rs.Spec.Replicas == 2 && rs.Spec.Template.Spec.Containers[0].Image == "testapp:2"
	})
	d.replicas("set", 2)
}

// APP-048
func replicaSetScale(r *row) {
	d := r.rollouts()
	d.before("set", 1)
	scale, err := d.sets.GetScale(r.ctx, "set", metav1.GetOptions{})
	r.must(err, "getting the scale")
	r.equal("replicas by the scale", scale.Spec.Replicas, int32(1))
	_, err = d.sets.UpdateScale(r.ctx, "set", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "set", Namespace: d.ns}, Spec: autoscalingv1.ScaleSpec{Replicas: 2}}, metav1.UpdateOptions{})
	r.must(err, "updating the scale")
	r.equal("replicas after the update", *d.replicas("set", 2).Spec.Replicas, int32(2))
	_, err = d.sets.Patch(r.ctx, "set", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{}, "scale")
	r.must(err, "patching the scale")
	r.equal("replicas after the patch", *d.replicas("set", 4).Spec.Replicas, int32(4))
}

// APP-049: a pod that nobody owns is adopted, and let go when its labels change.
func replicaSetAdoption(r *row) {
	d := r.rollouts()
	orphan := application("orphan", "pause")
	orphan.Labels = map[string]string{rowLabel: d.label, "of": "set"}
	r.reaches(d.ns, orphan, corev1.PodRunning)
	rs := d.before("set", 1)
	owned := func(want bool) {
		r.Helper()
		r.eventually(fmt.Sprintf("that the pod is owned is %v", want), func() (bool, error) {
			p, err := r.kube.CoreV1().Pods(d.ns).Get(r.ctx, "orphan", metav1.GetOptions{})
			return err == nil && metav1.IsControlledBy(p, rs) == want, err
		})
	}
	owned(true)
	pods, err := r.kube.CoreV1().Pods(d.ns).List(r.ctx, labelled(d.label))
	r.must(err, "listing pods")
	r.equal("pods after the adoption", len(pods.Items), 1)
	_, err = r.kube.CoreV1().Pods(d.ns).Patch(r.ctx, "orphan", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"of":"nobody"}}}`), metav1.PatchOptions{})
	r.must(err, "labelling the pod away")
	owned(false)
	d.replicas("set", 1)
}

// APP-050
func replicaSetCollection(r *row) {
	d := r.rollouts()
	d.before("set", 3)
	list, err := r.kube.AppsV1().ReplicaSets(metav1.NamespaceAll).List(r.ctx, labelled(d.label))
	r.must(err, "listing in all namespaces")
	r.equal("ReplicaSets", len(list.Items), 1)
	r.must(d.sets.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(d.label)), "deleting the collection")
	r.eventually("the ReplicaSet is gone", func() (bool, error) {
		list, err := d.sets.List(r.ctx, labelled(d.label))
		return err == nil && len(list.Items) == 0, err
	})
	r.settles("its pods are gone", func() (bool, error) {
		list, err := r.kube.CoreV1().Pods(d.ns).List(r.ctx, labelled(d.label))
		return err == nil && len(list.Items) == 0, err
	})
}

// APP-051: each pod answers with its own name, asked through the API server.
func replicaSetServes(r *row) {
	d := r.rollouts()
	d.before("set", 2)
	pods, err := r.kube.CoreV1().Pods(d.ns).List(r.ctx, labelled(d.label))
	r.must(err, "listing pods")
	r.equal("pods", len(pods.Items), 2)
	for _, p := range pods.Items {
		r.settles("pod "+p.Name+" answers with its name", func() (bool, error) {
			text, err := r.kube.CoreV1().Pods(d.ns).ProxyGet("http", p.Name, "8080", "/hostname", nil).DoRaw(r.ctx)
			return strings.TrimSpace(string(text)) == p.Name, fmt.Errorf("it said %q, %v", text, err)
		})
	}
}

// APP-052
func replicaSetStatus(r *row) {
	d := r.rollouts()
	d.before("set", 1)
	d.replicas("set", 1)
	w := r.follow(d.sets.Watch(r.ctx, labelled(d.label)))
	w.next(watch.Added, "set", named("set"))
	got, err := r.dyn.Resource(appsv1.SchemeGroupVersion.WithResource("replicasets")).Namespace(d.ns).Get(r.ctx, "set", metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.equal("kind of what the subresource gives", got.GetKind(), "ReplicaSet")
	has := func(kind appsv1.ReplicaSetConditionType) func(metav1.Object) bool {
		return func(o metav1.Object) bool {
			return slices.ContainsFunc(o.(*appsv1.ReplicaSet).Status.Conditions, func(c appsv1.ReplicaSetCondition) bool {
				return c.Type == kind && c.Status == corev1.ConditionTrue && c.Reason == "E2E"
			})
		}
	}
	r.again("updating the status", func() error {
		rs, err := d.sets.Get(r.ctx, "set", metav1.GetOptions{})
		if err != nil {
			return err
		}
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "E2E", Message: "Set from e2e test"})
		_, err = d.sets.UpdateStatus(r.ctx, rs, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, "set with the condition", has("StatusUpdate"))
	_, err = d.sets.Patch(r.ctx, "set", types.MergePatchType, []byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True","reason":"E2E"}]}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	w.next(watch.Modified, "set with the other condition", has("StatusPatched"))
}
