package main

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestDeployments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sub("rollout", testDeploymentByKubectl)
	w.sub("rollback", testDeploymentRollback)
	w.sub("recreate", testDeploymentRecreate)
	w.sub("adoption", testDeploymentAdoption)
	w.sub("quota", testDeploymentFailure)
}

// told waits until an event of the Deployment's has the reason and the text.
func told(w *world, ns, reason, text string) {
	w.Helper()
	w.until("event "+reason, func() error {
		list := must(w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Deployment,reason=" + reason}))(w)
		var have []string
		for _, e := range list.Items {
			if strings.Contains(e.Message, text) {
				return nil
			}
			have = append(have, e.Message)
		}
		return fmt.Errorf("there are %q", have)
	})
}

// setOf is the ReplicaSet of an image.
func setOf(w *world, ns, image string) *appsv1.ReplicaSet {
	w.Helper()
	sets := must(w.kube.AppsV1().ReplicaSets(ns).List(w.Context(), metav1.ListOptions{}))(w)
	for i := range sets.Items {
		if sets.Items[i].Spec.Template.Spec.Containers[0].Image == image {
			return &sets.Items[i]
		}
	}
	w.Fatalf("none of %d ReplicaSets is of %s", len(sets.Items), image)
	return nil
}

func testDeploymentByKubectl(w *world, ns string) {
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(3), metav1.CreateOptions{}))(w)
	saying(w, genuineKubectl(w, ns, "rollout", "status", "deploy/web", "--timeout=50s"), `deployment "web" successfully rolled out`)
	told(w, ns, "ScalingReplicaSet", fmt.Sprintf("Scaled up replica set %s from 0 to 3", setOf(w, ns, "v1").Name))
	genuineKubectl(w, ns, "annotate", "deploy/web", "kubernetes.io/change-cause=the second")
	genuineKubectl(w, ns, "set", "image", "deploy/web", "c=v2")
	saying(w, genuineKubectl(w, ns, "rollout", "status", "deploy/web", "--timeout=50s"), "successfully rolled out")
	told(w, ns, "ScalingReplicaSet", fmt.Sprintf("Scaled down replica set %s from 1 to 0", setOf(w, ns, "v1").Name))
	saying(w, genuineKubectl(w, ns, "rollout", "history", "deploy/web"), "the second")

	w.player.set(func() { w.player.sick = "sick" })
	genuineKubectl(w, ns, "set", "image", "deploy/web", "c=sick")
	saying(w, genuineKubectl(w, ns, "rollout", "undo", "deploy/web"), "deployment.apps/web rolled back")
	saying(w, genuineKubectl(w, ns, "rollout", "status", "deploy/web", "--timeout=50s"), "successfully rolled out")
	if rs := setOf(w, ns, "v2"); *rs.Spec.Replicas != 3 {
		w.Errorf("of the former template there are %d", *rs.Spec.Replicas)
	}
	genuineKubectl(w, ns, "rollout", "pause", "deploy/web")
	genuineKubectl(w, ns, "set", "image", "deploy/web", "c=v4")
	genuineKubectl(w, ns, "scale", "deploy/web", "--replicas=4")
	w.until("four of the former", func() error {
		if rs := setOf(w, ns, "v2"); rs.Status.AvailableReplicas != 4 {
			return fmt.Errorf("%+v", rs.Status)
		}
		return nil
	})
	genuineKubectl(w, ns, "rollout", "resume", "deploy/web")
	saying(w, genuineKubectl(w, ns, "rollout", "status", "deploy/web", "--timeout=50s"), "successfully rolled out")
	genuineKubectl(w, ns, "rollout", "restart", "deploy/web")
	saying(w, genuineKubectl(w, ns, "rollout", "status", "deploy/web", "--timeout=50s"), "successfully rolled out")
	if err := w.rolledOut(ns); err != nil {
		w.Error(err)
	}
}

// testDeploymentRollback: clients of API versions that are gone ask for a revision by an annotation.
func testDeploymentRollback(w *world, ns string) {
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(2), metav1.CreateOptions{}))(w)
	w.until("the first rollout", func() error { return w.rolledOut(ns) })
	w.patch(ns, image("v2"))
	w.until("the second rollout", func() error { return w.rolledOut(ns) })
	ask := func(revision, reason, text string) {
		w.Helper()
		w.patch(ns, fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, appsv1.DeprecatedRollbackTo, revision))
		told(w, ns, reason, text)
		w.until("the rollout", func() error { return w.rolledOut(ns) })
		d := must(w.kube.AppsV1().Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
		if _, there := d.Annotations[appsv1.DeprecatedRollbackTo]; there {
			w.Errorf("annotations %v", d.Annotations)
		}
	}
	ask("0", "DeploymentRollback", `Rolled back deployment "web" to revision 1`)
	if rs := setOf(w, ns, "v1"); *rs.Spec.Replicas != 2 || rs.Annotations["deployment.kubernetes.io/revision"] != "3" || rs.Annotations["deployment.kubernetes.io/revision-history"] != "1" {
		w.Errorf("%d replicas, annotations %v", *rs.Spec.Replicas, rs.Annotations)
	}
	ask("9", "DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to.")
	ask("3", "DeploymentRollbackTemplateUnchanged", "contains the same template")
}

