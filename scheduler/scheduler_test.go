package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/pkg/testcluster"
)

// bench is a real control plane on which the test stands in for the kubelets.
type bench struct {
	*testing.T
	*testcluster.Cluster
	stop func()
}

// start runs a scheduler on a cluster of its own until the test ends; b.stop ends it sooner.
func start(t *testing.T) *bench {
	b := &bench{T: t, Cluster: testcluster.Start(t)}
	b.run()
	t.Cleanup(func() { b.stop() })
	return b
}

// run starts the daemon as main does, as the user that it is in a cluster.
func (b *bench) run() {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	cfg := Config{Kubeconfig: b.Kubeconfig("system:kube-scheduler"), SchedulerName: "default-scheduler", LeaderElect: true}
	done := make(chan error, 1)
	go func() { done <- run(ctx, cfg, logging.ForTest(b)) }()
	var stopped bool
	b.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			b.Errorf("the scheduler ended with: %v", err)
		}
	}
}

func (b *bench) addNode(name, cpu string, change ...func(*corev1.Node)) {
	b.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	for _, c := range change {
		c(n)
	}
	n, err := b.Kube.CoreV1().Nodes().Create(b.Context(), n, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	n.Status.Capacity = corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
	n.Status.Allocatable = n.Status.Capacity
	n, err = b.Kube.CoreV1().Nodes().UpdateStatus(b.Context(), n, metav1.UpdateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	// A new node is not ready until the node lifecycle controller says so; here the test does.
	n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady })
	if _, err := b.Kube.CoreV1().Nodes().Update(b.Context(), n, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) addPod(name, cpu string, change ...func(*corev1.Pod)) {
	b.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "none", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu)}}}}
	for _, c := range change {
		c(p)
	}
	b.eventually(func() (string, bool) { // the API server may be away
		_, err := b.Kube.CoreV1().Pods("default").Create(b.Context(), p, metav1.CreateOptions{})
		return fmt.Sprint(err), err == nil || apierrors.IsAlreadyExists(err)
	})
}

// eventually asks until the answer is yes.
func (b *bench) eventually(ask func() (last string, ok bool)) {
	b.Helper()
	var last string
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var ok bool
		if last, ok = ask(); ok {
			return
		}
	}
	b.Fatalf("it did not come about; at last: %s", last)
}

// placed is how many pods stand on each node, and how many on none.
func (b *bench) placed() (on map[string]int, none int) {
	b.Helper()
	on = map[string]int{}
	b.eventually(func() (string, bool) {
		list, err := b.Kube.CoreV1().Pods("default").List(b.Context(), metav1.ListOptions{})
		if err != nil {
			return err.Error(), false
		}
		clear(on)
		none = 0
		for _, p := range list.Items {
			if p.Spec.NodeName == "" {
				none++
			} else {
				on[p.Spec.NodeName]++
			}
		}
		return "", true
	})
	return on, none
}

