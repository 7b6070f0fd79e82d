package attachdetach

import (
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

// memory is what the API does not keep. All of it may be lost: a restart waits for unmounting anew, and may repeat an event.
type memory struct {
	mu      sync.Mutex // guards all below
	nodes   map[string]*nodeMemory
	made    map[string]map[string]string // by volume: the nodes to which we have attached it and the cache has not seen, with the version
	version func() string                // up to where the cache of attachments has seen
}

// nodeMemory is of one node.
type nodeMemory struct {
	inUse   []corev1.UniqueVolumeName // what it said last; nil: it was never seen
	since   map[types.UID]time.Time   // when an attachment was first seen to be wanted by none
	deleted map[types.UID]bool        // attachments whose deletion was asked for
	told    map[string]string         // by attachment: the complaint that its pods were told
	counts  map[count]int             // what the metric says of it
}

type count struct{ driver, state string }

func newMemory(version func() string) *memory {
	return &memory{nodes: map[string]*nodeMemory{}, made: map[string]map[string]string{}, version: version}
}

// of is a node's, which only the worker at that node uses.
func (m *memory) of(node string) *nodeMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[node]
	if n == nil {
		n = &nodeMemory{since: map[types.UID]time.Time{}, deleted: map[types.UID]bool{}, told: map[string]string{}, counts: map[count]int{}}
		m.nodes[node] = n
	}
	return n
}

// forget drops a node that is gone and has nothing attached.
func (m *memory) forget(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, node)
}

// reserve takes a volume for a node, unless another has it: by the cache, which others tells once nobody else can take it, or by what
// the cache has not seen yet. It says who has it.
func (m *memory) reserve(volume, node string, others func() []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.version() // before the cache is read: what it has come to by then, others shows
	have := others()
	for n, version := range m.made[volume] {
		switch {
		case version != "" && loop.Reached(seen, version):
			delete(m.made[volume], n) // what is left of it others have told
		case n != node:
			have = append(have, n)
		}
	}
	if len(have) > 0 {
		return have
	}
	if m.made[volume] == nil {
		m.made[volume] = map[string]string{}
	}
	m.made[volume][node] = ""
	return nil
}

// attached notes how a reservation ended: with the version of the attachment, or, empty, with none.
func (m *memory) attached(volume, node, version string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if version != "" {
		m.made[volume][node] = version
		return
	}
	delete(m.made[volume], node)
	if len(m.made[volume]) == 0 {
		delete(m.made, volume)
	}
}

// keep forgets all of a node's attachments but these.
func (n *nodeMemory) keep(have map[string]*attached, wants map[string]*want) {
	alive := map[types.UID]bool{}
	for _, a := range have {
		alive[a.UID] = true
	}
	maps.DeleteFunc(n.since, func(u types.UID, _ time.Time) bool { return !alive[u] })
	maps.DeleteFunc(n.deleted, func(u types.UID, _ bool) bool { return !alive[u] })
	maps.DeleteFunc(n.told, func(name, _ string) bool { return wants[name] == nil })
}
