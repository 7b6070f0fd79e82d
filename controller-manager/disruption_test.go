package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/pod"
)

func TestDisruption(t *testing.T) {
	w := newWorld(t, "--node-monitor-grace-period=5m") // a node that is late to report disrupts pods, too
	other := w.cluster.Another("--default-toleration=2s", "--advertise-address=192.0.2.2").Kube
	storm := func(fn func(*world, string, ...kubernetes.Interface)) func(*world, string) {
		return func(w *world, ns string) { fn(w, ns, w.kube, other) }
	}
	w.sub("pdb-status", testBudgetStatus)
	w.sub("pdb-faults", testBudgetFaults)
	w.sub("pdb-stale", testStaleDisruption)
	w.sub("pdb-storm", storm(testEvictionStorm))
	w.sub("pdb-rolling", storm(testEvictionsWhilePodsComeBack))
}

func (w *world) budget(ns, name string, spec policyv1.PodDisruptionBudgetSpec) *policyv1.PodDisruptionBudget {
	w.Helper()
	if spec.Selector == nil {
		spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	}
	return must(w.kube.PolicyV1().PodDisruptionBudgets(ns).Create(w.Context(),
		&policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{}))(w)
}

// allows waits until a budget says: healthy/wanted/expected and how many may go, and why.
func (w *world) allows(ns, name, want, reason string) *policyv1.PodDisruptionBudget {
	w.Helper()
	var b *policyv1.PodDisruptionBudget
	w.until("budget "+name+" to say "+want, func() error {
		b = must(w.kube.PolicyV1().PodDisruptionBudgets(ns).Get(w.Context(), name, metav1.GetOptions{}))(w)
		s := b.Status
		c := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition)
		got := fmt.Sprintf("%d/%d/%d %d", s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods, s.DisruptionsAllowed)
		if got != want || c == nil || c.Reason != reason || s.ObservedGeneration != b.Generation {
			return fmt.Errorf("%s, %+v", got, s)
		}
		return nil
	})
	return b
}

// bare makes pods that nobody controls, and waits until they are ready.
func (w *world) bare(ns string, n int) {
	w.Helper()
	for i := range n {
		must(w.kube.CoreV1().Pods(ns).Create(w.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%02d", i), Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}, metav1.CreateOptions{}))(w)
	}
	w.until("pods to be ready", func() error {
		if got := healthy(must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w).Items); got != n {
			return fmt.Errorf("%d of %d are", got, n)
		}
		return nil
	})
}

func healthy(pods []corev1.Pod) (n int) {
	for i := range pods {
		if pod.Ready(&pods[i]) && pods[i].DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

func evict(ctx context.Context, kube kubernetes.Interface, ns, name string) error {
	return kube.PolicyV1().Evictions(ns).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}})
}

func testBudgetStatus(w *world, ns string) {
	w.budget(ns, "least", policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(2))})
	w.budget(ns, "most", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromString("30%"))})
	w.allows(ns, "least", "0/2/0 0", "InsufficientPods")
	w.heard(ns, "least", "NoPods", "No matching pods found")
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(4), metav1.CreateOptions{}))(w)
	w.allows(ns, "least", "4/2/4 2", "SufficientPods")
	w.allows(ns, "most", "4/2/4 2", "SufficientPods")
	// It goes by how many there should be, at once.
	w.player.set(func() { w.player.sick = "v1" })
	w.patch(ns, `{"spec":{"replicas":10}}`)
	w.allows(ns, "most", "4/7/10 0", "InsufficientPods")
	w.player.set(func() { w.player.sick = "" })
	w.allows(ns, "most", "10/7/10 3", "SufficientPods")
	w.allows(ns, "least", "10/2/10 8", "SufficientPods")
	// A budget that is changed is reckoned anew.
	must(w.kube.PolicyV1().PodDisruptionBudgets(ns).Patch(w.Context(), "least", types.MergePatchType, []byte(`{"spec":{"minAvailable":"100%"}}`), metav1.PatchOptions{}))(w)
	w.allows(ns, "least", "10/10/10 0", "InsufficientPods")
	w.patch(ns, `{"spec":{"replicas":0}}`)
	w.allows(ns, "most", "0/0/0 0", "InsufficientPods")
}

