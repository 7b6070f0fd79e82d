package devices

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Part is devices of one resource that are near the same memory.
type Part struct {
	Resource string
	IDs      []string
	// Nodes are the NUMA nodes they are near; none where the plugin does not say.
	Nodes []int64
}

// Parts are the devices that a pod's container holds, sorted.
func (m *Manager) Parts(uid types.UID, container string) []Part {
	var out []Part
	held := m.Held(uid, container)
	for _, name := range slices.Sorted(maps.Keys(held)) {
		out = append(out, m.plugin(name).parts(name, held[name])...)
	}
	return out
}

// All are the devices that can be given, whoever has them now, sorted.
func (m *Manager) All() []Part {
	m.mu.Lock()
	plugins := maps.Clone(m.plugins)
	m.mu.Unlock()
	var out []Part
	for _, name := range slices.Sorted(maps.Keys(plugins)) {
		out = append(out, plugins[name].parts(name, plugins[name].healthy())...)
	}
	return out
}

func (m *Manager) plugin(resource string) *plugin {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plugins[resource]
}

// parts sorts devices by where they are; nothing is known of those of a plugin that is nil.
func (p *plugin) parts(resource string, ids []string) []Part {
	near := map[string][]int64{}
	if p != nil {
		p.list(func(d *api.Device) bool {
			for _, n := range d.GetTopology().GetNodes() {
				near[d.ID] = append(near[d.ID], n.ID)
			}
			return false
		})
	}
	var out []Part
	for _, id := range slices.Sorted(slices.Values(ids)) {
		i := slices.IndexFunc(out, func(o Part) bool { return slices.Equal(o.Nodes, near[id]) })
		if i < 0 {
			i, out = len(out), append(out, Part{Resource: resource, Nodes: near[id]})
		}
		out[i].IDs = append(out[i].IDs, id)
	}
	return out
}
