package conformance

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	typedapps "k8s.io/client-go/kubernetes/typed/apps/v1"
)

// rollouts are a Deployment under test, and ReplicaSets beside it.
type rollouts struct {
	*row
	ns, label string
	client    typedapps.DeploymentInterface
	sets      typedapps.ReplicaSetInterface
}

func (r *row) rollouts() *rollouts {
	r.Helper()
	ns := r.namespace()
	return &rollouts{row: r, ns: ns, label: r.unique(), client: r.kube.AppsV1().Deployments(ns), sets: r.kube.AppsV1().ReplicaSets(ns)}
}

// create makes the Deployment.
func (d *rollouts) create(replicas int32, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d.Helper()
	want := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{rowLabel: d.label}},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{rowLabel: d.label}}, Template: serving(d.label),
		},
	}
	for _, c := range change {
		c(want)
	}
	made, err := d.client.Create(d.ctx, want, metav1.CreateOptions{})
	d.must(err, "creating a Deployment")
	return made
}

// before makes a ReplicaSet that the Deployment's selector selects, and waits until its pods are ready.
func (d *rollouts) before(name string, replicas int32, change ...func(*appsv1.ReplicaSet)) *appsv1.ReplicaSet {
	d.Helper()
	want := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: d.label, "of": name}},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{rowLabel: d.label, "of": name}}, Template: serving(d.label),
		},
	}
	want.Spec.Template.Labels["of"] = name
	for _, c := range change {
		c(want)
	}
	made, err := d.sets.Create(d.ctx, want, metav1.CreateOptions{})
	d.must(err, "creating a ReplicaSet")
	d.settles("its pods are ready", func() (bool, error) {
		rs, err := d.sets.Get(d.ctx, name, metav1.GetOptions{})
		return err == nil && rs.Status.AvailableReplicas == replicas, err
	})
	return made
}

func using(image string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image }
}

func stepping(surge, lack int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		s, l := intstr.FromInt32(surge), intstr.FromInt32(lack)
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &l}}
	}
}

func (d *rollouts) get() *appsv1.Deployment {
	d.Helper()
	got, err := d.client.Get(d.ctx, "web", metav1.GetOptions{})
	d.must(err, "getting the Deployment")
	return got
}

func (d *rollouts) patch(patch string) *appsv1.Deployment {
	d.Helper()
	got, err := d.client.Patch(d.ctx, "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	d.must(err, "patching the Deployment")
	return got
}

// image changes what the pods run.
func (d *rollouts) image(image string) {
	d.Helper()
	d.patch(fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, image))
}

// done waits until the rollout is complete.
func (d *rollouts) done() *appsv1.Deployment {
	d.Helper()
	var got *appsv1.Deployment
	d.settles("the rollout is complete", func() (bool, error) {
		got = d.get()
		n, s := *got.Spec.Replicas, got.Status
		return s.ObservedGeneration >= got.Generation && s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n, fmt.Errorf("status %s", asJSON(s))
	})
	return got
}

// revisions are the ReplicaSets, the oldest first.
func (d *rollouts) revisions() []appsv1.ReplicaSet {
	d.Helper()
	list, err := d.sets.List(d.ctx, labelled(d.label))
	d.must(err, "listing ReplicaSets")
	number := func(rs appsv1.ReplicaSet) string {
		return fmt.Sprintf("%20s", rs.Annotations["deployment.kubernetes.io/revision"])
	}
	slices.SortFunc(list.Items, func(a, b appsv1.ReplicaSet) int {
		if number(a) < number(b) {
			return -1
		}
		return 1
	})
	return list.Items
}

// sizes waits until the ReplicaSets, the oldest first, are to have that many replicas, and of each at least so many are available.
func (d *rollouts) sizes(want, available []int32) {
	d.Helper()
	d.settles(fmt.Sprintf("replica sets of %v, of which %v available", want, available), func() (bool, error) {
		var sizes, serves []int32
		ok := true
		for i, rs := range d.revisions() {
			sizes, serves = append(sizes, *rs.Spec.Replicas), append(serves, rs.Status.AvailableReplicas)
			ok = ok && i < len(want) && *rs.Spec.Replicas == want[i] && rs.Status.AvailableReplicas >= available[i]
		}
		return ok && len(sizes) == len(want), fmt.Errorf("they are of %v, available %v", sizes, serves)
	})
}