func testBudgetFaults(w *world, ns string) {
	// An owner of a kind that has no scale.
	owner := must(w.kube.CoreV1().ConfigMaps(ns).Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{}))(w)
	w.bare(ns, 2)
	must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), "p00", types.MergePatchType, fmt.Appendf(nil,
		`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":%q,"controller":true}]}}`, owner.UID), metav1.PatchOptions{}))(w)
	w.budget(ns, "scaled", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromInt32(1))})
	w.until("a budget that cannot be reckoned", func() error {
		s := must(w.kube.PolicyV1().PodDisruptionBudgets(ns).Get(w.Context(), "scaled", metav1.GetOptions{}))(w).Status
		c := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition)
		if c == nil || c.Reason != "SyncFailed" || c.Message != "configmaps does not implement the scale subresource" || s.DisruptionsAllowed != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	w.heard(ns, "scaled", "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: configmaps does not implement the scale subresource")
	err := evict(w.Context(), w.kube, ns, "p01")
	if cause := causeOf(err); !apierrors.IsTooManyRequests(err) || !strings.Contains(cause, "failed sync: configmaps does not implement") {
		w.Errorf("evicting: %v, because %s", err, cause)
	}
	// Nobody's pods do not count by their scale, and by number they do.
	must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), "p00", types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`), metav1.PatchOptions{}))(w)
	w.allows(ns, "scaled", "2/0/0 0", "InsufficientPods")
	w.heard(ns, "scaled", "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: app=web) were found to be unmanaged.")
	w.budget(ns, "counted", policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(1))})
	w.allows(ns, "counted", "2/1/2 1", "SufficientPods")
	var status apierrors.APIStatus
	if err := evict(w.Context(), w.kube, ns, "p01"); !errors.As(err, &status) || status.Status().Code != http.StatusInternalServerError ||
		!strings.Contains(err.Error(), "more than one PodDisruptionBudget") {
		w.Errorf("evicting a pod of two budgets: %v", err)
	}
}

func causeOf(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return ""
	}
	for _, c := range status.Status().Details.Causes {
		if c.Type == policyv1.DisruptionBudgetCause {
			return c.Message
		}
	}
	return ""
}

// testStaleDisruption: a pod that was to be disrupted and was not is as before.
func testStaleDisruption(w *world, ns string) {
	w.bare(ns, 1)
	long := metav1.NewTime(time.Now().Add(-3 * time.Minute)).UTC().Format(time.RFC3339)
	must(w.kube.CoreV1().Pods(ns).Patch(w.Context(), "p00", types.StrategicMergePatchType, fmt.Appendf(nil,
		`{"status":{"conditions":[{"type":"DisruptionTarget","status":"True","reason":"PreemptionByScheduler","lastTransitionTime":%q}]}}`, long), metav1.PatchOptions{}, "status"))(w)
	w.until("the announcement to be taken back", func() error {
		p := must(w.kube.CoreV1().Pods(ns).Get(w.Context(), "p00", metav1.GetOptions{}))(w)
		if c := pod.Condition(p, corev1.DisruptionTarget); c == nil || c.Status != corev1.ConditionFalse || !pod.Ready(p) {
			return fmt.Errorf("%+v", p.Status.Conditions)
		}
		return nil
	})
}

// guard reads every change of a namespace's pods and fails the test if fewer than least are healthy after one, until it is stopped.
func (w *world) guard(ns string, least int) (stop func()) {
	w.Helper()
	list := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w)
	watcher := must(w.kube.CoreV1().Pods(ns).Watch(w.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion}))(w)
	pods := map[types.UID]*corev1.Pod{}
	for i := range list.Items {
		pods[list.Items[i].UID] = &list.Items[i]
	}
	check := func() int {
		n := 0
		for _, p := range pods {
			n += healthy([]corev1.Pod{*p})
		}
		if n < least {
			w.Errorf("%d pods are healthy, at least %d must be: %s", n, least, states(pods))
		}
		return n
	}
	check()
	done := make(chan struct{})
	var stopped atomic.Bool
	go func() {
		defer close(done)
		for e := range watcher.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok && stopped.Load() { // what it says of its end
				continue
			}
			if !ok {
				w.Errorf("watching pods: %+v", e.Object)
				return
			}
			if e.Type == watch.Deleted {
				delete(pods, p.UID)
			} else {
				pods[p.UID] = p
			}
			check()
		}
	}()
	return func() { stopped.Store(true); watcher.Stop(); <-done }
}

// testEvictionStorm: of fifty evictions at once, by two API servers over one etcd, as many succeed as the budget allows.
func testEvictionStorm(w *world, ns string, servers ...kubernetes.Interface) {
	const all, least = 50, 43
	w.budget(ns, "b", policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(least))})
	w.bare(ns, all)
	w.allows(ns, "b", fmt.Sprintf("%d/%d/%d %d", all, least, all, all-least), "SufficientPods")
	stop := w.guard(ns, least)
	errs := make([]error, all)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { errs[i] = evict(w.Context(), servers[i%len(servers)], ns, fmt.Sprintf("p%02d", i)) })
	}
	wg.Wait()
	gone := 0
	for i, err := range errs {
		switch {
		case err == nil:
			gone++
		case !apierrors.IsTooManyRequests(err):
			w.Errorf("evicting p%02d: %v", i, err)
		}
	}
	if gone != all-least {
		w.Errorf("%d evictions succeeded, %d were allowed", gone, all-least)
	}
	b := w.allows(ns, "b", fmt.Sprintf("%d/%d/%d 0", least, least, least), "InsufficientPods")
	if len(b.Status.DisruptedPods) > 0 {
		w.Errorf("still awaited: %v", b.Status.DisruptedPods)
	}
	stop()
}

// evictReady evicts one of these pods, if it is ready (the others may go at any time). It is no error that the budget does not allow
// it, or that somebody else was faster.
func evictReady(ctx context.Context, kube kubernetes.Interface, ns string, of map[types.UID]bool, which int) error {
	list, err := kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !of[p.UID] || !pod.Ready(&p) || pod.Terminating(&p) })
	if len(ready) == 0 {
		return nil
	}
	if err := evict(ctx, kube, ns, ready[which%len(ready)].Name); !apierrors.IsTooManyRequests(err) && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return err
	}
	return nil
}

// testEvictionsWhilePodsComeBack: whoever evicts the pods of a ReplicaSet, from fifty places at once, while others come in their
// place, never brings it below its budget, and gets every one of them away in the end.
func testEvictionsWhilePodsComeBack(w *world, ns string, servers ...kubernetes.Interface) {
	const all, least = 12, 9
	app := webApp(all)
	app.Spec.Template.Spec.TerminationGracePeriodSeconds = ptr.To[int64](0)
	must(w.kube.AppsV1().ReplicaSets(ns).Create(w.Context(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](all), Selector: app.Spec.Selector, Template: app.Spec.Template}}, metav1.CreateOptions{}))(w)
	w.budget(ns, "b", policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromString("75%"))})
	w.allows(ns, "b", fmt.Sprintf("%d/%d/%d %d", all, least, all, all-least), "SufficientPods")
	first := map[types.UID]bool{}
	for _, p := range must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w).Items {
		first[p.UID] = true
	}
	stop := w.guard(ns, least)
	ctx, cancel := context.WithCancel(w.Context())
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			kube := servers[i%len(servers)]
			for ctx.Err() == nil {
				if err := evictReady(ctx, kube, ns, first, i); err != nil && ctx.Err() == nil {
					w.Errorf("evicting: %v", err)
				}
				select { // as a drain does, but sooner
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	w.until("the first pods to be gone", func() error {
		left := 0
		for _, p := range must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w).Items {
			if first[p.UID] {
				left++
			}
		}
		if left > 0 {
			return fmt.Errorf("%d are left", left)
		}
		return nil
	})
	cancel()
	wg.Wait()
	w.allows(ns, "b", fmt.Sprintf("%d/%d/%d %d", all, least, all, all-least), "SufficientPods")
	stop()
}

// states says of pods which are ready, which are going, and why the others are not ready.
func states(pods map[types.UID]*corev1.Pod) string {
	var out []string
	for _, p := range pods {
		s := p.Name
		if c := pod.Condition(p, corev1.PodReady); c != nil {
			s += " ready " + string(c.Status) + " " + c.Reason
		}
		if p.DeletionTimestamp != nil {
			s += " going"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
