package main

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers/nodetest"
)

const podPIDs = 32

// faults is a node with a pod that must not feel what happens beside it.
type faults struct {
	*machine
	first string // its container
}

// TestFaults does to a node what nodes suffer. Each time the node goes on answering, new pods start, and the pod that ran before runs on.
func TestFaults(t *testing.T) {
	m := newMachine(t)
	m.until("registered", func() (bool, string) { n := m.node(); return n != nil, fmt.Sprint(n) })
	m.stop()
	m.cfg.PodPIDs = podPIDs
	m.start()
	if _, err := m.cluster.Kube.CoreV1().Nodes().Patch(t.Context(), nodeName, types.MergePatchType, []byte(`{"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	f := &faults{machine: m}
	f.run("neighbour", "while true; do sleep 1; done", nil)
	f.first = f.pod("neighbour").Status.ContainerStatuses[0].ContainerID
	for _, c := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"containerd is killed and comes again", f.containerdKilled},
		{"containerd hangs", f.containerdHangs},
		{"the API server goes away", f.apiAway},
		{"a container forks without end", f.forkBomb},
		{"a container fills its log", f.logFlood},
		{"a container writes more than it may", f.bigWriter},
		{"a container does not hear TERM", f.deaf},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.t, m.daemon.T = t, t
			defer func() { m.t, m.daemon.T = f.t, f.t }()
			c.do(t)
			f.well()
		})
	}
}

// run makes a pod of one container and waits until it is ready.
func (f *faults) run(name, script string, edit func(*corev1.Pod)) {
	f.t.Helper()
	f.make(name, script, edit)
	f.until(name+" is ready", func() (bool, string) { p := f.pod(name); return podReady(p), tell(p) })
}

func (f *faults) make(name, script string, edit func(*corev1.Pod)) {
	f.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: nodeName, TerminationGracePeriodSeconds: new(int64(1)), AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{Name: "c", Image: nodetest.Image, Command: []string{"sh", "-c", script}}},
	}}
	if edit != nil {
		edit(p)
	}
	if _, err := f.cluster.Kube.CoreV1().Pods("default").Create(f.t.Context(), p, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *faults) end(name string) {
	f.t.Helper()
	if err := f.cluster.Kube.CoreV1().Pods("default").Delete(f.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		f.t.Fatal(err)
	}
	f.until(name+" is gone", func() (bool, string) { p := f.pod(name); return p == nil, tell(p) })
}

// well checks the node, the neighbour, and that a new pod starts and ends.
func (f *faults) well() {
	f.t.Helper()
	f.until("the node is ready", func() (bool, string) {
		c := ready(f.node())
		return c != nil && c.Status == corev1.ConditionTrue, fmt.Sprint(c)
	})
	f.run("after", "while true; do sleep 1; done", nil)
	f.end("after")
	if p := f.pod("neighbour"); !podReady(p) || p.Status.ContainerStatuses[0].ContainerID != f.first {
		f.t.Errorf("the neighbour: %s", tell(p))
	}
}

func (f *faults) containerdKilled(*testing.T) {
	f.daemon.Stop()
	f.until("the kubelet sees it", func() (bool, string) {
		code, text := f.get("caller", "/readyz")
		return code != http.StatusOK, text
	})
	f.make("meanwhile", "while true; do sleep 1; done", nil)
	f.daemon.Start()
	f.until("the pod made meanwhile is ready", func() (bool, string) { p := f.pod("meanwhile"); return podReady(p), tell(p) })
	f.end("meanwhile")
}

// A hanging containerd is seen by the node's condition; the server answers all the while.
func (f *faults) containerdHangs(t *testing.T) {
	f.daemon.Signal(syscall.SIGSTOP)
	f.make("meanwhile", "while true; do sleep 1; done", nil)
	f.until("the node says so", func() (bool, string) {
		if code, text := f.get("caller", "/healthz"); code != http.StatusOK {
			t.Errorf("healthz: %d %s", code, text)
		}
		c := ready(f.node())
		return c != nil && c.Status == corev1.ConditionFalse, fmt.Sprint(c)
	})
	f.daemon.Signal(syscall.SIGCONT)
	f.until("the pod made meanwhile is ready", func() (bool, string) { p := f.pod("meanwhile"); return podReady(p), tell(p) })
	f.end("meanwhile")
}

// Without the API a container that ends is started again.
func (f *faults) apiAway(t *testing.T) {
	marks := t.TempDir()
	f.run("ends", "echo x >> /marks/file; sleep 1; exit 1", func(p *corev1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "marks", MountPath: "/marks"}}
		p.Spec.Volumes = []corev1.Volume{{Name: "marks", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: marks}}}}
	})
	f.cluster.KillAPIServer()
	f.until("it was started again", func() (bool, string) {
		data, err := os.ReadFile(filepath.Join(marks, "file"))
		return strings.Count(string(data), "x") >= 2, fmt.Sprint(string(data), err)
	})
	if err := f.cluster.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	f.until("the API knows", func() (bool, string) {
		p := f.pod("ends")
		return p != nil && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount > 0, tell(p)
	})
	f.end("ends")
}

func (f *faults) forkBomb(t *testing.T) {
	f.make("bomb", "bomb() { bomb | bomb & }; while true; do bomb; done", nil)
	f.until("it has all processes that it may have", func() (bool, string) {
		p := f.pod("bomb")
		if p == nil {
			return false, ""
		}
		now, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/pids", f.cfg.CgroupRoot, "kubepods/besteffort/pod"+string(p.UID), "pids.current"))
		if os.IsNotExist(err) {
			now, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", f.cfg.CgroupRoot, "kubepods/besteffort/pod"+string(p.UID), "pids.current"))
		}
		count, cerr := strconv.Atoi(strings.TrimSpace(string(now)))
		if count > podPIDs {
			t.Fatalf("the pod has %d processes", count)
		}
		return count == podPIDs, fmt.Sprint(count, err, cerr)
	})
	f.well()
	f.end("bomb")
}

// The log is rotated as fast as it is written, and stays near its bound: two files of 1 MiB and what comes between two looks.
func (f *faults) logFlood(t *testing.T) {
	f.run("flood", "yes 'a line of the flood, a line of the flood, a line of the flood'", nil)
	p := f.pod("flood")
	dir := filepath.Join(f.cfg.RootDir, "logs", "default_flood_"+string(p.UID), "c")
	most := int64(0)
	f.until("rotated", func() (bool, string) {
		var sum int64
		rotated := false
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rotated = rotated || strings.HasSuffix(path, ".1")
			if info, err := e.Info(); err == nil && !e.IsDir() {
				sum += info.Size()
			}
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		most = max(most, sum)
		return rotated, fmt.Sprint(sum)
	})
	f.well()
	if most > 16<<20 {
		t.Errorf("the log took %d MiB at one time", most>>20)
	}
	f.end("flood")
}

// A container over its ephemeral-storage limit is ended, and only it.
func (f *faults) bigWriter(*testing.T) {
	f.make("writer", "dd if=/dev/zero of=/tmp/big bs=1M count=200; while true; do sleep 1; done", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("20Mi")}
	})
	f.until("evicted", func() (bool, string) {
		p := f.pod("writer")
		return p != nil && p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted", tell(p)
	})
	f.end("writer")
}

func (f *faults) deaf(t *testing.T) {
	f.run("deaf", "trap '' TERM USR1; while true; do sleep 1; done", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(2)) })
	began := time.Now()
	f.end("deaf")
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it was ended after %s, before its time", took)
	}
}
