package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

func TestRoutes(t *testing.T) {
	node := func(name, cidr string, addrs ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr}}
		for _, a := range addrs {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		return n
	}
	got := fmt.Sprint(routes("n1", []*corev1.Node{
		node("n3", "10.244.3.0/24", "fd00::3", "198.18.0.13"), node("n1", "10.244.1.0/24", "198.18.0.11"), node("n2", "10.244.2.0/24", "198.18.0.12"),
		node("new", ""), node("nowhere", "10.244.9.0/24"),
	}))
	if want := "[{10.244.2.0/24 198.18.0.12} {10.244.3.0/24 198.18.0.13}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
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