// testDeploymentRecreate: new pods are not made before the last of the old has gone, however long that takes.
func testDeploymentRecreate(w *world, ns string) {
	const hold = "example.com/hold"
	d := webApp(2)
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	d.Spec.Template.Finalizers = []string{hold}
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), d, metav1.CreateOptions{}))(w)
	w.until("the first rollout", func() error { return w.rolledOut(ns) })
	old := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w)
	w.patch(ns, image("v2"))
	terminating := func(n int32) {
		w.Helper()
		w.until(fmt.Sprintf("%d that are going", n), func() error {
			d := must(w.kube.AppsV1().Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
			if s := d.Status; s.TerminatingReplicas == nil || *s.TerminatingReplicas != n || s.Replicas != 0 || s.UpdatedReplicas != 0 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		list := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w)
		sets := must(w.kube.AppsV1().ReplicaSets(ns).List(w.Context(), metav1.ListOptions{}))(w)
		if len(list.Items) != int(n) || len(sets.Items) != 1 {
			w.Errorf("%d pods and %d ReplicaSets", len(list.Items), len(sets.Items))
		}
	}
	release := func(p corev1.Pod) {
		w.Helper()
		must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), p.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))(w)
	}
	terminating(2)
	release(old.Items[0])
	terminating(1)
	w.patch(ns, `{"spec":{"template":{"metadata":{"finalizers":null}}}}`)
	release(old.Items[1])
	w.until("the rollout", func() error { return w.rolledOut(ns) })
}

// testDeploymentAdoption: ReplicaSets that outlive their Deployment are those of the next; one whose name is taken but is not ours is not.
func testDeploymentAdoption(w *world, ns string) {
	apps := w.kube.AppsV1()
	leave := func() {
		w.Helper()
		orphan := metav1.DeletePropagationOrphan
		if err := apps.Deployments(ns).Delete(w.Context(), "web", metav1.DeleteOptions{PropagationPolicy: &orphan}); err != nil {
			w.Fatal(err)
		}
		w.until("its end", func() error {
			if _, err := apps.Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("it is there: %v", err)
			}
			return nil
		})
	}
	must(apps.Deployments(ns).Create(w.Context(), webApp(2), metav1.CreateOptions{}))(w)
	w.until("the first rollout", func() error { return w.rolledOut(ns) })
	first := setOf(w, ns, "v1")
	leave()
	again := must(apps.Deployments(ns).Create(w.Context(), webApp(2), metav1.CreateOptions{}))(w)
	w.until("the adoption", func() error { return w.rolledOut(ns) })
	if rs := setOf(w, ns, "v1"); rs.UID != first.UID || !metav1.IsControlledBy(rs, again) {
		w.Errorf("ReplicaSet %s is owned by %+v", rs.Name, rs.OwnerReferences)
	}

	// labelled away it is released, and its name is in the way of another of that template
	must(apps.ReplicaSets(ns).Patch(w.Context(), first.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"away"}}}`), metav1.PatchOptions{}))(w)
	w.until("its release", func() error {
		if rs := must(apps.ReplicaSets(ns).Get(w.Context(), first.Name, metav1.GetOptions{}))(w); len(rs.OwnerReferences) != 0 {
			return fmt.Errorf("%+v", rs.OwnerReferences)
		}
		return nil
	})
	w.until("another", func() error {
		sets := must(apps.ReplicaSets(ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=web"}))(w)
		if len(sets.Items) != 1 || sets.Items[0].Name == first.Name || sets.Items[0].Status.AvailableReplicas != 2 {
			return fmt.Errorf("%d ReplicaSets", len(sets.Items))
		}
		return nil
	})
	d := must(apps.Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
	if d.Status.CollisionCount == nil || *d.Status.CollisionCount != 1 {
		w.Errorf("collisions: %v, want 1", d.Status.CollisionCount)
	}
}

// testDeploymentFailure: what keeps pods from being made is said, and is over when it is.
func testDeploymentFailure(w *world, ns string) {
	none := corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}}
	must(w.kube.CoreV1().ResourceQuotas(ns).Create(w.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: none}, metav1.CreateOptions{}))(w)
	w.until("the quota's status", func() error {
		q := must(w.kube.CoreV1().ResourceQuotas(ns).Get(w.Context(), "none", metav1.GetOptions{}))(w)
		if len(q.Status.Used) == 0 {
			return fmt.Errorf("%+v", q.Status)
		}
		return nil
	})
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(2), metav1.CreateOptions{}))(w)
	failing := func(want corev1.ConditionStatus) func() error {
		return func() error {
			d := must(w.kube.AppsV1().Deployments(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
			got := corev1.ConditionFalse
			for _, c := range d.Status.Conditions {
				if c.Type == appsv1.DeploymentReplicaFailure && c.Reason == "FailedCreate" && strings.Contains(c.Message, "exceeded quota: none") {
					got = c.Status
				}
			}
			if got != want {
				return fmt.Errorf("%+v", d.Status.Conditions)
			}
			return nil
		}
	}
	w.until("the failure", failing(corev1.ConditionTrue))
	if err := w.kube.CoreV1().ResourceQuotas(ns).Delete(w.Context(), "none", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the rollout", func() error { return w.rolledOut(ns) })
	w.until("the end of the failure", failing(corev1.ConditionFalse))
}
