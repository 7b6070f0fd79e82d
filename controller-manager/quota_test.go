package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/quota"
)

// TestQuotas runs the controller of quotas beside the admission that charges them.
func TestQuotas(t *testing.T) {
	w := newWorld(t)
	w.sub("quota-life", quotaLife)
	w.sub("quota-storm", quotaStorm)
}

func listOf(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

// uses waits until a quota says that this is used.
func (w *world) uses(ns, name string, want corev1.ResourceList) {
	w.Helper()
	w.until(fmt.Sprintf("quota %s to say that %s are used", name, quota.Text(want)), func() error {
		q, err := w.kube.CoreV1().ResourceQuotas(ns).Get(w.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !quota.Equal(q.Status.Used, want) || !quota.Equal(q.Status.Hard, q.Spec.Hard) {
			return errors.New("it says " + quota.Text(q.Status.Used))
		}
		return nil
	})
}

func quotaLife(w *world, ns string) {
	core := w.kube.CoreV1()
	for _, q := range []*corev1.ResourceQuota{
		{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: corev1.ResourceQuotaSpec{Hard: listOf("pods", "5", "count/pods", "9", "requests.cpu", "2",
			"services", "5", "services.nodeports", "2", "requests.storage", "1Ti", "secrets", "20", "count/replicasets.apps", "3", "count/nonsense.example.com", "1")}},
		{ObjectMeta: metav1.ObjectMeta{Name: "best"}, Spec: corev1.ResourceQuotaSpec{Hard: listOf("pods", "5"), Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}}},
	} {
		must(core.ResourceQuotas(ns).Create(w.Context(), q, metav1.CreateOptions{}))(w)
	}
	want := listOf("pods", "0", "count/pods", "0", "requests.cpu", "0", "services", "0", "services.nodeports", "0", "requests.storage", "0",
		"secrets", "0", "count/replicasets.apps", "0")
	change := func(pairs ...string) {
		w.Helper()
		for name, q := range listOf(pairs...) {
			want[name] = q
		}
		w.uses(ns, "all", want)
	}
	change()
	w.uses(ns, "best", listOf("pods", "0"))

	pod := func(name string, cpu string) {
		w.Helper()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		p.Spec.Containers[0].Resources.Requests = listOf("cpu", cpu)
		must(core.Pods(ns).Create(w.Context(), p, metav1.CreateOptions{}))(w)
	}
	pod("a", "500m")
	pod("b", "1")
	pod("c", "0")
	must(core.Secrets(ns).Create(w.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "m"}}, metav1.CreateOptions{}))(w)
	service := must(core.Services(ns).Create(w.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{}))(w)
	change("pods", "3", "count/pods", "3", "requests.cpu", "1500m", "secrets", "1", "services", "1", "services.nodeports", "1")
	w.uses(ns, "best", listOf("pods", "1"))

	service.Spec.Type = corev1.ServiceTypeClusterIP
	must(core.Services(ns).Update(w.Context(), service, metav1.UpdateOptions{}))(w)
	change("services.nodeports", "0")
	w.until("pod b to have finished", func() error {
		b, err := core.Pods(ns).Get(w.Context(), "b", metav1.GetOptions{})
		if err != nil || b.Spec.NodeName == "" {
			return errors.Join(err, errors.New("it has no node"))
		}
		b.Status.Phase = corev1.PodSucceeded
		_, err = core.Pods(ns).UpdateStatus(w.Context(), b, metav1.UpdateOptions{})
		return err
	})
	change("pods", "2", "requests.cpu", "500m")
	for _, name := range []string{"a", "b", "c"} {
		if err := core.Pods(ns).Delete(w.Context(), name, metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	change("pods", "0", "count/pods", "0", "requests.cpu", "0")
	w.uses(ns, "best", listOf("pods", "0"))
	if err := core.Secrets(ns).Delete(w.Context(), "m", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	change("secrets", "0")

	// What somebody writes into the status by hand, and another spec, is mended at once.
	w.until("the status to be spoiled", func() error {
		q, err := core.ResourceQuotas(ns).Get(w.Context(), "best", metav1.GetOptions{})
		if err != nil {
			return err
		}
		q.Status.Hard, q.Status.Used = listOf("pods", "99"), nil
		_, err = core.ResourceQuotas(ns).UpdateStatus(w.Context(), q, metav1.UpdateOptions{})
		return err
	})
	w.uses(ns, "best", listOf("pods", "0"))
	w.until("the spec to change", func() error {
		q, err := core.ResourceQuotas(ns).Get(w.Context(), "best", metav1.GetOptions{})
		if err != nil {
			return err
		}
		q.Spec.Hard = listOf("pods", "7", "count/pods", "7")
		_, err = core.ResourceQuotas(ns).Update(w.Context(), q, metav1.UpdateOptions{})
		return err
	})
	w.uses(ns, "best", listOf("pods", "0", "count/pods", "0"))
}

// quotaStorm makes as many as it can from many sides and deletes what is there, while quotas are given back what was deleted: never is
// there more than the quota allows, and in the end it says what there is.
func quotaStorm(w *world, ns string) {
	secrets := w.kube.CoreV1().Secrets(ns)
	const most = 10
	must(w.kube.CoreV1().ResourceQuotas(ns).Create(w.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"},
		Spec: corev1.ResourceQuotaSpec{Hard: listOf("secrets", fmt.Sprint(most))}}, metav1.CreateOptions{}))(w)
	w.uses(ns, "q", listOf("secrets", "0"))
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	var made atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				// Half of the names are taken by others: those creates fail after they were charged.
				name := fmt.Sprintf("m-%d-%d", i%2*n%3, n)
				_, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
				switch {
				case err == nil:
					made.Add(1)
				case ctx.Err() == nil && !apierrors.IsForbidden(err) && !apierrors.IsAlreadyExists(err):
					w.Errorf("creating: %v", err)
					return
				}
			}
		})
	}
	for deleted := 0; deleted < 100; {
		list, err := secrets.List(ctx, metav1.ListOptions{})
		if err != nil {
			w.Fatal(err)
		}
		if len(list.Items) > most {
			w.Fatalf("there are %d", len(list.Items))
		}
		for _, m := range list.Items {
			if err := secrets.Delete(ctx, m.Name, metav1.DeleteOptions{}); err != nil {
				w.Fatal(err)
			}
			deleted++
		}
	}
	cancel()
	wg.Wait()
	if made.Load() < 100-most {
		w.Errorf("only %d were made", made.Load())
	}
	// What came and went while a watch was begun anew was seen by nobody: it is given back once no request can still be on its way.
	w.within(3*time.Minute, "the quota to say what there is", func() error {
		list, err := secrets.List(w.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		q, err := w.kube.CoreV1().ResourceQuotas(ns).Get(w.Context(), "q", metav1.GetOptions{})
		if err != nil {
			return err
		}
		used := q.Status.Used["secrets"]
		if used.Value() != int64(len(list.Items)) {
			return fmt.Errorf("there are %d, and %s are used", len(list.Items), used.String())
		}
		return nil
	})
	w.Log("made", made.Load(), "while a hundred were deleted")
}
