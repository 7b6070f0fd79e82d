package main

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

func TestReplicationControllers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sub("rc-life", testControllerLife)
	w.sub("rc-claims", testControllerClaims)
	w.sub("rc-quota", testControllerQuota)
	w.sub("rc-owners", testControllerOwners)
}

func webController(replicas int32) *corev1.ReplicationController {
	return &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ReplicationControllerSpec{
		Replicas: &replicas, Selector: map[string]string{"app": "web"},
		Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}, TerminationGracePeriodSeconds: ptr.To[int64](0)},
		},
	}}
}

// controls waits until the ReplicationController web says that it has so many pods, all available.
func (w *world) controls(ns string, n int32) *corev1.ReplicationController {
	w.Helper()
	var rc *corev1.ReplicationController
	w.until(fmt.Sprintf("%d pods", n), func() error {
		rc = must(w.kube.CoreV1().ReplicationControllers(ns).Get(w.Context(), "web", metav1.GetOptions{}))(w)
		s := rc.Status
		if s.ObservedGeneration < rc.Generation || s.Replicas != n || s.ReadyReplicas != n || s.AvailableReplicas != n || s.FullyLabeledReplicas != n {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	return rc
}

func testControllerLife(w *world, ns string) {
	rcs := w.kube.CoreV1().ReplicationControllers(ns)
	must(rcs.Create(w.Context(), webController(2), metav1.CreateOptions{}))(w)
	rc := w.controls(ns, 2)
	pods := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w)
	for i := range pods.Items {
		p := &pods.Items[i]
		if ref := metav1.GetControllerOf(p); ref == nil || ref.Kind != "ReplicationController" || ref.APIVersion != "v1" || ref.UID != rc.UID || p.GenerateName != "web-" {
			w.Errorf("%s is of %+v", p.Name, p.OwnerReferences)
		}
	}
	w.heard(ns, "web", "SuccessfulCreate", "Created pod: web-")
	scale := must(rcs.GetScale(w.Context(), "web", metav1.GetOptions{}))(w)
	if scale.Spec.Replicas != 2 || scale.Status.Replicas != 2 || scale.Status.Selector != "app=web" {
		w.Errorf("%+v", scale)
	}
	scale.Spec.Replicas = 1
	must(rcs.UpdateScale(w.Context(), "web", scale, metav1.UpdateOptions{}))(w)
	w.controls(ns, 1)
	w.heard(ns, "web", "SuccessfulDelete", "Deleted pod: web-")
	list := must(w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=web"}))(w)
	for _, e := range list.Items {
		if e.InvolvedObject.Kind != "ReplicationController" || e.InvolvedObject.UID != rc.UID {
			w.Errorf("an event of %+v", e.InvolvedObject)
		}
	}
}

func testControllerClaims(w *world, ns string) {
	pods := w.kube.CoreV1().Pods(ns)
	orphan := must(pods.Create(w.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "orphan", Labels: map[string]string{"app": "web"}},
		Spec: webController(1).Spec.Template.Spec}, metav1.CreateOptions{}))(w)
	made := must(w.kube.CoreV1().ReplicationControllers(ns).Create(w.Context(), webController(1), metav1.CreateOptions{}))(w)
	w.controls(ns, 1)
	if got := must(pods.Get(w.Context(), "orphan", metav1.GetOptions{}))(w); got.UID != orphan.UID || !metav1.IsControlledBy(got, made) {
		w.Errorf("not adopted: %+v", got.OwnerReferences)
	}
	must(pods.Patch(w.Context(), "orphan", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"away"}}}`), metav1.PatchOptions{}))(w)
	w.until("its release and a pod in its place", func() error {
		mine := must(pods.List(w.Context(), metav1.ListOptions{LabelSelector: "app=web"}))(w)
		got := must(pods.Get(w.Context(), "orphan", metav1.GetOptions{}))(w)
		if len(got.OwnerReferences) > 0 || len(mine.Items) != 1 {
			return fmt.Errorf("owners %+v, %d pods", got.OwnerReferences, len(mine.Items))
		}
		return nil
	})
}

// testControllerQuota: what a quota refuses is said in a condition, and taken back.
func testControllerQuota(w *world, ns string) {
	rcs := w.kube.CoreV1().ReplicationControllers(ns)
	must(w.kube.CoreV1().ResourceQuotas(ns).Create(w.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "two"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")}}}, metav1.CreateOptions{}))(w)
	must(rcs.Create(w.Context(), webController(3), metav1.CreateOptions{}))(w)
	failure := func(there bool) func() error {
		return func() error {
			rc := must(rcs.Get(w.Context(), "web", metav1.GetOptions{}))(w)
			i := slices.IndexFunc(rc.Status.Conditions, func(c corev1.ReplicationControllerCondition) bool {
				return c.Type == corev1.ReplicationControllerReplicaFailure && c.Status == corev1.ConditionTrue && c.Reason == "FailedCreate" && c.Message != ""
			})
			if i >= 0 != there || !there && len(rc.Status.Conditions) > 0 {
				return fmt.Errorf("%+v", rc.Status)
			}
			return nil
		}
	}
	w.until("a failure", failure(true))
	w.heard(ns, "web", "FailedCreate", "Error creating:")
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		rc := must(rcs.Get(w.Context(), "web", metav1.GetOptions{}))(w)
		rc.Spec.Replicas = ptr.To[int32](2)
		_, err := rcs.Update(w.Context(), rc, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	w.until("no failure", failure(false))
	w.controls(ns, 2)
}

// testControllerOwners: pods go after, before and without their controller, as whoever deletes it says.
func testControllerOwners(w *world, ns string) {
	rcs, pods := w.kube.CoreV1().ReplicationControllers(ns), w.kube.CoreV1().Pods(ns)
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationOrphan, metav1.DeletePropagationForeground, metav1.DeletePropagationBackground} {
		must(rcs.Create(w.Context(), webController(2), metav1.CreateOptions{}))(w) // which adopts what the former left
		w.controls(ns, 2)
		if err := rcs.Delete(w.Context(), "web", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
			w.Fatal(err)
		}
		want := 0
		if policy == metav1.DeletePropagationOrphan {
			want = 2
		}
		w.until("the end by policy "+string(policy), func() error {
			list := must(pods.List(w.Context(), metav1.ListOptions{}))(w)
			left := must(rcs.List(w.Context(), metav1.ListOptions{}))(w)
			owners := 0
			for _, p := range list.Items {
				owners += len(p.OwnerReferences)
			}
			if len(left.Items) > 0 || len(list.Items) != want || owners > 0 {
				return fmt.Errorf("%d controllers, %d pods with %d owners", len(left.Items), len(list.Items), owners)
			}
			return nil
		})
	}
}
