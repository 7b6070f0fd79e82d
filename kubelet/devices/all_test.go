package devices

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Devices are told by where they are; those of a plugin that went are held, and cannot be given.
func TestParts(t *testing.T) {
	m := New(t.TempDir(), zap.NewNop())
	at := func(id, health string, nodes ...int64) *api.Device {
		d := &api.Device{ID: id, Health: health}
		for _, n := range nodes {
			d.Topology = &api.TopologyInfo{Nodes: append(d.GetTopology().GetNodes(), &api.NUMANode{ID: n})}
		}
		return d
	}
	p := &plugin{resource: "v/gpu", all: []*api.Device{at("d", api.Healthy, 1), at("a", api.Healthy, 0), at("b", api.Healthy, 1), at("c", api.Unhealthy, 0), at("e", api.Healthy)}}
	m.plugins["v/gpu"] = p
	m.given["p"] = map[string]map[string][]string{"c": {"v/gpu": {"d", "b", "c"}, "v/old": {"x"}}}
	check := func(what string, got []Part, want string) {
		t.Helper()
		if text := fmt.Sprint(got); text != want {
			t.Errorf("%s: %s, want %s", what, text, want)
		}
	}
	check("held", m.Parts("p", "c"), "[{v/gpu [b d] [1]} {v/gpu [c] [0]} {v/old [x] []}]")
	check("held by another", m.Parts("p", "other"), "[]")
	check("all", m.All(), "[{v/gpu [a] [0]} {v/gpu [b d] [1]} {v/gpu [e] []}]")
	p.went = time.Now()
	check("all of one that went", m.All(), "[]")
	check("held of one that went", m.Parts("p", "c"), "[{v/gpu [b d] [1]} {v/gpu [c] [0]} {v/old [x] []}]")
}
