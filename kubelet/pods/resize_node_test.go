package pods_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
)

// resources reads «cpu/cpu limit/memory/memory limit», each may be empty.
func resources(text string) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for i, part := range strings.Split(text, "/") {
		list := []corev1.ResourceList{r.Requests, r.Limits}[i%2]
		if name := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}[i/2]; part != "" {
			list[name] = resource.MustParse(part)
		}
	}
	return r
}

func written(r *corev1.ResourceRequirements) string {
	var part []string
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
			if q, ok := list[name]; ok {
				part = append(part, q.String())
			} else {
				part = append(part, "")
			}
		}
	}
	return strings.Join(part, "/")
}

// resize changes what a container asks for, as pods/resize does.
func (a *api) resize(uid types.UID, i int, text string) {
	a.edit(uid, func(p *corev1.Pod) {
		p.Generation++
		p.Spec.Containers[i].Resources = resources(text)
	})
}

func condition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &p.Status.Conditions[i]
}

// has waits until the first container's status tells these resources and no resize is left to do.
func (n *node) has(uid types.UID, text string) *corev1.Pod {
	n.t.Helper()
	return n.api.until(uid, "at "+text, func(p *corev1.Pod) bool {
		cs := p.Status.ContainerStatuses
		return len(cs) > 0 && cs[0].State.Running != nil && cs[0].Resources != nil && written(cs[0].Resources) == text && ready(p) &&
			condition(p, corev1.PodResizePending) == nil && condition(p, corev1.PodResizeInProgress) == nil
	})
}

// groups checks what the kernel has for the pod and its first container.
func (n *node) groupsAre(p *corev1.Pod, pod, container cgroups.Resources) {
	n.t.Helper()
	l, err := n.rt.ListPod(n.t.Context(), string(p.UID))
	if err != nil || len(l.Containers) == 0 {
		n.t.Fatalf("no containers: %v", err)
	}
	at := map[string]cgroups.Resources{n.groups.PodPath(p.Status.QOSClass, string(p.UID)): pod}
	for _, c := range l.Containers {
		if c.Name == p.Spec.Containers[0].Name && c.State == "Running" {
			at[c.CgroupPath] = container
		}
	}
	if len(at) != 2 {
		n.t.Fatalf("the container does not run: %+v", l.Containers)
	}
	for path, want := range at {
		have, err := n.groups.Actual(path)
		if want.Memory == 0 {
			want.Memory = -1
		}
		if err != nil || !have.Has(want) {
			n.t.Errorf("%s has %+v, want %+v, %v", path, have, want, err)
		}
	}
}

