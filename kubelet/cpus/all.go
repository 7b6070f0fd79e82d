package cpus

import (
	"k8s.io/apimachinery/pkg/types"
)

// Of are the processors that a container of a pod has alone, ascending; none of one that shares them.
func (m *Manager) Of(uid types.UID, container string) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.given[uid][container].List()
}

// All are the processors that containers can be given, whoever has them now, ascending; none where no container gets any alone.
func (m *Manager) All() []int { return m.machine.all.Difference(m.reserved).List() }
