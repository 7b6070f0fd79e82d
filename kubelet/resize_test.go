package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers/nodetest"
)

// TestResize takes the whole daemon through what a node keeps for itself and through resizes that the real API server has let pass.
func TestResize(t *testing.T) {
	m := newMachine(t)
	m.until("registered", func() (bool, string) { return m.node() != nil, "no node" })
	m.stop()
	m.cfg.KubeReserved, m.cfg.SystemReserved, m.cfg.PodPIDs = "cpu=100m,memory=64Mi", "cpu=150m,memory=64Mi,ephemeral-storage=1Mi", 50
	m.start()
	if _, err := m.cluster.Kube.CoreV1().Nodes().Patch(t.Context(), nodeName, types.MergePatchType, []byte(`{"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	m.until("ready", func() (bool, string) {
		c := ready(m.node())
		return c != nil && c.Status == corev1.ConditionTrue, fmt.Sprint(c)
	})
	m.until("keeping what is reserved", func() (bool, string) {
		n := m.node()
		cpu, memory := n.Status.Capacity.Cpu().MilliValue()-n.Status.Allocatable.Cpu().MilliValue(), n.Status.Capacity.Memory().Value()-n.Status.Allocatable.Memory().Value()
		return cpu == 250 && memory == 129<<20, fmt.Sprint(n.Status.Capacity, n.Status.Allocatable)
	})
	groups := cgroups.New(cgroups.Config{Root: m.cfg.CgroupRoot}, zap.NewNop())
	capacity := m.node().Status.Capacity
	if all, err := groups.Actual(groups.KubepodsPath()); err != nil || !all.Has(cgroups.Limits(capacity.Cpu().MilliValue()-250, 0, capacity.Memory().Value()-128<<20)) {
		t.Errorf("all pods together have %+v, %v", all, err)
	}

	amounts := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	pods := m.cluster.Kube.CoreV1().Pods("default")
	first := amounts("100m", "32Mi")
	if _, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "sized"}, Spec: corev1.PodSpec{
		NodeName: nodeName, TerminationGracePeriodSeconds: new(int64(1)), AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{Name: "c", Image: nodetest.Image, Command: []string{"sleep", "1000"}, Resources: corev1.ResourceRequirements{Requests: first, Limits: first}}},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	has := func(want corev1.ResourceList) (bool, string) {
		p := m.pod("sized")
		passing := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress
		})
		if len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].Resources == nil {
			return false, tell(p)
		}
		cs := p.Status.ContainerStatuses[0]
		same := func(have corev1.ResourceList) bool {
			return have.Cpu().Cmp(*want.Cpu()) == 0 && have.Memory().Cmp(*want.Memory()) == 0
		}
		return podReady(p) && !passing && same(cs.Resources.Requests) && same(cs.Resources.Limits) && same(cs.AllocatedResources), fmt.Sprint(cs.Resources, p.Status.Conditions)
	}
	ask := func(want corev1.ResourceList) {
		t.Helper()
		p := m.pod("sized")
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: want, Limits: want}
		if _, err := pods.UpdateResize(t.Context(), "sized", p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	m.until("running with its first size", func() (bool, string) { return has(first) })
	before := m.pod("sized").Status.ContainerStatuses[0].ContainerID

	second := amounts("200m", "64Mi")
	ask(second)
	m.until("resized", func() (bool, string) { return has(second) })
	group := groups.PodPath(corev1.PodQOSGuaranteed, string(m.pod("sized").UID))
	if pod, err := groups.Actual(group); err != nil || !pod.Has(cgroups.Limits(200, 200, 64<<20)) {
		t.Errorf("the pod has %+v, %v", pod, err)
	}

	ask(amounts("900", "64Mi"))
	m.until("refused", func() (bool, string) {
		p := m.pod("sized")
		i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodResizePending })
		return i >= 0 && p.Status.Conditions[i].Reason == corev1.PodReasonInfeasible && p.Status.Conditions[i].ObservedGeneration == p.Generation &&
			strings.HasPrefix(p.Status.Conditions[i].Message, "Node didn't have enough capacity: cpu, requested: 900000, capacity: "), fmt.Sprint(p.Status.Conditions)
	})

	// A kubelet that starts again knows what it had given, and gives what was asked for meanwhile.
	m.stop()
	third := amounts("150m", "48Mi")
	ask(third)
	m.start()
	m.until("resized by the next kubelet", func() (bool, string) { return has(third) })
	if cs := m.pod("sized").Status.ContainerStatuses[0]; cs.ContainerID != before || cs.RestartCount != 0 {
		t.Errorf("the container was started again: %+v", cs)
	}
	m.until("told", func() (bool, string) {
		events, err := m.cluster.Kube.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=sized"})
		if err != nil {
			return false, err.Error()
		}
		var reasons []string
		for _, e := range events.Items {
			reasons = append(reasons, e.Reason)
		}
		return slices.Contains(reasons, "ResizeStarted") && slices.Contains(reasons, "ResizeCompleted") && slices.Contains(reasons, "ResizeInfeasible"), fmt.Sprint(reasons)
	})
	if err := pods.Delete(t.Context(), "sized", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.until("gone", func() (bool, string) { p := m.pod("sized"); return p == nil, tell(p) })
}