func (b *bench) waitNode(name string) (node string) {
	b.Helper()
	b.eventually(func() (string, bool) {
		p, err := b.Kube.CoreV1().Pods("default").Get(b.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		node = p.Spec.NodeName
		return fmt.Sprintf("%+v", p.Status.Conditions), node != ""
	})
	return node
}

// waitRefused waits until a pod was told that it is unschedulable, by condition and event, and returns the event's message.
func (b *bench) waitRefused(name, message string) {
	b.Helper()
	b.eventually(func() (string, bool) {
		p, err := b.Kube.CoreV1().Pods("default").Get(b.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		c := pod.Condition(p, corev1.PodScheduled)
		return fmt.Sprintf("%+v", c), c != nil && c.Status == corev1.ConditionFalse && c.Reason == "Unschedulable" && c.Message == message
	})
	b.eventually(func() (string, bool) {
		events := b.events(name)
		for _, e := range events {
			if e == "Warning FailedScheduling "+message {
				return "", true
			}
		}
		return strings.Join(events, "\n"), false
	})
}

func (b *bench) events(name string) (lines []string) {
	b.Helper()
	list, err := b.Kube.CoreV1().Events("default").List(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range list.Items {
		if e.InvolvedObject.Name == name {
			lines = append(lines, e.Type+" "+e.Reason+" "+e.Message)
		}
	}
	return lines
}

func TestHundredPodsOnTenNodes(t *testing.T) {
	b := start(t)
	for i := range 10 {
		b.addNode(fmt.Sprintf("n%d", i), "1")
	}
	for i := range 101 {
		b.addPod(fmt.Sprintf("p%d", i), "100m")
	}
	b.eventually(func() (string, bool) {
		on, none := b.placed()
		return fmt.Sprint(on, none), none == 1 && len(on) == 10
	})
	on, _ := b.placed()
	for name, n := range on {
		if n != 10 {
			t.Errorf("%d pods are on %s, which has room for 10", n, name)
		}
	}
	refused := ""
	for i := range 101 {
		name := fmt.Sprintf("p%d", i)
		p, err := b.Kube.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if c := pod.Condition(p, corev1.PodScheduled); p.Spec.NodeName == "" {
			refused = name
		} else if c == nil || c.Status != corev1.ConditionTrue {
			t.Errorf("%s has a node and the condition %+v", name, c)
		}
	}
	b.waitRefused(refused, "0/10 nodes are available: 10 Insufficient cpu.")
	if err := b.Kube.CoreV1().Pods("default").Delete(t.Context(), other(refused), metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	b.waitNode(refused)
	b.eventually(func() (string, bool) {
		events := b.events(refused)
		for _, e := range events {
			if strings.HasPrefix(e, "Normal Scheduled Successfully assigned default/"+refused+" to n") {
				return "", true
			}
		}
		return strings.Join(events, "\n"), false
	})
}

func other(name string) string {
	if name == "p0" {
		return "p1"
	}
	return "p0"
}

func TestWhatWakesAPod(t *testing.T) {
	b := start(t)
	b.addPod("p", "1")
	b.waitRefused("p", "no nodes available to schedule pods")
	b.addNode("small", "500m")
	b.addNode("tainted", "4", func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}}
	})
	b.addNode("cordoned", "4", func(n *corev1.Node) { n.Spec.Unschedulable = true })
	b.waitRefused("p", "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {dedicated: db}, 1 node(s) were unschedulable.")

	b.patchNode("tainted", `{"spec":{"taints":null}}`)
	if got := b.waitNode("p"); got != "tainted" {
		t.Errorf("p is on %s", got)
	}

	b.addPod("q", "1", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} })
	b.waitRefused("q", "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector.")
	b.patchNode("tainted", `{"metadata":{"labels":{"disk":"ssd"}}}`)
	if got := b.waitNode("q"); got != "tainted" {
		t.Errorf("q is on %s", got)
	}

	b.addPod("r", "3")
	b.patchNode("cordoned", `{"spec":{"unschedulable":false}}`)
	if got := b.waitNode("r"); got != "cordoned" {
		t.Errorf("r is on %s", got)
	}

	// A pod that has finished takes no room. "tainted" has 2 left of 4.
	b.addPod("s", "3", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} })
	b.waitRefused("s", "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector.")
	b.finish("p")
	if got := b.waitNode("s"); got != "tainted" {
		t.Errorf("s is on %s", got)
	}
	b.finish("s")

	b.addPod("gated", "1", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}} })
	b.addPod("after", "1")
	b.waitNode("after")
	if p, err := b.Kube.CoreV1().Pods("default").Get(t.Context(), "gated", metav1.GetOptions{}); err != nil || p.Spec.NodeName != "" {
		t.Errorf("a gated pod is on %q: %v", p.Spec.NodeName, err)
	}
	if _, err := b.Kube.CoreV1().Pods("default").Patch(t.Context(), "gated", types.MergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	b.waitNode("gated")
}

// finish says, as a kubelet would, that a pod has succeeded.
func (b *bench) finish(name string) {
	b.Helper()
	if _, err := b.Kube.CoreV1().Pods("default").Patch(b.Context(), name, types.MergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status"); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) patchNode(name, patch string) {
	b.Helper()
	if _, err := b.Kube.CoreV1().Nodes().Patch(b.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		b.Fatal(err)
	}
}

// TestNothingIsLost ends the scheduler, and then the API server, while pods are being placed.
func TestNothingIsLost(t *testing.T) {
	b := start(t)
	const nodes, each = 5, 40
	for i := range nodes {
		b.addNode(fmt.Sprintf("n%d", i), "4")
	}
	b.stop()
	for i := range nodes * each {
		b.addPod(fmt.Sprintf("p%d", i), "100m")
	}
	b.run()
	b.eventually(func() (string, bool) {
		_, none := b.placed()
		return fmt.Sprint(none), none < nodes*each
	})
	b.stop() // in the middle, if it is not faster than we look
	b.run()
	b.KillAPIServer()
	if err := b.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	b.eventually(func() (string, bool) {
		on, none := b.placed()
		return fmt.Sprint(on, none), none == 0
	})
	on, _ := b.placed()
	for name, n := range on {
		if n != each {
			t.Errorf("%d pods are on %s, which has room for %d", n, name, each)
		}
	}
}

func TestPreemption(t *testing.T) {
	b := start(t)
	b.addNode("n", "2")
	class := func(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.PriorityClassName = name } }
	b.addPod("low", "1")
	b.addPod("mid", "1", class("system-cluster-critical"))
	b.waitNode("low")
	b.waitNode("mid")
	b.addPod("high", "1", class("system-node-critical"))
	b.eventually(func() (string, bool) {
		p, err := b.Kube.CoreV1().Pods("default").Get(t.Context(), "low", metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		c := pod.Condition(p, corev1.DisruptionTarget)
		return fmt.Sprintf("%+v", p.Status), pod.Terminating(p) && c != nil && c.Reason == "PreemptionByScheduler"
	})
	b.eventually(func() (string, bool) {
		p, err := b.Kube.CoreV1().Pods("default").Get(t.Context(), "high", metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%+v", p.Status), p.Status.NominatedNodeName == "n"
	})
	// The victim's kubelet would now end it.
	if err := b.Kube.CoreV1().Pods("default").Delete(t.Context(), "low", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	if got := b.waitNode("high"); got != "n" {
		t.Errorf("on %s", got)
	}
	if p, err := b.Kube.CoreV1().Pods("default").Get(t.Context(), "mid", metav1.GetOptions{}); err != nil || pod.Terminating(p) {
		t.Errorf("mid was evicted too: %v", err)
	}
}
