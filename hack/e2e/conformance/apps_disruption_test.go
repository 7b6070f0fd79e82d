package conformance

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	typedpolicy "k8s.io/client-go/kubernetes/typed/policy/v1"
)

// budgets are PodDisruptionBudgets under test, and the pods that they select.
type budgets struct {
	*row
	ns, label string
	client    typedpolicy.PodDisruptionBudgetInterface
}

func (r *row) budgets() *budgets {
	r.Helper()
	ns := r.namespace()
	return &budgets{r, ns, r.unique(), r.kube.PolicyV1().PodDisruptionBudgets(ns)}
}

// create makes a budget of which so many pods must stay.
func (b *budgets) create(name string, least int32) {
	b.Helper()
	amount := intstr.FromInt32(least)
	_, err := b.client.Create(b.ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: b.label}},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &amount, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{rowLabel: b.label}}},
	}, metav1.CreateOptions{})
	b.must(err, "creating a budget")
}

// says waits until the budget has been reckoned and is as it should be.
func (b *budgets) says(name, what string, ok func(policyv1.PodDisruptionBudgetStatus) bool) *policyv1.PodDisruptionBudget {
	b.Helper()
	var got *policyv1.PodDisruptionBudget
	b.eventually("budget "+name+" says "+what, func() (bool, error) {
		var err error
		if got, err = b.client.Get(b.ctx, name, metav1.GetOptions{}); err != nil {
			return false, err
		}
		if got.Status.ObservedGeneration < got.Generation || !ok(got.Status) {
			return false, fmt.Errorf("status %s", asJSON(got.Status))
		}
		return true, nil
	})
	return got
}

func reckoned(policyv1.PodDisruptionBudgetStatus) bool { return true }

// pods makes pods that serve, and waits until they are ready.
func (b *budgets) pods(n int) {
	b.Helper()
	template := serving(b.label)
	for i := range n {
		_, err := b.kube.CoreV1().Pods(b.ns).Create(b.ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", i), Labels: template.Labels}, Spec: template.Spec,
		}, metav1.CreateOptions{})
		b.must(err, "creating a pod")
	}
	b.settles("pods are ready", func() (bool, error) {
		list, err := b.kube.CoreV1().Pods(b.ns).List(b.ctx, labelled(b.label))
		if err != nil {
			return false, err
		}
		ready := 0
		for _, p := range list.Items {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		return ready == n, fmt.Errorf("%d of %d are", ready, n)
	})
}

func (b *budgets) evict(pod string) error {
	return b.kube.PolicyV1().Evictions(b.ns).Evict(b.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: pod}})
}

// away waits until the pod is gone.
func (b *budgets) away(pod string) {
	b.Helper()
	b.settles("pod "+pod+" is gone", func() (bool, error) {
		_, err := b.kube.CoreV1().Pods(b.ns).Get(b.ctx, pod, metav1.GetOptions{})
		return apierrors.IsNotFound(err), err
	})
}

// APP-022: budgets are listed in all namespaces and deleted by collection in one.
func budgetCollection(r *row) {
	b := r.budgets()
	b.create("one", 1)
	b.create("two", 1)
	other := r.budgets()
	other.label = b.label
	other.create("one", 1)
	count := func(ns string, want int) {
		r.Helper()
		list, err := r.kube.PolicyV1().PodDisruptionBudgets(ns).List(r.ctx, labelled(b.label))
		r.must(err, "listing")
		r.equal("budgets in "+ns, len(list.Items), want)
	}
	count(metav1.NamespaceAll, 3)
	count(b.ns, 2)
	r.must(b.client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(b.label)), "deleting the collection")
	count(b.ns, 0)
	count(other.ns, 1)
}

