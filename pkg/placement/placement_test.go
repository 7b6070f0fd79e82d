package placement_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/placement"
)

func TestFits(t *testing.T) {
	have := placement.Resources{MilliCPU: 2000, Memory: 1 << 30, Pods: 3, Others: map[corev1.ResourceName]int64{"a/gpu": 1}}
	for _, tc := range []struct {
		name       string
		want, used placement.Resources
		pods       int
		reasons    []string
	}{
		{"empty node", placement.Resources{MilliCPU: 2000, Memory: 1 << 30}, placement.Resources{}, 0, nil},
		{"cpu short by one", placement.Resources{MilliCPU: 1001}, placement.Resources{MilliCPU: 1000}, 1, []string{"Insufficient cpu"}},
		{"nothing asked of an overcommitted node", placement.Resources{}, placement.Resources{MilliCPU: 9999, Memory: 9 << 30}, 1, nil},
		{"all at once", placement.Resources{MilliCPU: 1, Memory: 1, EphemeralStorage: 1, Others: map[corev1.ResourceName]int64{"a/gpu": 2, "b/fpga": 1}},
			placement.Resources{MilliCPU: 2000, Memory: 1 << 30}, 3,
			[]string{"Too many pods", "Insufficient cpu", "Insufficient memory", "Insufficient ephemeral-storage", "Insufficient a/gpu", "Insufficient b/fpga"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, i := range placement.Fits(tc.want, tc.used, have, tc.pods) {
				got = append(got, i.Reason())
			}
			if !slices.Equal(got, tc.reasons) {
				t.Errorf("got %q, want %q", got, tc.reasons)
			}
		})
	}
}

func TestAddAndSubCancel(t *testing.T) {
	r := placement.FromList(corev1.ResourceList{
		"cpu": resource.MustParse("1.5"), "memory": resource.MustParse("1Ki"), "pods": resource.MustParse("5"),
		"ephemeral-storage": resource.MustParse("7"), "a/gpu": resource.MustParse("2"), "zero/zero": resource.MustParse("0"),
	})
	if r.MilliCPU != 1500 || r.Memory != 1024 || r.Pods != 5 || r.EphemeralStorage != 7 || r.Of("a/gpu") != 2 || len(r.Others) != 1 {
		t.Fatalf("read %+v", r)
	}
	sum := placement.Resources{}
	sum.Add(r)
	sum.Add(r)
	sum.Sub(r)
	sum.Sub(r)
	if sum.MilliCPU != 0 || sum.Memory != 0 || sum.Pods != 0 || len(sum.Others) != 0 {
		t.Errorf("left over: %+v", sum)
	}
}

func TestRequiredAffinity(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "a", "disk": "ssd"}}}
	terms := func(reqs ...corev1.NodeSelectorRequirement) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: reqs}}}}}
	}
	for _, tc := range []struct {
		name     string
		selector map[string]string
		affinity *corev1.Affinity
		want     bool
	}{
		{"nothing required", nil, nil, true},
		{"selector matches", map[string]string{"zone": "a"}, nil, true},
		{"selector differs", map[string]string{"zone": "b"}, nil, false},
		{"affinity in", nil, terms(corev1.NodeSelectorRequirement{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"a", "b"}}), true},
		{"affinity absent key", nil, terms(corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpDoesNotExist}), false},
		{"selector and affinity are anded", map[string]string{"zone": "b"}, terms(corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpExists}), false},
		{"by name", nil, &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}}}}}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: tc.selector, Affinity: tc.affinity}}
			if got, err := placement.MatchesAffinity(p, node); err != nil || got != tc.want {
				t.Errorf("got %v, %v; want %v", got, err, tc.want)
			}
		})
	}
}

func TestTaints(t *testing.T) {
	taint := func(key string, effect corev1.TaintEffect) corev1.Taint {
		return corev1.Taint{Key: key, Effect: effect}
	}
	exists := func(key string, effect corev1.TaintEffect) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
	}
	for _, tc := range []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		repelledBy  string
	}{
		{"no taint", nil, nil, ""},
		{"prefer only", []corev1.Taint{taint("a", corev1.TaintEffectPreferNoSchedule)}, nil, ""},
		{"not tolerated", []corev1.Taint{taint("a", corev1.TaintEffectNoSchedule)}, nil, "a"},
		{"second not tolerated", []corev1.Taint{taint("a", corev1.TaintEffectNoSchedule), taint("b", corev1.TaintEffectNoExecute)}, []corev1.Toleration{exists("a", "")}, "b"},
		{"other effect tolerated", []corev1.Taint{taint("a", corev1.TaintEffectNoSchedule)}, []corev1.Toleration{exists("a", corev1.TaintEffectNoExecute)}, "a"},
		{"everything tolerated", []corev1.Taint{taint("a", corev1.TaintEffectNoSchedule), taint("b", corev1.TaintEffectNoExecute)}, []corev1.Toleration{exists("", "")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if r := placement.Repels(tc.taints, tc.tolerations); r != nil {
				got = r.Key
			}
			if got != tc.repelledBy {
				t.Errorf("repelled by %q, want %q", got, tc.repelledBy)
			}
		})
	}
}

func TestTolerationSeconds(t *testing.T) {
	taint := func(key string) corev1.Taint { return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute} }
	stay := func(key string, sec *int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, TolerationSeconds: sec}
	}
	five, nine := int64(5), int64(9)
	for _, tc := range []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		seconds     int64
		forever, ok bool
	}{
		{"no taint", nil, nil, 0, true, true},
		{"not tolerated", []corev1.Taint{taint("a")}, nil, 0, false, false},
		{"forever", []corev1.Taint{taint("a")}, []corev1.Toleration{stay("a", nil)}, 0, true, true},
		{"the shortest", []corev1.Taint{taint("a"), taint("b")}, []corev1.Toleration{stay("a", &nine), stay("b", &five)}, 5, false, true},
		{"bounded and forever", []corev1.Taint{taint("a"), taint("b")}, []corev1.Toleration{stay("a", nil), stay("b", &five)}, 5, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, f, ok := placement.TolerationSeconds(tc.taints, tc.tolerations)
			if s != tc.seconds || f != tc.forever || ok != tc.ok {
				t.Errorf("got %d %v %v", s, f, ok)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	port := func(ip string, proto corev1.Protocol, n int32) []placement.HostPort {
		return []placement.HostPort{{Address: ip, Protocol: proto, Port: n}}
	}
	var used placement.Ports
	used.Add(port("10.0.0.1", "TCP", 80))
	used.Add(port("", "UDP", 53))
	for _, tc := range []struct {
		name string
		want []placement.HostPort
		hit  bool
	}{
		{"none wanted", nil, false},
		{"same", port("10.0.0.1", "TCP", 80), true},
		{"other address", port("10.0.0.2", "TCP", 80), false},
		{"all addresses", port("0.0.0.0", "TCP", 80), true},
		{"other protocol", port("", "UDP", 80), false},
		{"one of all", port("10.9.9.9", "UDP", 53), true},
		{"protocol left out is TCP", port("10.0.0.1", "", 80), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := used.Conflict(tc.want); got != tc.hit {
				t.Errorf("got %v", got)
			}
		})
	}
	copied := used.Clone()
	used.Remove(port("0.0.0.0", "UDP", 53))
	if used.Conflict(port("", "UDP", 53)) || !copied.Conflict(port("", "UDP", 53)) {
		t.Error("removal must free the port here and not in the copy")
	}
}
