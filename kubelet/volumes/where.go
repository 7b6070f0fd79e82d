package volumes

import "k8s.io/apimachinery/pkg/types"

// note remembers where a pod's volumes are.
func (m *Manager) note(pv *podVolumes, made map[string]Volume) {
	paths := make(map[string]string, len(made))
	for name, v := range made {
		if v.Path != "" {
			paths[name] = v.Path
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	pv.paths = paths
}

// Where says where a pod's volumes are on the node, by their names in the pod: those that are set up and no block devices. The map is not to be changed.
func (m *Manager) Where(uid types.UID) map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pv := m.pods[uid]; pv != nil {
		return pv.paths
	}
	return nil
}
