package attachdetach

import (
	"maps"
	"slices"
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
	made    map[string]map[string]hold // by volume: the nodes to which we attach it, until the cache has seen that
	version func() string              // up to where the cache of attachments has seen
	free    map[string]bool            // volumes that a node gave up without having been attached to it, which no event tells

	freed chan struct{} // has something to read when free has; for one reader
}

// hold is that of one node on a volume: the attachment is being made, was made, or nobody knows.
type hold struct {
	name    string    // of the attachment
	version string    // of the attachment, once it was made
	doubt   time.Time // since when it is not known whether it was made; zero: it is
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
	return &memory{nodes: map[string]*nodeMemory{}, made: map[string]map[string]hold{}, version: version, free: map[string]bool{}, freed: make(chan struct{}, 1)}
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

// reserve takes a volume for a node, by the name of its attachment, unless another has it: by the cache, which others tells once nobody
// else can take it, or by what the cache has not seen yet. It says who has it.
func (m *memory) reserve(volume, node, name string, others func() []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.version() // before the cache is read: what it has come to by then, others shows
	have := others()
	for n, h := range m.made[volume] {
		switch {
		case h.version != "" && loop.Reached(seen, h.version):
			delete(m.made[volume], n) // what is left of it others have told
		case n != node:
			have = append(have, n)
		}
	}
	if len(m.made[volume]) == 0 {
		delete(m.made, volume)
	}
	if len(have) > 0 {
		return have
	}
	if m.made[volume] == nil {
		m.made[volume] = map[string]hold{}
	}
	if _, again := m.made[volume][node]; !again {
		m.made[volume][node] = hold{name: name}
	}
	return nil
}

// attached notes how a reservation ended: with the version of the attachment; with none; or so that nobody knows, which it stays then
// until it is tried again or asked for. What is known of a former try is not forgotten for a later one that failed.
func (m *memory) attached(volume, node, version string, unknown bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.made[volume][node]
	switch {
	case version != "":
		m.made[volume][node] = hold{name: h.name, version: version}
	case unknown && h.version == "":
		m.made[volume][node] = hold{name: h.name, doubt: now}
	case h.version == "" && h.doubt.IsZero():
		m.dropLocked(volume, node)
		m.freeLocked(volume)
	}
}

// seen forgets a hold on a volume whose attachment to the node is in the cache.
func (m *memory) seen(volume, node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropLocked(volume, node)
}

// absent ends a doubt: there is no attachment.
func (m *memory) absent(volume, node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropLocked(volume, node)
	m.freeLocked(volume)
}

// doubts are a node's holds of which nobody knows, by volume.
func (m *memory) doubts(node string) map[string]hold {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all map[string]hold
	for volume, nodes := range m.made {
		if h := nodes[node]; !h.doubt.IsZero() {
			if all == nil {
				all = map[string]hold{}
			}
			all[volume] = h
		}
	}
	return all
}

func (m *memory) dropLocked(volume, node string) {
	delete(m.made[volume], node)
	if len(m.made[volume]) == 0 {
		delete(m.made, volume)
	}
}

func (m *memory) freeLocked(volume string) {
	m.free[volume] = true
	select {
	case m.freed <- struct{}{}:
	default:
	}
}

// takeFree are the volumes that were freed since it was asked last.
func (m *memory) takeFree() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Sorted(maps.Keys(m.free))
	clear(m.free)
	return all
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
