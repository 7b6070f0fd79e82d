package eviction

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/logging"
)

func newPod(name string, priority int32, request string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{Name: "c"}}}}
	if request != "" {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"memory": resource.MustParse(request)}
	}
	return p
}

// some are the pods, groups, images and disks of a node: strict, since nothing else is known.
type some struct {
	t       *testing.T
	pods    []*corev1.Pod
	evicted []string
	texts   []string
	graces  []time.Duration
	unused  []string
	alive   map[string]bool // groups with processes
	events  []string
	layer   int64
	changes int
}

func (s *some) Pods() []*corev1.Pod { return s.pods }
func (s *some) Evict(uid types.UID, reason, message string, grace time.Duration, disruption string) {
	if reason != "Evicted" || disruption != "" && disruption != message {
		s.t.Errorf("%s: %s (%s)", reason, message, disruption)
	}
	s.evicted, s.texts, s.graces = append(s.evicted, string(uid)), append(s.texts, message), append(s.graces, grace)
}
func (s *some) PodPath(_ corev1.PodQOSClass, uid string) string { return uid }
func (s *some) KubepodsPath() string                            { return "all" }
func (s *some) Stats(path string) (cgroups.Stats, error) {
	switch {
	case path == "small":
		return cgroups.Stats{WorkingSet: 1}, nil
	case s.alive[path]:
		return cgroups.Stats{WorkingSet: 1 << 30, PIDs: 3}, nil
	}
	return cgroups.Stats{WorkingSet: 1 << 30}, nil
}

func (s *some) List(context.Context) (containers.Listing, error) {
	l := containers.Listing{Containers: []containers.Container{{ImageID: "used"}}}
	for _, p := range s.pods {
		l.Containers = append(l.Containers, containers.Container{ID: p.Name, PodUID: string(p.UID), Name: "c", ImageID: "used", State: containers.Running, CgroupPath: p.Name})
	}
	return l, nil
}

func (s *some) LayerUsage(context.Context, string) (containers.LayerUsage, error) {
	return containers.LayerUsage{Bytes: s.layer, Inodes: 1}, nil
}
func (s *some) Folder(context.Context) (string, error) { return "", nil }

func (s *some) RemoveUnused(_ context.Context, inUse map[string]bool) ([]string, error) {
	if len(inUse) != 1 || !inUse["used"] {
		s.t.Errorf("in use: %v", inUse)
	}
	freed := s.unused
	s.unused = nil
	return freed, nil
}

func (s *some) Eventf(_ runtime.Object, _, reason, format string, _ ...any) {
	s.events = append(s.events, reason+" "+format)
}

func newManager(t *testing.T, s *some, hard, soft, graces string) *Manager {
	list, err := Thresholds(hard, soft, graces, "")
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Root: t.TempDir(), Logs: t.TempDir(), Thresholds: list, PressureLasts: time.Minute, MaxGrace: 7 * time.Second},
		Parts{Groups: s, Images: s, Runtime: s, Events: s}, logging.ForTest(t))
}

func (m *Manager) sees(l map[Signal]level) {
	m.look = func(_ context.Context, _ bool, into sight) error {
		clear(into)
		for k, v := range l {
			into[k] = v
		}
		return nil
	}
}

func (s *some) turn(m *Manager) {
	s.t.Helper()
	if err := m.turn(s.t.Context(), s, func() { s.changes++ }); err != nil {
		s.t.Fatal(err)
	}
}

// Pods go one by one while memory is short, the next when the last has gone, critical ones never; pressure is told for a while after.
func TestUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &some{t: t, alive: map[string]bool{"big": true}, pods: []*corev1.Pod{newPod("small", 0, ""), newPod("big", 0, ""), newPod("critical", 2000001000, "")}}
		m := newManager(t, s, "memory.available<100", "", "")
		m.sees(map[Signal]level{memoryAvailable: {1, 1000}})
		for range 3 {
			s.turn(m)
		}
		if got := strings.Join(s.evicted, " "); got != "big" {
			t.Errorf("while the first is alive, ended: %s", got)
		}
		s.alive = nil
		s.turn(m) // what was seen in this turn may be older than its end
		if got := strings.Join(s.evicted, " "); got != "big" {
			t.Errorf("for what was short before the first ended, ended: %s", got)
		}
		for range 3 {
			s.turn(m)
		}
		if got := strings.Join(s.evicted, " "); got != "big small" {
			t.Errorf("ended: %s", got)
		}
		if want := "The node was low on resource: memory. Threshold quantity: 100, available: 1. Container c was using 1Gi, request is 0, has larger consumption of memory. "; s.texts[0] != want {
			t.Errorf("message is %q", s.texts[0])
		}
		if len(s.events) != 1 || s.changes != 1 {
			t.Errorf("told %q, %d changes", s.events, s.changes)
		}
		m.sees(map[Signal]level{memoryAvailable: {500, 1000}})
		time.Sleep(59 * time.Second)
		s.turn(m)
		if memory, disk, _ := m.Pressure(); !memory || disk {
			t.Error("pressure is over too soon, or of another kind")
		}
		time.Sleep(2 * time.Second)
		s.turn(m)
		if memory, _, _ := m.Pressure(); memory || s.changes != 2 {
			t.Error("pressure is told for too long")
		}
	})
}

