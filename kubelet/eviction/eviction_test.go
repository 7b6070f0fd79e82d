package eviction

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/logging"
)

func newPod(name string, priority int32, request string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{}}}}
	if request != "" {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"memory": resource.MustParse(request)}
	}
	return p
}

func TestRank(t *testing.T) {
	const mi = 1 << 20
	got := ""
	for _, c := range rank([]candidate{
		{newPod("within", 0, ""), 10 * mi, 20 * mi}, {newPod("above-little", 0, ""), 30 * mi, 20 * mi}, {newPod("above-much", 0, ""), 90 * mi, 20 * mi},
		{newPod("above-important", 1000, ""), 900 * mi, 20 * mi}, {newPod("within-more-left", 0, ""), mi, 20 * mi},
	}) {
		got += " " + c.pod.Name
	}
	if want := " above-much above-little above-important within within-more-left"; got != want {
		t.Errorf("order is%s, want%s", got, want)
	}
}

func TestShortages(t *testing.T) {
	cfg := Config{MemoryBytes: 100, DiskPart: 0.1, InodesPart: 0.1, PIDPart: 0.1}
	well := sight{memory: 100, memoryAll: 1000, disk: 100, diskAll: 1000, inodes: 100, inodesAll: 1000, pids: 100, pidsAll: 1000}
	for _, tc := range []struct {
		name string
		edit func(*sight)
		want string
	}{
		{"well", func(*sight) {}, ""},
		{"memory", func(s *sight) { s.memory = 99 }, "memory"},
		{"disk", func(s *sight) { s.disk = 99 }, "ephemeral-storage"},
		{"a disk that counts no inodes", func(s *sight) { s.inodes, s.inodesAll = 0, 0 }, ""},
		{"all", func(s *sight) { s.memory, s.disk, s.inodes, s.pids = 0, 0, 0, 0 }, "memory ephemeral-storage inodes pids"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := well
			tc.edit(&s)
			var got []string
			for _, x := range shortages(cfg, s) {
				got = append(got, string(x.resource))
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// some are the pods and groups of a node: strict, since nothing else is known.
type some struct {
	t       *testing.T
	pods    []*corev1.Pod
	evicted []string
	unused  []string
	about   string // what evictions are for
}

func (s *some) Pods() []*corev1.Pod { return s.pods }
func (s *some) Evict(uid types.UID, reason, message string, _ time.Duration) {
	if reason != "Evicted" || !strings.Contains(message, s.about) {
		s.t.Errorf("%s: %s", reason, message)
	}
	s.evicted = append(s.evicted, string(uid))
	for _, p := range s.pods {
		if p.UID == uid {
			p.Status.Phase = corev1.PodFailed
		}
	}
}
func (s *some) PodPath(_ corev1.PodQOSClass, uid string) string { return uid }
func (s *some) Stats(path string) (cgroups.Stats, error) {
	if path == "small" {
		return cgroups.Stats{WorkingSet: 1}, nil
	}
	return cgroups.Stats{WorkingSet: 1 << 30}, nil
}

// Pods go one by one while memory is short, critical ones never; pressure is told for a while after.
func TestUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &some{t: t, about: "memory", pods: []*corev1.Pod{newPod("small", 0, ""), newPod("big", 0, ""), newPod("critical", 2000001000, "")}}
		m := New(Config{Root: t.TempDir(), MemoryBytes: 100, PressureLasts: time.Minute}, Parts{Groups: s, Images: s, Runtime: s}, logging.ForTest(t))
		left := uint64(1)
		m.look = func(string) (sight, error) { return sight{memory: left, memoryAll: 1000}, nil }
		for range 4 {
			if err := m.turn(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(s.evicted, " "); got != "big small" {
			t.Errorf("ended: %s", got)
		}
		left = 500
		time.Sleep(59 * time.Second)
		if err := m.turn(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if memory, disk, _ := m.Pressure(); !memory || disk {
			t.Error("pressure is over too soon, or of another kind")
		}
		time.Sleep(2 * time.Second)
		if memory, _, _ := m.Pressure(); memory {
			t.Error("pressure is told for too long")
		}
	})
}

func (s *some) List(context.Context) (containers.Listing, error) {
	return containers.Listing{Containers: []containers.Container{{ImageID: "used"}}}, nil
}

func (s *some) RemoveUnused(_ context.Context, inUse map[string]bool) ([]string, error) {
	if len(inUse) != 1 || !inUse["used"] {
		s.t.Errorf("in use: %v", inUse)
	}
	freed := s.unused
	s.unused = nil
	return freed, nil
}

// Where the disk is short, images go before pods.
func TestImagesGoFirst(t *testing.T) {
	s := &some{t: t, about: "ephemeral-storage", pods: []*corev1.Pod{newPod("big", 0, "")}, unused: []string{"old"}}
	m := New(Config{Root: t.TempDir(), DiskPart: 0.1}, Parts{Groups: s, Images: s, Runtime: s}, logging.ForTest(t))
	m.look = func(string) (sight, error) { return sight{disk: 1, diskAll: 1000}, nil }
	for want := range 2 {
		if err := m.turn(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if len(s.evicted) != want || s.unused != nil {
			t.Errorf("after look %d: ended %v", want+1, s.evicted)
		}
	}
}

func TestLook(t *testing.T) {
	s, err := look(t.TempDir())
	if err != nil || s.memory == 0 || s.memory > s.memoryAll || s.disk == 0 || s.disk > s.diskAll || s.pids == 0 || s.pids > s.pidsAll {
		t.Errorf("this machine has %+v, %v", s, err)
	}
}
