package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/pkg/pod"
)

// TestStatic takes a static pod through its life: its mirror, deleted by hand and made anew; a change while the API is away; critical before others. And
// pods that end for their own doing: a volume over its limit, a deadline that was moved up.
func TestStatic(t *testing.T) {
	m := newMachine(t)
	known := func() (bool, string) { c := ready(m.node()); return c != nil, fmt.Sprint(c) }
	m.until("registered", known)
	m.stop()
	m.cfg.Manifests = t.TempDir()
	m.start()
	out := t.TempDir()
	write := func(word, cpu string) {
		t.Helper()
		text := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 2
  volumes: [{name: out, hostPath: {path: %s}}]
  containers:
  - name: c
    image: %s
    command: [sh, -c, "echo %s >> /out/said; trap 'exit 0' TERM; sleep 1000 & wait"]
    resources: {requests: {cpu: %s}}
    volumeMounts: [{name: out, mountPath: /out}]
`, out, nodetest.Image, word, cpu)
		if err := os.WriteFile(filepath.Join(m.cfg.Manifests, "web.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	said := func() string {
		b, _ := os.ReadFile(filepath.Join(out, "said")) // not there before the first has run
		return strings.Join(strings.Fields(string(b)), " ")
	}
	hasSaid := func(want string) { m.until("said "+want, func() (bool, string) { return said() == want, said() }) }
	mirror := func(what string, ok func(*corev1.Pod) bool) *corev1.Pod {
		t.Helper()
		var p *corev1.Pod
		m.until(what, func() (bool, string) {
			p = m.pod("web-" + nodeName)
			return p != nil && podReady(p) && ok(p), tell(p)
		})
		return p
	}
	whatever := func(*corev1.Pod) bool { return true }

	if err := os.WriteFile(filepath.Join(m.cfg.Manifests, "wrong.yaml"), []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: wrong}\nspec: {containers: 7}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("one", "100m")
	first := mirror("shown", whatever)
	owner := metav1.GetControllerOf(first)
	if !pod.Mirror(first) || first.Annotations["kubernetes.io/config.source"] != "file" || first.Annotations["kubernetes.io/config.hash"] != first.Annotations["kubernetes.io/config.mirror"] ||
		owner == nil || owner.Kind != "Node" || owner.Name != nodeName || first.Spec.NodeName != nodeName || first.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("the mirror is %+v", first)
	}
	container := first.Status.ContainerStatuses[0].ContainerID

	// Deleted by hand: it comes back, the pod runs on.
	if err := m.cluster.Kube.CoreV1().Pods("default").Delete(t.Context(), first.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	second := mirror("made anew", func(p *corev1.Pod) bool { return p.UID != first.UID })
	if second.Status.ContainerStatuses[0].ContainerID != container || second.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("deleting the mirror disturbed the pod: %s", tell(second))
	}

	// The kubelet goes and comes back: pod and mirror stay.
	m.stop()
	m.start()
	if now := mirror("kept", whatever); now.UID != second.UID || now.Status.ContainerStatuses[0].ContainerID != container {
		t.Errorf("after the restart: %s", tell(now))
	}

	// The file changes while the API is away: the old pod ends, then the new one starts; the mirror follows when it can.
	m.cluster.KillAPIServer()
	write("two", "200m")
	hasSaid("one two")
	if err := m.cluster.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	third := mirror("replaced", func(p *corev1.Pod) bool {
		return p.Annotations["kubernetes.io/config.mirror"] != second.Annotations["kubernetes.io/config.mirror"]
	})
	if third.Spec.Containers[0].Resources.Requests.Cpu().MilliValue() != 200 {
		t.Errorf("the mirror shows the old pod: %+v", third.Spec)
	}

	m.endsByItself(t)

	// A pod takes the node's processors; the static one then wants them, and comes first.
	free := m.node().Status.Allocatable.Cpu().MilliValue() - 300
	m.create(t, "greedy", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": *resource.NewMilliQuantity(free, resource.DecimalSI)}
	})
	m.until("running", func() (bool, string) { p := m.pod("greedy"); return podReady(p), tell(p) })
	write("three", "900m")
	hasSaid("one two three")
	m.until("preempted", func() (bool, string) {
		p := m.pod("greedy")
		c := pod.Condition(p, corev1.DisruptionTarget)
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Preempting" && p.Status.Message == "Preempted in order to admit critical pod" &&
			c != nil && c.Reason == "TerminationByKubelet" && c.Message == "Pod was preempted by Kubelet to accommodate a critical pod.", fmt.Sprintf("%+v", p.Status)
	})

	if err := os.Remove(filepath.Join(m.cfg.Manifests, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	m.until("gone", func() (bool, string) { p := m.pod("web-" + nodeName); return p == nil, tell(p) })
	m.underPressure(t)
}

// underPressure has the kubelet want more memory to be free than the machine can have: the pod that runs ends, another is not let in.
func (m *machine) underPressure(t *testing.T) {
	m.create(t, "victim", func(*corev1.Pod) {})
	m.until("running", func() (bool, string) { p := m.pod("victim"); return podReady(p), tell(p) })
	m.stop()
	m.cfg.EvictionHard, m.cfg.PressureLasts = "memory.available<99%", time.Minute
	m.start()
	m.until("evicted", func() (bool, string) {
		p := m.pod("victim")
		c := pod.Condition(p, corev1.DisruptionTarget)
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted" && strings.HasPrefix(p.Status.Message, "The node was low on resource: memory. Threshold quantity: ") &&
			c != nil && c.Reason == "TerminationByKubelet" && c.Message == p.Status.Message, fmt.Sprintf("%+v", p.Status)
	})
	m.until("under pressure", func() (bool, string) {
		n := m.node()
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeMemoryPressure {
				return c.Status == corev1.ConditionTrue && c.Reason == "KubeletHasInsufficientMemory", fmt.Sprint(c)
			}
		}
		return false, fmt.Sprint(n.Status.Conditions)
	})
	m.create(t, "another", func(*corev1.Pod) {})
	m.until("refused", func() (bool, string) {
		st := m.pod("another").Status
		return st.Phase == corev1.PodFailed && st.Reason == "Evicted" && st.Message == "Pod was rejected: The node had condition: [MemoryPressure]. ", fmt.Sprintf("%+v", st)
	})
}

// endsByItself checks pods that end because of what they do: a volume over its limit, a deadline.
func (m *machine) endsByItself(t *testing.T) {
	m.create(t, "writer", func(p *corev1.Pod) {
		limit := resource.MustParse("1Mi")
		p.Spec.Volumes = []corev1.Volume{{Name: "x", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/x"}}
		p.Spec.Containers[0].Command = []string{"sh", "-c", "head -c 3000000 /dev/zero > /x/file; sleep 1000"}
	})
	m.create(t, "late", func(*corev1.Pod) {})
	m.until("running", func() (bool, string) { p := m.pod("late"); return podReady(p), tell(p) })
	_, err := m.cluster.Kube.CoreV1().Pods("default").Patch(t.Context(), "late", types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":1}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"late":   "Failed DeadlineExceeded Pod was active on the node longer than the specified deadline",
		"writer": `Failed Evicted Usage of EmptyDir volume "x" exceeds the limit "1Mi". `,
	} {
		m.until("ended", func() (bool, string) {
			st := m.pod(name).Status
			got := fmt.Sprintf("%s %s %s", st.Phase, st.Reason, st.Message)
			return got == want, got
		})
	}
}

// create makes a small pod on the node's own network.
func (m *machine) create(t *testing.T, name string, edit func(*corev1.Pod)) {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: nodeName, HostNetwork: true, TerminationGracePeriodSeconds: new(int64(1)), AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{Name: "c", Image: nodetest.Image, Command: []string{"sleep", "1000"}}},
	}}
	edit(p)
	if _, err := m.cluster.Kube.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
