package nodelifecycle

import (
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// signs remembers when each node last gave a sign of life, by our own clock. Safe for concurrent use.
type signs struct {
	mu        sync.Mutex
	nodes     map[string]*sign // guarded by mu
	blindness time.Time        // guarded by mu: when the API server last could not be asked
	changes   int              // guarded by mu: how often it was decided otherwise who is silent
}

type sign struct {
	uid       types.UID
	renewed   metav1.MicroTime       // as the node wrote it; only whether it changes counts
	heartbeat metav1.Time            // of its Ready condition, for nodes without a Lease
	seen      time.Time              // when we saw either change
	silent    bool                   // as last decided
	ready     corev1.ConditionStatus // as last seen
}

func newSigns() *signs { return &signs{nodes: map[string]*sign{}} }

// look takes in what a node wrote and returns how much of its grace is left. A node met for the first time has all of it: we
// cannot know how long it has been silent. So has every node from the moment when the API server could be asked again.
func (s *signs) look(node *corev1.Node, lease *coordinationv1.Lease, grace time.Duration, now time.Time) time.Duration {
	var renewed metav1.MicroTime
	if lease != nil && lease.Spec.RenewTime != nil {
		renewed = *lease.Spec.RenewTime
	}
	var heartbeat metav1.Time
	if c := find(node, corev1.NodeReady); c != nil && c.Reason != "NodeStatusUnknown" && c.Reason != "NodeStatusNeverUpdated" {
		heartbeat = c.LastHeartbeatTime
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.nodes[node.Name]
	if g == nil {
		g = &sign{uid: node.UID, renewed: renewed, heartbeat: heartbeat, seen: now}
		if c := find(node, corev1.NodeReady); c != nil && c.Reason == "NodeStatusUnknown" {
			g.seen = now.Add(-grace) // found silent by a former term: until it gives a sign it stays so
			g.silent = true
			s.changes++
		}
		s.nodes[node.Name] = g
	} else if renewed.After(g.renewed.Time) || heartbeat.After(g.heartbeat.Time) {
		g.renewed, g.heartbeat, g.seen = renewed, heartbeat, now
	}
	since := g.seen
	if s.blindness.After(since) && !g.silent {
		since = s.blindness
	}
	return grace - now.Sub(since)
}

func (s *signs) blind(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blindness = now
}

// silent says what was last decided of a node.
func (s *signs) silent(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.nodes[node]
	return g != nil && g.silent
}

func (s *signs) decide(node string, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.nodes[node]; g != nil && g.silent != silent {
		g.silent = silent
		s.changes++
	}
}

// turns is how often it was decided otherwise who is silent.
func (s *signs) turns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// ready notes a node's readiness and returns the former one.
func (s *signs) ready(node string, now corev1.ConditionStatus) (was corev1.ConditionStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.nodes[node]; g != nil {
		was, g.ready = g.ready, now
	}
	return was
}

// knows says whether a node of that name was met.
func (s *signs) knows(node *corev1.Node) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[node.Name] != nil
}

// forget drops a node, and returns the UID it had when it was met.
func (s *signs) forget(node string) (uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.nodes[node]; g != nil {
		if uid = g.uid; g.silent {
			s.changes++
		}
	}
	delete(s.nodes, node)
	return uid
}
