package containers_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/namespaces"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
)

// shared makes a sandbox whose containers see each other's processes.
func (n *node) shared(spec containers.SandboxSpec) containers.Sandbox {
	n.t.Helper()
	spec.PodUID, spec.ShareProcessNamespace = "uid-"+strings.ToLower(n.t.Name()), true
	group, err := n.groups.CreatePod(corev1.PodQOSBurstable, spec.PodUID, cgroups.Resources{})
	if err != nil {
		n.t.Fatal(err)
	}
	spec.CgroupParent = group
	return n.sandbox(spec)
}

func (n *node) box(id string) containers.Sandbox {
	n.t.Helper()
	for _, s := range n.list().Sandboxes {
		if s.ID == id {
			return s
		}
	}
	n.t.Fatalf("sandbox %s is not listed", id)
	return containers.Sandbox{}
}

// TestSharedProcesses: two containers see each other, the first process is pause, which reaps; all of it outlives the kubelet and dies with the pod.
func TestSharedProcesses(t *testing.T) {
	n := newNode(t)
	shims := processesNamed(t, "containerd-shim")
	s := n.shared(containers.SandboxSpec{Hostname: "web"})
	one := n.start(s, containers.ContainerSpec{Name: "one", Args: []string{"sleep", "1001"}})
	two := n.start(s, containers.ContainerSpec{Name: "two", Args: []string{"sleep", "1002"}})
	if got := n.list(); len(got.Containers) != 2 || !got.Sandboxes[0].Ready {
		t.Fatalf("listed %+v", got)
	}
	seen, _ := n.exec(one, "sh", "-c", "cat /proc/[0-9]*/cmdline")
	for _, want := range []string{"1001", "1002"} {
		if !strings.Contains(seen, want) {
			t.Errorf("container one sees %q, not %s", seen, want)
		}
	}
	if first, _ := n.exec(two, "cat", "/proc/1/cmdline"); first != "/pause\x00" {
		t.Errorf("the first process is %q", first)
	}
	// Orphans: their parent ends at once, so they are pause's, who must reap them when they end.
	n.exec(two, "sh", "-c", "(usleep 1 & usleep 2 &)")
	n.until("the orphans are reaped", func() bool {
		names, _ := n.exec(two, "sh", "-c", "grep -h Name: /proc/[0-9]*/status")
		return !strings.Contains(names, "usleep")
	})
	// It has no rights: not over the node's files, and not over anything else.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PausePID))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "Uid:\t65535", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("pause's status lacks %q:\n%s", want, status)
		}
	}
	for line := range strings.Lines(string(status)) {
		switch words := strings.Fields(line); words[0] {
		case "VmRSS:":
			if kib, err := strconv.Atoi(words[1]); err != nil || kib > 64 {
				t.Errorf("pause takes %s kB", words[1])
			}
		case "SigIgn:": // others may be inherited from whoever started us
			const chld = 1 << (unix.SIGCHLD - 1)
			if ignored, err := strconv.ParseUint(words[1], 16, 64); err != nil || ignored&chld == 0 {
				t.Errorf("pause does not ignore SIGCHLD: %s", words[1])
			}
		}
	}
	if entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/root", s.PausePID)); err != nil || len(entries) != 3 {
		t.Errorf("its root holds %v, %v", entries, err)
	}

	n.close()
	n.open()
	if got := n.box(s.ID); !got.Ready || got.PausePID != s.PausePID {
		t.Errorf("after a restart: %+v", got)
	}
	if seen, _ := n.exec(one, "cat", "/proc/1/cmdline"); seen != "/pause\x00" {
		t.Errorf("after a restart the first process is %q", seen)
	}
	// One container's end takes what it left behind with it, and not the others.
	if err := n.rt.StopContainer(context.Background(), one, 0); err != nil {
		t.Fatal(err)
	}
	if left, _ := n.exec(two, "sh", "-c", "cat /proc/[0-9]*/cmdline"); strings.Contains(left, "1001") || !strings.Contains(left, "1002") {
		t.Errorf("when one was stopped, left is %q", left)
	}
	if err := n.rt.RemoveSandbox(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	n.noGroup(s)
	n.nothingRemains(shims)
}

// TestPauseKilled: a sandbox without its first process is not ready, and is taken away as any other.
func TestPauseKilled(t *testing.T) {
	n := newNode(t)
	shims := processesNamed(t, "containerd-shim")
	s := n.shared(containers.SandboxSpec{HostNetwork: true, HostIPC: true})
	id := n.start(s, containers.ContainerSpec{Args: []string{"sleep", "1000"}})
	if err := unix.Kill(s.PausePID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if c := n.exited(id); c.ExitCode != 137 {
		t.Errorf("the container ended with %d", c.ExitCode)
	}
	n.until("the sandbox is not ready", func() bool { return !n.box(s.ID).Ready })
	if err := n.rt.RemoveSandbox(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	n.noGroup(s)
	n.nothingRemains(shims)
}

// TestPauseLeftover: the kubelet was killed after the process ran and before its sandbox was recorded.
func TestPauseLeftover(t *testing.T) {
	n := newNode(t)
	shims := processesNamed(t, "containerd-shim")
	s := n.shared(containers.SandboxSpec{})
	ctx := namespaces.WithNamespace(context.Background(), "k8s.io")
	if err := n.rt.Client().ContainerService().Delete(ctx, s.ID); err != nil {
		t.Fatal(err)
	}
	n.close()
	n.open()
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(s.PausePID))); err == nil {
		t.Error("the process still runs")
	}
	n.noGroup(s)
	n.nothingRemains(shims)
}

// TestJoinedProcesses: a container for debugging sees its target's processes, and ends with it.
func TestJoinedProcesses(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{})
	target := n.start(s, containers.ContainerSpec{Name: "target", Args: []string{"sleep", "1001"}})
	debug := n.start(s, containers.ContainerSpec{Name: "debug", Args: []string{"sleep", "1002"}, JoinPID: target})
	if first, _ := n.exec(debug, "cat", "/proc/1/cmdline"); !strings.Contains(first, "1001") {
		t.Errorf("the first process is %q", first)
	}
	if err := n.rt.StopContainer(context.Background(), target, 0); err != nil {
		t.Fatal(err)
	}
	if c := n.exited(debug); c.ExitCode != 137 {
		t.Errorf("it ended with %d", c.ExitCode)
	}
	_, err := n.rt.CreateContainer(context.Background(), containers.ContainerSpec{SandboxID: s.ID, Image: n.list().Containers[0].Image, JoinPID: target})
	if err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("joining what has ended: %v", err)
	}
}

func (n *node) noGroup(s containers.Sandbox) {
	n.t.Helper()
	if err := n.groups.RemovePod(context.Background(), s.PodUID); err != nil {
		n.t.Fatal(err)
	}
}
