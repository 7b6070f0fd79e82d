package conformance

import (
	"fmt"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
)

// replicated are ReplicationControllers under test, and their pods.
type replicated struct {
	*row
	ns, label string
	client    typedcore.ReplicationControllerInterface
	pods      typedcore.PodInterface
}

func (r *row) replicated() *replicated {
	r.Helper()
	ns := r.namespace()
	return &replicated{r, ns, r.unique(), r.kube.CoreV1().ReplicationControllers(ns), r.kube.CoreV1().Pods(ns)}
}

// create makes a ReplicationController of that name, by which it selects its pods.
func (c *replicated) create(name string, replicas int32) *corev1.ReplicationController {
	c.Helper()
	template := serving(c.label)
	template.Labels["of"] = name
	made, err := c.client.Create(c.ctx, &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: c.label}},
		Spec:       corev1.ReplicationControllerSpec{Replicas: &replicas, Selector: template.Labels, Template: &template},
	}, metav1.CreateOptions{})
	c.must(err, "creating a ReplicationController")
	return made
}

// available waits until it has so many pods, which all are.
func (c *replicated) available(name string, n int32) *corev1.ReplicationController {
	c.Helper()
	var got *corev1.ReplicationController
	c.settles(fmt.Sprintf("%d pods of %s are available", n, name), func() (bool, error) {
		rc, err := c.client.Get(c.ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		got = rc
		return rc.Status.ObservedGeneration >= rc.Generation && rc.Status.AvailableReplicas == n && rc.Status.Replicas == n, fmt.Errorf("status %s", asJSON(rc.Status))
	})
	return got
}

// made waits until so many pods of it exist, running or not.
func (c *replicated) made(name string, n int) []corev1.Pod {
	c.Helper()
	var pods []corev1.Pod
	c.settles(fmt.Sprintf("%d pods of %s exist", n, name), func() (bool, error) {
		list, err := c.pods.List(c.ctx, metav1.ListOptions{LabelSelector: "of=" + name})
		if err != nil {
			return false, err
		}
		pods = list.Items
		return len(pods) == n, fmt.Errorf("%d do", len(pods))
	})
	return pods
}

// APP-041: a pod that nobody owns is adopted by a controller that comes later.
func controllerAdopts(r *row) {
	c := r.replicated()
	orphan := application("orphan", "pause")
	orphan.Labels = map[string]string{rowLabel: c.label, "of": "rc"}
	r.reaches(c.ns, orphan, corev1.PodRunning)
	rc := c.create("rc", 1)
	r.eventually("the pod is adopted", func() (bool, error) {
		p, err := c.pods.Get(r.ctx, "orphan", metav1.GetOptions{})
		return err == nil && metav1.IsControlledBy(p, rc), err
	})
	c.made("rc", 1)
}

// APP-042
func controllerScale(r *row) {
	c := r.replicated()
	c.create("rc", 1)
	c.available("rc", 1)
	scale, err := c.client.GetScale(r.ctx, "rc", metav1.GetOptions{})
	r.must(err, "getting the scale")
	r.equal("replicas by the scale", scale.Spec.Replicas, int32(1))
	updated, err := c.client.UpdateScale(r.ctx, "rc", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "rc", Namespace: c.ns}, Spec: autoscalingv1.ScaleSpec{Replicas: 2}}, metav1.UpdateOptions{})
	r.must(err, "updating the scale")
	r.equal("replicas in the answer", updated.Spec.Replicas, int32(2))
	r.equal("replicas of the controller", *c.available("rc", 2).Spec.Replicas, int32(2))
}