// APP-014: the size is got, updated and patched by the subresource.
func deploymentScale(r *row) {
	d := r.rollouts()
	d.create(1)
	d.done()
	scale, err := d.client.GetScale(r.ctx, "web", metav1.GetOptions{})
	r.must(err, "getting the scale")
	r.equal("replicas by the scale", scale.Spec.Replicas, int32(1))
	_, err = d.client.UpdateScale(r.ctx, "web", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: d.ns}, Spec: autoscalingv1.ScaleSpec{Replicas: 2}}, metav1.UpdateOptions{})
	r.must(err, "updating the scale")
	r.equal("replicas after the update", *d.get().Spec.Replicas, int32(2))
	_, err = d.client.Patch(r.ctx, "web", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{}, "scale")
	r.must(err, "patching the scale")
	r.equal("replicas after the patch", *d.get().Spec.Replicas, int32(4))
	d.done()
}

// APP-015: pods of two templates are never there together.
func deploymentRecreate(r *row) {
	d := r.rollouts()
	d.create(1, func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	})
	first := d.done()
	r.equal("revision of the first", first.Annotations["deployment.kubernetes.io/revision"], "1")
	w := r.follow(d.client.Watch(r.ctx, metav1.ListOptions{FieldSelector: "metadata.name=web", ResourceVersion: first.ResourceVersion}))
	d.image("testapp:2")
	for finished := false; !finished; {
		w.next(watch.Modified, "the Deployment", func(o metav1.Object) bool {
			now := o.(*appsv1.Deployment)
			s := now.Status
			if s.UpdatedReplicas > 0 && s.Replicas != s.UpdatedReplicas && s.ObservedGeneration >= now.Generation {
				r.Fatalf("pods of both templates: %s", asJSON(s))
			}
			finished = s.ObservedGeneration >= now.Generation && now.Generation > first.Generation && s.UpdatedReplicas == 1 && s.AvailableReplicas == 1
			return true
		})
	}
	d.done()
}

// APP-016: a ReplicaSet that the selector selects is adopted as a former revision, and its pods give way.
func deploymentRolling(r *row) {
	d := r.rollouts()
	old := d.before("first", 1, func(rs *appsv1.ReplicaSet) {
		rs.Annotations = map[string]string{"deployment.kubernetes.io/revision": "3546343826724305832"}
	})
	d.create(1, using("testapp:2"))
	now := d.done()
	r.equal("revision", now.Annotations["deployment.kubernetes.io/revision"], "3546343826724305833")
	got, err := d.sets.Get(r.ctx, old.Name, metav1.GetOptions{})
	r.must(err, "getting the old ReplicaSet")
	if !metav1.IsControlledBy(got, now) || *got.Spec.Replicas != 0 {
		r.Errorf("the old ReplicaSet has %d replicas and the owners %s", *got.Spec.Replicas, asJSON(got.OwnerReferences))
	}
	r.equal("ReplicaSets", len(d.revisions()), 2)
}

// APP-017: with a history limit of nothing, old ReplicaSets go.
func deploymentHistory(r *row) {
	d := r.rollouts()
	old := d.before("first", 1)
	none := int32(0)
	d.create(1, using("testapp:2"), func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &none })
	d.settles("only the new ReplicaSet is left", func() (bool, error) {
		left := d.revisions()
		return len(left) == 1 && left[0].Name != old.Name, fmt.Errorf("there are %d", len(left))
	})
	d.done()
}

// APP-018: amid a rollout that stands still, a new size is shared out in proportion.
func deploymentProportion(r *row) {
	d := r.rollouts()
	d.create(10, stepping(3, 2))
	d.done()
	d.image("testapp:nowhere")
	d.sizes([]int32{8, 5}, []int32{8, 0}) // at least 10-2 available, at most 10+3 in all
	d.patch(`{"spec":{"replicas":30}}`)
	d.sizes([]int32{20, 13}, []int32{8, 0}) // 33 in all: 8 and 5 of 13
}

