package daemonset

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

// Pauses after the first and the worst of a row of failed pods on one node, as Kubernetes has them.
const (
	firstPause = time.Second
	worstPause = 15 * time.Minute
)

// pauses remember how long failed pods are left alone, so that a pod which a node always refuses is not made without end. They
// grow from one failure of a DaemonSet's pods on a node to the next, and begin anew with a new DaemonSet of that name, a new spec,
// or when none failed for twice the worst. Safe for concurrent use.
type pauses struct {
	mu   sync.Mutex
	sets map[loop.Key]*row // guarded by mu
}

type row struct {
	uid        types.UID
	generation int64
	nodes      map[string]pause
}

type pause struct {
	since  time.Time
	length time.Duration
}

func newPauses() *pauses { return &pauses{sets: map[loop.Key]*row{}} }

// left is how long a failed pod on the node is to be left alone; 0 when it is not.
func (p *pauses) left(k loop.Key, uid types.UID, generation int64, node string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.sets[k]
	if r == nil || r.uid != uid || r.generation != generation {
		return 0
	}
	last := r.nodes[node]
	return max(last.since.Add(last.length).Sub(now), 0)
}

// grow says that a failed pod on the node is given up now.
func (p *pauses) grow(k loop.Key, uid types.UID, generation int64, node string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.sets[k]
	if r == nil || r.uid != uid || r.generation != generation {
		r = &row{uid: uid, generation: generation, nodes: map[string]pause{}}
		p.sets[k] = r
	}
	for n, old := range r.nodes { // nodes come and go, what is known of them must not pile up
		if now.Sub(old.since) > 2*worstPause {
			delete(r.nodes, n)
		}
	}
	length := firstPause
	if last, failed := r.nodes[node]; failed {
		length = min(2*last.length, worstPause)
	}
	r.nodes[node] = pause{now, length}
}

// forget drops what is known of a DaemonSet that is gone.
func (p *pauses) forget(k loop.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sets, k)
}