// APP-043: a pod whose labels change is let go, and another made.
func controllerReleases(r *row) {
	c := r.replicated()
	rc := c.create("rc", 1)
	pod := c.made("rc", 1)[0]
	r.equal("that the pod is owned", metav1.IsControlledBy(&pod, rc), true)
	_, err := c.pods.Patch(r.ctx, pod.Name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"of":"nobody"}}}`), metav1.PatchOptions{})
	r.must(err, "labelling the pod away")
	r.eventually("the pod is let go", func() (bool, error) {
		p, err := c.pods.Get(r.ctx, pod.Name, metav1.GetOptions{})
		return err == nil && metav1.GetControllerOf(p) == nil, err
	})
	c.made("rc", 1)
}

// APP-044: each pod answers with its own name, asked through the API server.
func controllerServes(r *row) {
	c := r.replicated()
	c.create("rc", 2)
	c.available("rc", 2)
	for _, p := range c.made("rc", 2) {
		r.settles("pod "+p.Name+" answers with its name", func() (bool, error) {
			text, err := c.pods.ProxyGet("http", p.Name, "8080", "/hostname", nil).DoRaw(r.ctx)
			return strings.TrimSpace(string(text)) == p.Name, fmt.Errorf("it said %q, %v", text, err)
		})
	}
}

// APP-045: what a quota refuses is a condition, which goes when less is asked for.
func controllerOverQuota(r *row) {
	c := r.replicated()
	r.quota(c.ns, "two", list("pods", "2")).says("pods", "0")
	c.create("rc", 3)
	failing := func(want bool) {
		r.Helper()
		r.eventually(fmt.Sprintf("that the controller fails is %v", want), func() (bool, error) {
			rc, err := c.client.Get(r.ctx, "rc", metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			failure := slices.ContainsFunc(rc.Status.Conditions, func(c corev1.ReplicationControllerCondition) bool {
				return c.Type == corev1.ReplicationControllerReplicaFailure && c.Status == corev1.ConditionTrue
			})
			if rc.Status.ObservedGeneration < rc.Generation || failure != want {
				return false, fmt.Errorf("status %s", asJSON(rc.Status))
			}
			return true, nil
		})
	}
	failing(true)
	r.again("asking for less", func() error {
		rc, err := c.client.Get(r.ctx, "rc", metav1.GetOptions{})
		if err != nil {
			return err
		}
		two := int32(2)
		rc.Spec.Replicas = &two
		_, err = c.client.Update(r.ctx, rc, metav1.UpdateOptions{})
		return err
	})
	failing(false)
	c.made("rc", 2)
}

// APP-046: a controller is made, patched, updated, found in all namespaces and deleted by collection; a watcher sees it.
func controllerLife(r *row) {
	c := r.replicated()
	w := r.follow(c.client.Watch(r.ctx, labelled(c.label)))
	c.create("rc", 1)
	w.next(watch.Added, "rc", named("rc"))
	w.next(watch.Modified, "rc with a ready pod", func(o metav1.Object) bool { return o.(*corev1.ReplicationController).Status.ReadyReplicas == 1 })
	_, err := c.client.Patch(r.ctx, "rc", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"yes"}},"spec":{"replicas":1}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	w.next(watch.Modified, "rc, patched", func(o metav1.Object) bool { return o.GetLabels()["patched"] == "yes" })
	_, err = c.client.Patch(r.ctx, "rc", types.StrategicMergePatchType,
		[]byte(`{"status":{"conditions":[{"type":"Patched","status":"True","reason":"E2E"}]}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	w.next(watch.Modified, "rc with the condition", func(o metav1.Object) bool {
		return slices.ContainsFunc(o.(*corev1.ReplicationController).Status.Conditions, func(c corev1.ReplicationControllerCondition) bool { return c.Type == "Patched" })
	})
	got, err := r.dyn.Resource(corev1.SchemeGroupVersion.WithResource("replicationcontrollers")).Namespace(c.ns).Get(r.ctx, "rc", metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.equal("kind of what the subresource gives", got.GetKind(), "ReplicationController")
	_, err = c.client.Patch(r.ctx, "rc", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{}, "scale")
	r.must(err, "patching the scale")
	w.next(watch.Modified, "rc with two ready pods", func(o metav1.Object) bool {
		rc := o.(*corev1.ReplicationController)
		return *rc.Spec.Replicas == 2 && rc.Status.ReadyReplicas == 2
	})
	r.again("updating", func() error {
		rc, err := c.client.Get(r.ctx, "rc", metav1.GetOptions{})
		if err != nil {
			return err
		}
		rc.Annotations = map[string]string{"updated": "yes"}
		_, err = c.client.Update(r.ctx, rc, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, "rc, updated", func(o metav1.Object) bool { return o.GetAnnotations()["updated"] == "yes" })
	all, err := r.kube.CoreV1().ReplicationControllers(metav1.NamespaceAll).List(r.ctx, labelled(c.label))
	r.must(err, "listing in all namespaces")
	r.equal("controllers in all namespaces", len(all.Items), 1)
	r.equal("label of the one", all.Items[0].Labels["patched"], "yes")
	r.must(c.client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(c.label)), "deleting the collection")
	w.next(watch.Deleted, "rc", named("rc"))
}