// APP-019: a rollout that has not come to its end gives way to the next.
func deploymentRollover(r *row) {
	d := r.rollouts()
	d.before("first", 1)
	d.create(1, using("testapp:nowhere"), stepping(1, 0), func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 10 })
	d.sizes([]int32{1, 1}, []int32{1, 0})
	d.image("testapp:2")
	d.done()
	d.sizes([]int32{0, 0, 1}, []int32{0, 0, 1})
}

// APP-020: made, patched, updated, its status too, and deleted as a collection, as a watcher sees it.
func deploymentLife(r *row) {
	d := r.rollouts()
	w := r.follow(d.client.Watch(r.ctx, labelled(d.label)))
	d.create(1)
	w.next(watch.Added, "web", named("web"))
	available := func(image string, n int32) {
		r.Helper()
		d.done()
		w.next(watch.Modified, "web available", func(o metav1.Object) bool {
			now := o.(*appsv1.Deployment)
			return now.Spec.Template.Spec.Containers[0].Image == image && now.Status.ObservedGeneration >= now.Generation && now.Status.AvailableReplicas == n && now.Status.UpdatedReplicas == n
		})
	}
	available("testapp", 1)
	patched := d.patch(`{"metadata":{"labels":{"patched":"yes"}},"spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"c","image":"testapp:2"}]}}}}`)
	r.equal("label after the patch", patched.Labels["patched"], "yes")
	available("testapp:2", 2)
	list, err := r.kube.AppsV1().Deployments(metav1.NamespaceAll).List(r.ctx, labelled(d.label))
	r.must(err, "listing in all namespaces")
	r.equal("Deployments", len(list.Items), 1)
	r.equal("image listed", list.Items[0].Spec.Template.Spec.Containers[0].Image, "testapp:2")
	r.again("updating", func() error {
		now := d.get()
		now.Labels["updated"] = "yes"
		now.Spec.Template.Spec.Containers[0].Image = "testapp"
		_, err := d.client.Update(r.ctx, now, metav1.UpdateOptions{})
		return err
	})
	available("testapp", 2)
	r.again("updating the status", func() error {
		now := d.get()
		now.Status.Conditions = append(now.Status.Conditions, appsv1.DeploymentCondition{Type: "Checked", Status: corev1.ConditionTrue, Reason: "E2E"})
		_, err := d.client.UpdateStatus(r.ctx, now, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, "web with the condition", deploymentHas("Checked"))
	r.must(d.client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(d.label)), "deleting the collection")
	w.next(watch.Deleted, "web", named("web"))
}

func deploymentHas(kind appsv1.DeploymentConditionType) func(metav1.Object) bool {
	return func(o metav1.Object) bool {
		return slices.ContainsFunc(o.(*appsv1.Deployment).Status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == kind && c.Status == corev1.ConditionTrue && c.Reason == "E2E"
		})
	}
}

// APP-021
func deploymentStatus(r *row) {
	d := r.rollouts()
	d.create(1)
	d.done()
	w := r.follow(d.client.Watch(r.ctx, labelled(d.label)))
	w.next(watch.Added, "web", named("web"))
	got, err := r.dyn.Resource(appsv1.SchemeGroupVersion.WithResource("deployments")).Namespace(d.ns).Get(r.ctx, "web", metav1.GetOptions{}, "status")
	r.must(err, "getting the status")
	r.equal("kind of what the subresource gives", got.GetKind(), "Deployment")
	r.again("updating the status", func() error {
		now := d.get()
		now.Status.Conditions = append(now.Status.Conditions, appsv1.DeploymentCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "E2E", Message: "Set from e2e test"})
		_, err := d.client.UpdateStatus(r.ctx, now, metav1.UpdateOptions{})
		return err
	})
	w.next(watch.Modified, "web with the condition", deploymentHas("StatusUpdate"))
	_, err = d.client.Patch(r.ctx, "web", types.StrategicMergePatchType,
		[]byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True","reason":"E2E"}]}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	w.next(watch.Modified, "web with both conditions", func(o metav1.Object) bool {
		return deploymentHas("StatusUpdate")(o) && deploymentHas("StatusPatched")(o)
	})
}
