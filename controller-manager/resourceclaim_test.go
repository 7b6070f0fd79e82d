package main

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// Claims are made for pods, given back when nobody uses them, and go with their pods. The test is the scheduler that allocates.
func TestResourceClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sub("claims", func(w *world, ns string) {
		claims, pods := w.kube.ResourceV1().ResourceClaims(ns), w.kube.CoreV1().Pods(ns)
		made := func(pod string) (*resourcev1.ResourceClaim, error) {
			p, err := pods.Get(w.Context(), pod, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			if s := p.Status.ResourceClaimStatuses; len(s) != 1 || s[0].Name != "gpu" || s[0].ResourceClaimName == nil {
				return nil, fmt.Errorf("it is told %+v", s)
			}
			return claims.Get(w.Context(), *p.Status.ResourceClaimStatuses[0].ResourceClaimName, metav1.GetOptions{})
		}
		pod := func(name string, c corev1.PodResourceClaim) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{c},
				Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "gpu"}}}}}}}
			must(pods.Create(w.Context(), p, metav1.CreateOptions{}))(w)
		}
		allocate := func(c *resourcev1.ResourceClaim, users ...string) {
			w.Helper()
			c.Finalizers = append(c.Finalizers, resourcev1.Finalizer)
			c = must(claims.Update(w.Context(), c, metav1.UpdateOptions{}))(w)
			c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{
				Request: "one", Driver: "gpu.example.com", Pool: "pool", Device: "d"}}}}
			for _, u := range users {
				p := must(pods.Get(w.Context(), u, metav1.GetOptions{}))(w)
				c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: u, UID: p.UID})
			}
			must(claims.UpdateStatus(w.Context(), c, metav1.UpdateOptions{}))(w)
		}
		end := func(name string) {
			w.Helper()
			err := retry.RetryOnConflict(retry.DefaultRetry, func() error { // the player writes, too
				p, err := pods.Get(w.Context(), name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				p.Status.Phase = corev1.PodSucceeded
				_, err = pods.UpdateStatus(w.Context(), p, metav1.UpdateOptions{})
				return err
			})
			if err != nil {
				w.Fatal(err)
			}
		}
		spec := resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Name: "one", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu.example.com"}}}}}
		byTemplate := corev1.PodResourceClaim{Name: "gpu", ResourceClaimTemplateName: new("model")}

		// A pod may come before its template.
		pod("early", byTemplate)
		w.until("it says what is missing", func() error {
			list, err := w.kube.CoreV1().Events(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=early,reason=FailedResourceClaimCreation"})
			if err == nil && len(list.Items) == 0 {
				err = errors.New("no event")
			}
			if err == nil && list.Items[0].Message != `PodResourceClaim gpu: resource claim template "model": resourceclaimtemplate.resource.k8s.io "model" not found` {
				w.Fatalf("says %q", list.Items[0].Message)
			}
			return err
		})
		must(w.kube.ResourceV1().ResourceClaimTemplates(ns).Create(w.Context(), &resourcev1.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "model"},
			Spec: resourcev1.ResourceClaimTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": "model"}}, Spec: spec}}, metav1.CreateOptions{}))(w)
		var mine *resourcev1.ResourceClaim
		w.until("it has a claim", func() (err error) { mine, err = made("early"); return err })
		if ref := metav1.GetControllerOf(mine); mine.Labels["of"] != "model" || mine.Annotations[resourcev1.PodResourceClaimAnnotation] != "gpu" || ref == nil || ref.Name != "early" {
			w.Errorf("it has %+v", mine.ObjectMeta)
		}
		allocate(mine, "early")

		// One that is deleted is made again.
		pod("late", byTemplate)
		var lost *resourcev1.ResourceClaim
		w.until("it has one, too", func() (err error) { lost, err = made("late"); return err })
		if err := claims.Delete(w.Context(), lost.Name, metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
		w.until("it has another", func() error {
			c, err := made("late")
			if err == nil && c.UID == lost.UID {
				err = errors.New("still the former")
			}
			return err
		})
		if list := must(claims.List(w.Context(), metav1.ListOptions{}))(w); len(list.Items) != 2 {
			w.Errorf("there are %d claims for two pods", len(list.Items))
		}

		// One that pods share is given back after the last of them, and stays; a pod on a node is made a user of what is allocated.
		shared := must(claims.Create(w.Context(), &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "shared"}, Spec: spec}, metav1.CreateOptions{}))(w)
		byName := corev1.PodResourceClaim{Name: "gpu", ResourceClaimName: &shared.Name}
		pod("first", byName)
		pod("second", byName)
		allocate(shared, "first")
		users := func(want int, allocated bool) func() error {
			return func() error {
				c, err := claims.Get(w.Context(), "shared", metav1.GetOptions{})
				if err == nil && (len(c.Status.ReservedFor) != want || (c.Status.Allocation != nil) != allocated || len(c.Finalizers) > 0 != allocated) {
					err = fmt.Errorf("finalizers %v, status %+v", c.Finalizers, c.Status)
				}
				return err
			}
		}
		w.until("both use it", users(2, true))
		end("first")
		w.until("one uses it", users(1, true))
		if err := pods.Delete(w.Context(), "second", metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
		w.until("it is given back", users(0, false))

		// What was made for a pod goes when it has ended, and when it is deleted.
		gone := func(name string) func() error {
			return func() error {
				_, err := claims.Get(w.Context(), name, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				return fmt.Errorf("it is there: %v", err)
			}
		}
		end("early")
		w.until("the claim of a pod that has ended goes", gone(mine.Name))
		last := must(made("late"))(w)
		allocate(last, "late")
		if err := pods.Delete(w.Context(), "late", metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
		w.until("that of a deleted pod goes, too", gone(last.Name))
	})
}