// A pod that keeps files in memory holds it until they are gone, too; one that was asked to end may have to hurry; one that has ended has nothing.
func TestFilesInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, over := newPod("files", 0, ""), newPod("over", -1, "")
		files.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
		files.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(time.Hour)}
		over.Status.Phase = corev1.PodSucceeded
		s := &some{t: t, pods: []*corev1.Pod{newPod("small", 1, ""), files, over}}
		m := newManager(t, s, "memory.available<100", "", "")
		m.sees(map[Signal]level{memoryAvailable: {1, 1000}})
		if err := os.MkdirAll(m.podDir("files"), 0o700); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.turn(m)
		}
		if got := strings.Join(s.evicted, " "); got != "files" {
			t.Errorf("while its files are there, ended: %s", got)
		}
		if err := os.RemoveAll(m.podDir("files")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s.turn(m)
		}
		if got := strings.Join(s.evicted, " "); got != "files small" {
			t.Errorf("ended: %s", got)
		}
	})
}

// A soft threshold gives time: the node, and the pod.
func TestSoft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &some{t: t, pods: []*corev1.Pod{newPod("big", 0, "")}}
		m := newManager(t, s, "", "memory.available<50%", "memory.available=30s")
		m.sees(map[Signal]level{memoryAvailable: {499, 1000}})
		s.turn(m)
		time.Sleep(29 * time.Second)
		s.turn(m)
		if memory, _, _ := m.Pressure(); !memory || len(s.evicted) != 0 {
			t.Errorf("pressure %t, ended %v", memory, s.evicted)
		}
		time.Sleep(time.Second)
		s.turn(m)
		if len(s.evicted) != 1 || s.graces[0] != 7*time.Second {
			t.Errorf("ended %v within %v", s.evicted, s.graces)
		}
	})
}

// Where a disk is short, images go before pods, and pods are measured before one is chosen.
func TestImagesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &some{t: t, layer: 4096, pods: []*corev1.Pod{newPod("big", 0, "")}, unused: []string{"old"}}
		m := newManager(t, s, DefaultHard, "", "")
		m.sees(map[Signal]level{nodefsAvailable: {1, 1000}})
		s.turn(m)
		if s.unused != nil || len(m.walk) != 0 {
			t.Error("images were not removed first")
		}
		s.turn(m)
		if len(m.walk) != 1 || len(s.evicted) != 0 {
			t.Fatalf("a pod was chosen unmeasured: %v", s.evicted)
		}
		if err := m.round(t.Context(), s, true); err != nil {
			t.Fatal(err)
		}
		s.turn(m)
		if len(s.evicted) != 1 || !strings.Contains(s.texts[0], "resource: ephemeral-storage. ") || !strings.Contains(s.texts[0], "Container c was using 4Ki, request is 0") {
			t.Errorf("ended %v: %q", s.evicted, s.texts)
		}
	})
}

// Only pods with a limit are walked, and end when they exceed it; without a disruption condition, since it is their own doing.
func TestRound(t *testing.T) {
	free, bound := newPod("free", 0, ""), newPod("bound", 0, "")
	bound.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"ephemeral-storage": resource.MustParse("1Ki")}
	s := &some{t: t, layer: 4096, pods: []*corev1.Pod{free, bound}}
	m := newManager(t, s, "", "", "")
	if err := m.round(t.Context(), s, false); err != nil {
		t.Fatal(err)
	}
	if len(s.evicted) != 1 || s.evicted[0] != "bound" || s.texts[0] != "Pod ephemeral local storage usage exceeds the total limit of containers 1Ki. " {
		t.Errorf("ended %v: %q", s.evicted, s.texts)
	}
	if len(m.uses) != 1 {
		t.Errorf("measured %v", m.uses)
	}
}

// The machine itself can be read.
func TestMachine(t *testing.T) {
	s := &some{t: t}
	m := newManager(t, s, "", "", "")
	seen := sight{}
	if err := m.machine(t.Context(), true, seen); err != nil {
		t.Fatal(err)
	}
	for _, signal := range []Signal{memoryAvailable, nodefsAvailable, imagefsAvailable, containerfsAvailable, pidAvailable} {
		if l := seen[signal]; l.left == 0 || l.left > l.all {
			t.Errorf("%s: %+v", signal, l)
		}
	}
	if m.apart() {
		t.Error("images of an unknown folder are on another disk")
	}
}