// TestResize resizes pods on a node with 4 processors and 8 GiB: in place, by a restart, not now, never, below what is in use, and while the kubelet
// is away.
func TestResize(t *testing.T) {
	n := newNode(t)
	const mib = 1 << 20
	p := newPod("grows", shell("a", "sleep 1000"), shell("b", "sleep 1000"))
	p.Spec.Containers[0].Resources, p.Spec.Containers[1].Resources = resources("100m/200m/32Mi/64Mi"), resources("100m/100m/32Mi/32Mi")
	n.api.create(p)
	p = n.has(p.UID, "100m/200m/32Mi/64Mi")
	first := p.Status.ContainerStatuses[0].ContainerID
	n.groupsAre(p, cgroups.Limits(200, 300, 96*mib), cgroups.Limits(100, 200, 64*mib))

	t.Run("in place", func(t *testing.T) {
		for _, c := range []struct {
			to             string
			pod, container cgroups.Resources
		}{
			{"500m/1/64Mi/128Mi", cgroups.Limits(600, 1100, 160*mib), cgroups.Limits(500, 1000, 128*mib)},
			{"50m/100m/16Mi/32Mi", cgroups.Limits(150, 200, 64*mib), cgroups.Limits(50, 100, 32*mib)},
		} {
			n.api.resize(p.UID, 0, c.to)
			now := n.has(p.UID, c.to)
			cs := now.Status.ContainerStatuses[0]
			if cs.ContainerID != first || cs.RestartCount != 0 || written(&corev1.ResourceRequirements{Requests: cs.AllocatedResources}) != strings.Join([]string{
				strings.Split(c.to, "/")[0], strings.Split(c.to, "/")[2]}, "//")+"/" {
				t.Errorf("to %s: %+v", c.to, cs)
			}
			n.groupsAre(now, c.pod, c.container)
		}
		if started, done := n.api.told("ResizeStarted"), n.api.told("ResizeCompleted"); started != 2 || done != 2 {
			t.Errorf("%d resizes told as begun, %d as done", started, done)
		}
	})
	t.Run("never", func(t *testing.T) {
		n.api.resize(p.UID, 0, "9/9/16Mi/32Mi")
		now := n.api.until(p.UID, "refused", func(p *corev1.Pod) bool { return condition(p, corev1.PodResizePending) != nil })
		c := condition(now, corev1.PodResizePending)
		if c.Reason != "Infeasible" || c.Message != "Node didn't have enough capacity: cpu, requested: 9100, capacity: 4000" || c.ObservedGeneration != now.Generation {
			t.Errorf("the condition is %+v", c)
		}
		if got := written(now.Status.ContainerStatuses[0].Resources); got != "50m/100m/16Mi/32Mi" {
			t.Errorf("it has %s", got)
		}
		n.api.resize(p.UID, 0, "50m/100m/16Mi/32Mi") // taken back
		n.has(p.UID, "50m/100m/16Mi/32Mi")
	})
	t.Run("when another goes", func(t *testing.T) {
		other := newPod("other", shell("a", "sleep 1000"))
		other.Spec.Containers[0].Resources = resources("3")
		other.Spec.TerminationGracePeriodSeconds = new(int64(1))
		n.api.create(other)
		n.api.until(other.UID, "ready", ready)
		n.api.resize(p.UID, 0, "2/2/16Mi/32Mi")
		now := n.api.until(p.UID, "deferred", func(p *corev1.Pod) bool { return condition(p, corev1.PodResizePending) != nil })
		if c := condition(now, corev1.PodResizePending); c.Reason != "Deferred" || c.Message != "Node didn't have enough resource: cpu, requested: 2100, used: 3000, capacity: 4000" {
			t.Errorf("the condition is %+v", c)
		}
		// The kubelet starts again: it still knows what the pod was given, and that a resize waits.
		events := n.api.told("ResizeDeferred")
		n.stop()
		n.start()
		n.api.resize(other.UID, 0, "2500m") // not enough yet
		n.has(other.UID, "2500m///")
		now = n.api.until(p.UID, "deferred still", func(p *corev1.Pod) bool {
			c := condition(p, corev1.PodResizePending)
			return c != nil && strings.Contains(c.Message, "used: 2500")
		})
		if got := written(now.Status.ContainerStatuses[0].Resources); got != "50m/100m/16Mi/32Mi" || n.api.told("ResizeDeferred") != events+1 {
			t.Errorf("it has %s; %d events, were %d", got, n.api.told("ResizeDeferred"), events)
		}
		n.api.delete(other.UID, 1)
		n.has(p.UID, "2/2/16Mi/32Mi")
		n.api.until(other.UID, "gone", func(p *corev1.Pod) bool { return p == nil })
	})
	t.Run("while the kubelet is away", func(t *testing.T) {
		n.stop()
		n.api.resize(p.UID, 0, "300m/400m/48Mi/96Mi")
		n.start()
		now := n.has(p.UID, "300m/400m/48Mi/96Mi")
		if cs := now.Status.ContainerStatuses[0]; cs.ContainerID != first {
			t.Errorf("it was started again: %+v", cs)
		}
		n.groupsAre(now, cgroups.Limits(400, 500, 128*mib), cgroups.Limits(300, 400, 96*mib))
		// What was let in but not done yet is done by the next kubelet, in whatever state the groups are.
		n.stop()
		if err := n.groups.Update(n.groups.PodPath(now.Status.QOSClass, string(p.UID)), cgroups.Limits(1000, 2000, 512*mib)); err != nil {
			t.Fatal(err)
		}
		n.start()
		n.api.until(p.UID, "ready", ready)
		n.api.resize(p.UID, 0, "300m/450m/48Mi/96Mi")
		now = n.has(p.UID, "300m/450m/48Mi/96Mi")
		n.groupsAre(now, cgroups.Limits(400, 550, 128*mib), cgroups.Limits(300, 450, 96*mib))
	})
	n.api.delete(p.UID, 1)
	n.api.until(p.UID, "gone", func(p *corev1.Pod) bool { return p == nil })

	t.Run("by a restart", func(t *testing.T) {
		// It ends well when it is told to end, which is no reason to be started again by its policy.
		p := newPod("restarts", shell("a", "trap 'exit 0' USR1; sleep 1000 & wait"), shell("b", "sleep 1000"))
		p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		p.Spec.Containers[0].Resources, p.Spec.Containers[1].Resources = resources("100m/200m/32Mi/64Mi"), resources("100m/100m/32Mi/32Mi")
		p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "memory", RestartPolicy: corev1.RestartContainer}}
		n.api.create(p)
		n.has(p.UID, "100m/200m/32Mi/64Mi")
		for i, to := range []string{"500m/1/32Mi/256Mi", "200m/200m/32Mi/64Mi"} {
			n.api.resize(p.UID, 0, to)
			now := n.has(p.UID, to)
			if cs := now.Status.ContainerStatuses; cs[0].RestartCount != int32(i+1) || cs[1].RestartCount != 0 {
				t.Errorf("to %s: %+v", to, cs)
			}
		}
		if n.api.told("Container a resize requires restart") != 2 {
			t.Error("not told why it was stopped")
		}
		n.groupsAre(n.api.pod(p.UID), cgroups.Limits(300, 300, 96*mib), cgroups.Limits(200, 200, 64*mib))
		n.api.delete(p.UID, 1)
		n.api.until(p.UID, "gone", func(p *corev1.Pod) bool { return p == nil })
	})
	t.Run("below what is in use", func(t *testing.T) {
		p := newPod("full", shell("a", "dd if=/dev/zero of=/dev/shm/fill bs=1M count=40 2>/dev/null; while [ ! -e /dev/shm/less ]; do sleep 1; done; rm /dev/shm/fill; sleep 1000"))
		p.Spec.Containers[0].Resources = resources("100m/200m/32Mi/64Mi")
		n.api.create(p)
		n.has(p.UID, "100m/200m/32Mi/64Mi")
		n.api.until(p.UID, "full", func(*corev1.Pod) bool {
			stats, err := n.groups.Stats(n.groups.PodPath(corev1.PodQOSBurstable, string(p.UID)))
			return err == nil && stats.WorkingSet > 40*mib
		})
		n.api.resize(p.UID, 0, "100m/200m/16Mi/16Mi")
		now := n.api.until(p.UID, "in trouble", func(p *corev1.Pod) bool {
			c := condition(p, corev1.PodResizeInProgress)
			return c != nil && c.Reason == "Error"
		})
		if c := condition(now, corev1.PodResizeInProgress); !strings.HasPrefix(c.Message, fmt.Sprintf("attempting to set container \"a\" memory limit (%d) below current usage (", 16*mib)) {
			t.Errorf("the condition is %+v", c)
		}
		if n.api.told("ResizeError") == 0 {
			t.Error("no event tells of it")
		}
		id := strings.TrimPrefix(now.Status.ContainerStatuses[0].ContainerID, "containerd://")
		if code, err := n.rt.Exec(t.Context(), id, containers.ExecSpec{Args: []string{"touch", "/dev/shm/less"}}); code != 0 || err != nil {
			t.Fatalf("exit code %d, %v", code, err)
		}
		n.has(p.UID, "100m/200m/16Mi/16Mi")
		n.api.delete(p.UID, 1)
		n.api.until(p.UID, "gone", func(p *corev1.Pod) bool { return p == nil })
	})
}
