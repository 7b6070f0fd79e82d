package node

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/network"
)

func TestConditions(t *testing.T) {
	for _, tc := range []struct {
		name  string
		h     health
		want  string // the conditions that are not as they should be
		ready string // reason and message
	}{
		{"well", health{}, "", "KubeletReady kubelet is posting ready status"},
		{"runtime down", health{runtime: errors.New("dial unix: no such file")}, "Ready", "KubeletNotReady container runtime is down: dial unix: no such file"},
		{"both down", health{runtime: errors.New("a"), network: errors.New("b")}, "Ready", "KubeletNotReady container runtime is down: a; container runtime network not ready: b"},
		{"pressure", health{memory: true, disk: true, pids: true}, "MemoryPressure DiskPressure PIDPressure", "KubeletReady kubelet is posting ready status"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var bad []string
			for _, c := range conditions(tc.h) {
				if (c.Status == corev1.ConditionTrue) != (c.Type == corev1.NodeReady) {
					bad = append(bad, string(c.Type))
				}
				if c.Type == corev1.NodeReady && c.Reason+" "+c.Message != tc.ready {
					t.Errorf("ready: %s %s", c.Reason, c.Message)
				}
				if c.Reason == "" || c.Message == "" {
					t.Errorf("%s says nothing", c.Type)
				}
			}
			if got := strings.Join(bad, " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestBeat(t *testing.T) {
	t0, t1 := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(2000, 0))
	have := beat([]corev1.NodeCondition{{Type: "x.io/mine", Status: "True", LastHeartbeatTime: t0}}, conditions(health{}), t0)
	later := beat(have, conditions(health{memory: true}), t1)
	if len(later) != 5 || later[0].LastHeartbeatTime != t0 {
		t.Errorf("another's condition was touched: %+v", later)
	}
	for _, c := range later[1:] {
		want := t0
		if c.Type == corev1.NodeMemoryPressure {
			want = t1
		}
		if c.LastTransitionTime != want || c.LastHeartbeatTime != t1 {
			t.Errorf("%s: %s, %s", c.Type, c.LastTransitionTime, c.LastHeartbeatTime)
		}
	}
	a, b := &corev1.NodeStatus{Conditions: have}, &corev1.NodeStatus{Conditions: beat(have, conditions(health{}), t1)}
	if !same(a, b) || same(a, &corev1.NodeStatus{Conditions: later}) {
		t.Error("a heartbeat alone counts as a change, or a change does not")
	}
}

func TestFacts(t *testing.T) {
	if f := facts(); f.KernelVersion == "" || f.OSImage == "" || f.BootID == "" || f.KubeletVersion == "" {
		t.Errorf("this machine says of itself: %+v", f)
	}
	n := &Node{cfg: Config{Root: t.TempDir(), MaxPods: 110, ReservedMemory: 1 << 20}}
	var st corev1.NodeStatus
	n.capacity(&st)
	if st.Capacity.Cpu().Value() < 1 || st.Capacity.Memory().Value() < 1<<20 || st.Capacity.Pods().Value() != 110 || st.Capacity.StorageEphemeral().Value() <= 0 ||
		st.Capacity.Memory().Value()-st.Allocatable.Memory().Value() != 1<<20 {
		t.Errorf("capacity %v, allocatable %v", st.Capacity, st.Allocatable)
	}
}

func TestReserve(t *testing.T) {
	for name, tc := range map[string]struct {
		kube, system, cpus string
		want               Reserve
		err                string
	}{
		"nothing":     {},
		"both":        {"cpu=200m,memory=1Gi", "cpu=1, ephemeral-storage=5Gi,pid=100", "", Reserve{1200, 1 << 30, 5 << 30, 100}, ""},
		"processors":  {"cpu=200m,memory=1Gi", "cpu=1", "0-1,1,4", Reserve{3000, 1 << 30, 0, 0}, ""},
		"unknown":     {"pods=3", "", "", Reserve{}, `--kube-reserved value failed to parse: cannot reserve "pods" resource`},
		"negative":    {"", "cpu=-1", "", Reserve{}, `--system-reserved value failed to parse: resource quantity for "cpu" cannot be negative: -1`},
		"no number":   {"", "memory=much", "", Reserve{}, `--system-reserved value failed to parse: failed to parse quantity "much"`},
		"no name":     {"1Gi", "", "", Reserve{}, `--kube-reserved value failed to parse: "1Gi": want NAME=AMOUNT`},
		"bad range":   {"", "", "3-1", Reserve{}, `--reserved-cpus "3-1": "3-1" is no processor, nor a range of them`},
		"huge ranges": {"", "", "0-99999999", Reserve{}, `--reserved-cpus "0-99999999"`},
	} {
		got, err := ReadReserve(tc.kube, tc.system, tc.cpus)
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if left, err := (Reserve{CPU: 100, Memory: 1 << 20, PIDs: 10}).Left(); err != nil || left.CPU <= 0 || left.Memory != memTotal()-1<<20 || left.PIDs != maxPIDs()-10 {
		t.Errorf("left %+v, %v", left, err)
	}
	if _, err := (Reserve{CPU: 1 << 40}).Left(); err == nil {
		t.Error("more is reserved than there is, and nobody says so")
	}
}

func TestShare(t *testing.T) {
	cfg := &Config{
		MaxPods: 30, Reserve: Reserve{CPU: 250, Memory: 1 << 30, Storage: 1 << 30}, ReservedMemory: 100 << 20,
		ReservedStorage: func(all uint64) int64 { return int64(all / 10) },
	}
	m := machine{cpus: 4, memory: 8 << 30, storage: 100 << 30, pages: map[int64]int64{2 << 20: 512, 1 << 30: 0}}
	capacity, allocatable := m.share(cfg)
	text := func(list corev1.ResourceList) string {
		var words []string
		for _, name := range slices.Sorted(maps.Keys(list)) {
			q := list[name]
			words = append(words, string(name)+"="+q.String())
		}
		return strings.Join(words, " ")
	}
	if got, want := text(capacity), "cpu=4 ephemeral-storage=100Gi hugepages-1Gi=0 hugepages-2Mi=1Gi memory=8Gi pods=30"; got != want {
		t.Errorf("capacity %s, want %s", got, want)
	}
	if got, want := text(allocatable), "cpu=3750m ephemeral-storage=89Gi hugepages-1Gi=0 hugepages-2Mi=1Gi memory=6044Mi pods=30"; got != want {
		t.Errorf("allocatable %s, want %s", got, want)
	}
}

// TestContribute: other rooms have the last word on the status.
func TestContribute(t *testing.T) {
	n := New(Config{Name: "n1", Root: t.TempDir()}, Parts{Nodes: cache.NewSharedIndexInformer(nil, &corev1.Node{}, 0, nil), Network: still{}, Runtime: still{}, Images: still{},
		Contribute: []func(*corev1.Node){
			func(n *corev1.Node) { n.Status.Allocatable["x.io/thing"] = n.Status.Capacity[corev1.ResourceCPU] },
			func(n *corev1.Node) { delete(n.Status.Allocatable, corev1.ResourceCPU) },
		}}, zap.NewNop())
	got := n.wish(t.Context())
	if len(got.Status.Images) != mostImages || got.Status.Images[0].SizeBytes != 60 || len(got.Status.Images[0].Names) != mostNames {
		t.Errorf("%d images, the first %+v", len(got.Status.Images), got.Status.Images[0])
	}
	if thing := got.Status.Allocatable["x.io/thing"]; thing.Value() < 1 || !got.Status.Allocatable.Cpu().IsZero() {
		t.Errorf("allocatable %v", got.Status.Allocatable)
	}
}

type still struct{}

func (still) SetPodCIDRs(context.Context, []netip.Prefix) error { return nil }
func (still) SetRoutes(context.Context, []network.Peer) error   { return nil }
func (still) Ready() error                                      { return nil }
func (still) Version(context.Context) (string, error)           { return "containerd://1", nil }

func (still) List(context.Context) (list []images.Image, err error) {
	for size := range int64(60) {
		list = append(list, images.Image{Size: 60 - size, Digests: []string{"a@1", "b@1", "c@1"}, Names: []string{"a", "b", "c"}})
	}
	return list, nil
}
