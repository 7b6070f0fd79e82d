package main

import (
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
)

func testNodeLife(w *world, ns string) {
	nodes := w.kube.CoreV1().Nodes()
	for i := range 3 {
		w.player.add(w, fmt.Sprintf("%s-%d", ns, i))
	}
	w.until("a part of the range for each", func() error {
		seen := map[string]bool{}
		list := must(nodes.List(w.Context(), metav1.ListOptions{}))(w)
		for _, n := range list.Items {
			if n.Spec.PodCIDR == "" || seen[n.Spec.PodCIDR] || len(n.Spec.PodCIDRs) != 1 {
				return fmt.Errorf("%s has %q", n.Name, n.Spec.PodCIDRs)
			}
			seen[n.Spec.PodCIDR] = true
		}
		return nil
	})
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(2), metav1.CreateOptions{}))(w)
	w.until("the rollout", func() error { return w.rolledOut(ns) })

	victim := ns + "-0"
	began := time.Now()
	w.player.set(func() { w.player.nodes[victim] = false })
	w.until("the silent node to be unknown, tainted, its pods not ready", func() error {
		n := must(nodes.Get(w.Context(), victim, metav1.GetOptions{}))(w)
		if n.Status.Conditions[0].Status != corev1.ConditionUnknown || !tainted(n, corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute) || !tainted(n, corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule) {
			return fmt.Errorf("%+v %+v", n.Status.Conditions, n.Spec.Taints)
		}
		pods := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + victim}))(w)
		for i := range pods.Items {
			if pod.Ready(&pods.Items[i]) {
				return fmt.Errorf("pod %s is ready", pods.Items[i].Name)
			}
		}
		return nil
	})
	if early := time.Since(began); early < (leaseSeconds-2)*time.Second {
		w.Errorf("gave the node up after %v", early)
	}
	w.until("its pods to run elsewhere", func() error { return w.rolledOut(ns) })
	pods := must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w)
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Spec.NodeName == victim && p.DeletionTimestamp == nil {
			w.Errorf("pod %s was not evicted", p.Name)
		} else if p.Spec.NodeName == victim && pod.Condition(p, corev1.DisruptionTarget) == nil {
			w.Errorf("pod %s does not say why it was evicted", p.Name)
		}
	}
	w.player.set(func() { w.player.nodes[victim] = true })
	if err := w.player.report(w.Context(), victim); err != nil {
		w.Fatal(err)
	}
	w.until("the node to be free of taints again", func() error {
		if n := must(nodes.Get(w.Context(), victim, metav1.GetOptions{}))(w); len(n.Spec.Taints) > 0 {
			return fmt.Errorf("%+v", n.Spec.Taints)
		}
		return nil
	})
	must(nodes.Patch(w.Context(), victim, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{}))(w)
	w.until("the mark of a cordoned node", func() error {
		if n := must(nodes.Get(w.Context(), victim, metav1.GetOptions{}))(w); !tainted(n, corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule) {
			return fmt.Errorf("%+v", n.Spec.Taints)
		}
		return nil
	})
}

func tainted(n *corev1.Node, key string, effect corev1.TaintEffect) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key && t.Effect == effect })
}

// testAPIServerOutage: while the API server is away for longer than any node may be silent, and after it, no node is given up.
func testAPIServerOutage(w *world, ns string) {
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(1), metav1.CreateOptions{}))(w)
	w.until("the rollout", func() error { return w.rolledOut(ns) })
	w.cluster.KillAPIServer()
	time.Sleep((leaseSeconds + 2) * time.Second) // the outage itself
	if err := w.cluster.StartAPIServer(); err != nil {
		w.Fatal(err)
	}
	back := time.Now()
	w.patch(ns, `{"spec":{"replicas":4}}`)
	w.until("work to go on", func() error { return w.rolledOut(ns) })
	w.Logf("work went on %v after the API server came back", time.Since(back))
	for end := time.Now().Add((leaseSeconds + 2) * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, n := range must(w.kube.CoreV1().Nodes().List(w.Context(), metav1.ListOptions{}))(w).Items {
			if tainted(&n, corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule) {
				w.Fatalf("node %s was given up for the API server's absence", n.Name)
			}
		}
	}
}

// testSilence: when every node is silent at once, nothing is evicted.
func testSilence(w *world, ns string) {
	must(w.kube.AppsV1().Deployments(ns).Create(w.Context(), webApp(2), metav1.CreateOptions{}))(w)
	w.until("the rollout", func() error { return w.rolledOut(ns) })
	all := func(living bool) (names []string) {
		w.player.set(func() {
			for n := range w.player.nodes {
				w.player.nodes[n] = living
				names = append(names, n)
			}
		})
		return names
	}
	all(false)
	nodes := w.kube.CoreV1().Nodes()
	w.until("all nodes to be unknown, and none to evict", func() error {
		for _, n := range must(nodes.List(w.Context(), metav1.ListOptions{}))(w).Items {
			if n.Status.Conditions[0].Status != corev1.ConditionUnknown || !tainted(&n, corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule) || tainted(&n, corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute) {
				return fmt.Errorf("%s: %+v %+v", n.Name, n.Status.Conditions, n.Spec.Taints)
			}
		}
		return nil
	})
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, p := range must(w.kube.CoreV1().Pods(ns).List(w.Context(), metav1.ListOptions{}))(w).Items {
			if p.DeletionTimestamp != nil {
				w.Fatalf("pod %s was evicted", p.Name)
			}
		}
	}
	for _, n := range all(true) {
		if err := w.player.report(w.Context(), n); err != nil {
			w.Fatal(err)
		}
	}
	w.until("the pods to be ready again", func() error { return w.rolledOut(ns) })
}

// A lease that belongs to no node goes when it has ended long ago; one that was renewed lately stays, for its node may come.
func testStrayLeases(w *world, _ string) {
	leases := w.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	for name, renewed := range map[string]time.Time{"stray-old": time.Now().Add(-2 * time.Hour), "stray-new": time.Now()} {
		at := metav1.NewMicroTime(renewed)
		must(leases.Create(w.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, RenewTime: &at}}, metav1.CreateOptions{}))(w)
	}
	w.until("the old lease to be gone", func() error {
		if _, err := leases.Get(w.Context(), "stray-old", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("getting it: %v", err)
		}
		return nil
	})
	for _, name := range []string{"stray-new", "steady"} {
		must(leases.Get(w.Context(), name, metav1.GetOptions{}))(w)
	}
}