// APP-023: an eviction is refused until the budget allows it, by an update, by a patch, and when it is gone.
func budgetBlocks(r *row) {
	b := r.budgets()
	b.pods(3)
	b.create("b", 3)
	b.says("b", "three of three", func(s policyv1.PodDisruptionBudgetStatus) bool {
		return s.CurrentHealthy == 3 && s.DisruptionsAllowed == 0
	})
	refused := func(pod string) {
		r.Helper()
		err := b.evict(pod)
		r.refused(err, metav1.StatusReasonTooManyRequests, "evicting against the budget")
		var status apierrors.APIStatus
		if !errors.As(err, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 || status.Status().Details.Causes[0].Type != policyv1.DisruptionBudgetCause {
			r.Fatalf("the refusal does not name the budget: %s", asJSON(status))
		}
	}
	refused("pod-0")
	r.again("updating", func() error {
		got, err := b.client.Get(r.ctx, "b", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Spec.MinAvailable.IntVal = 2
		_, err = b.client.Update(r.ctx, got, metav1.UpdateOptions{})
		return err
	})
	b.says("b", "one may go", func(s policyv1.PodDisruptionBudgetStatus) bool { return s.DisruptionsAllowed == 1 })
	r.must(b.evict("pod-0"), "evicting within the budget")
	b.away("pod-0")
	b.says("b", "two of two", func(s policyv1.PodDisruptionBudgetStatus) bool {
		return s.CurrentHealthy == 2 && s.DisruptionsAllowed == 0
	})
	refused("pod-1")
	_, err := b.client.Patch(r.ctx, "b", types.StrategicMergePatchType, []byte(`{"spec":{"minAvailable":1}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	b.says("b", "one may go", func(s policyv1.PodDisruptionBudgetStatus) bool { return s.DisruptionsAllowed == 1 })
	r.must(b.evict("pod-1"), "evicting within the patched budget")
	b.away("pod-1")
	b.says("b", "one of one", func(s policyv1.PodDisruptionBudgetStatus) bool {
		return s.CurrentHealthy == 1 && s.DisruptionsAllowed == 0
	})
	refused("pod-2")
	r.must(b.client.Delete(r.ctx, "b", metav1.DeleteOptions{}), "deleting the budget")
	r.must(b.evict("pod-2"), "evicting without a budget")
	b.away("pod-2")
}

// APP-024: a budget is made, updated, patched and deleted, and reckoned each time.
func budgetLife(r *row) {
	b := r.budgets()
	b.create("b", 1)
	b.says("b", "that it was reckoned", reckoned)
	r.again("updating", func() error {
		got, err := b.client.Get(r.ctx, "b", metav1.GetOptions{})
		if err != nil {
			return err
		}
		two := intstr.FromInt32(2)
		got.Spec.MinAvailable = &two
		_, err = b.client.Update(r.ctx, got, metav1.UpdateOptions{})
		return err
	})
	got := b.says("b", "that it was reckoned anew", func(s policyv1.PodDisruptionBudgetStatus) bool { return s.DesiredHealthy == 2 })
	r.equal("generation after the update", got.Generation, int64(2))
	patched, err := b.client.Patch(r.ctx, "b", types.StrategicMergePatchType, []byte(`{"spec":{"minAvailable":3}}`), metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("what must stay after the patch", patched.Spec.MinAvailable.String(), "3")
	b.says("b", "that it was reckoned again", func(s policyv1.PodDisruptionBudgetStatus) bool { return s.DesiredHealthy == 3 })
	r.must(b.client.Delete(r.ctx, "b", metav1.DeleteOptions{}), "deleting")
	_, err = b.client.Get(r.ctx, "b", metav1.GetOptions{})
	r.refused(err, metav1.StatusReasonNotFound, "getting what was deleted")
}

// APP-025: the status of a budget follows its pods.
func budgetFollows(r *row) {
	b := r.budgets()
	b.create("b", 1)
	b.says("b", "that there are none", func(s policyv1.PodDisruptionBudgetStatus) bool {
		return s.CurrentHealthy == 0 && s.DisruptionsAllowed == 0
	})
	b.pods(3)
	b.says("b", "three", func(s policyv1.PodDisruptionBudgetStatus) bool {
		return s.CurrentHealthy == 3 && s.DesiredHealthy == 1 && s.ExpectedPods == 3 && s.DisruptionsAllowed == 2
	})
}

// APP-026: the pods that are to go are written into the status of a budget, and taken from it.
func budgetStatus(r *row) {
	b := r.budgets()
	b.pods(1)
	b.create("b", 1)
	b.says("b", "one of one", func(s policyv1.PodDisruptionBudgetStatus) bool { return s.CurrentHealthy == 1 })
	r.again("updating the status", func() error {
		got, err := b.client.Get(r.ctx, "b", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Status.DisruptedPods = map[string]metav1.Time{"pod-0": metav1.Now()}
		updated, err := b.client.UpdateStatus(r.ctx, got, metav1.UpdateOptions{})
		if err == nil {
			if _, there := updated.Status.DisruptedPods["pod-0"]; !there {
				r.Fatalf("the status was not updated: %s", asJSON(updated.Status))
			}
		}
		return err
	})
	b.says("b", "that the pod is to go", func(s policyv1.PodDisruptionBudgetStatus) bool {
		_, there := s.DisruptedPods["pod-0"]
		return there && s.CurrentHealthy == 0
	})
	patched, err := b.client.Patch(r.ctx, "b", types.MergePatchType, []byte(`{"status":{"disruptedPods":null}}`), metav1.PatchOptions{}, "status")
	r.must(err, "patching the status")
	r.equal("pods that are to go after the patch", len(patched.Status.DisruptedPods), 0)
	b.says("b", "that it stays", func(s policyv1.PodDisruptionBudgetStatus) bool {
		return len(s.DisruptedPods) == 0 && s.CurrentHealthy == 1
	})
}
