// Package shutdown ends the pods of a machine that goes down: the important ones last, each told and counted, and the machine waits for them.
//
// main runs it. It holds a lock with which logind delays the shutdown (logind.go). When one is announced the node says that it is not ready, new pods are
// refused, and the pods are ended group by group, those with the lowest priority first (groups.go); then the lock is given up. What always holds: the
// machine waits no longer than the grace periods; a shutdown that is called off makes the node ready again, but brings no pod back.
//
// Where nothing announces shutdowns (no D-Bus, no logind) that is said once, and everything else goes on.
package shutdown

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// What pods, node and events say.
const (
	terminated        = "Terminated"
	terminatedMessage = "Pod was terminated in response to imminent node shutdown."
	refused           = "NodeShutdown"
	refusedMessage    = "Pod was rejected as the node is shutting down."
	nodeMessage       = "node is shutting down"
)

// Watcher is who announces shutdowns and can delay them.
type Watcher interface {
	// Delay is how long a shutdown can be delayed at most; Extend asks for more.
	Delay() (time.Duration, error)
	Extend(time.Duration) error
	// Inhibit delays shutdowns until release is called.
	Inhibit() (release func() error, err error)
	// Preparing says whether a shutdown has begun already.
	Preparing() (bool, error)
	// Announcements says true when a shutdown begins and false when it is called off; it is closed when the connection is lost.
	Announcements() (<-chan bool, error)
	Close() error
}

// Pods are those of this node.
type Pods interface {
	Pods() []*corev1.Pod
	// Evict ends a pod within the grace period.
	Evict(uid types.UID, reason, message string, grace time.Duration, disruption string)
	// Ended says whether the pod has ended for good, and whoever must know it does.
	Ended(uid types.UID) bool
}

// Recorder tells users what happened.
type Recorder interface {
	Eventf(object runtime.Object, kind, reason, format string, args ...any)
}

// Config of the shutdown.
type Config struct {
	Node   string
	Groups []Group // lowest priority first; none: shutdowns are not watched for
}

// Parts are what it needs.
type Parts struct {
	// Dial connects to the one who announces.
	Dial   func() (Watcher, error)
	Events Recorder
}

const (
	redial = 30 * time.Second       // after a connection that failed
	poll   = 100 * time.Millisecond // how often pods that end are looked at
)

// Manager watches for shutdowns.
type Manager struct {
	cfg   Config // set once, as all in this group
	parts Parts
	log   *zap.Logger

	changed func() // owned by Run

	mu   sync.Mutex
	down bool // guarded by mu
}

// New stores what it is given.
func New(cfg Config, parts Parts, log *zap.Logger) *Manager {
	return &Manager{cfg: cfg, parts: parts, log: log.Named("shutdown")}
}

// ShuttingDown says whether the machine is going down.
func (m *Manager) ShuttingDown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down
}

func (m *Manager) set(down bool) {
	m.mu.Lock()
	news := m.down != down
	m.down = down
	m.mu.Unlock()
	if news {
		m.changed()
	}
}

// Admit refuses all pods while the machine goes down; see pods.Guard.
func (m *Manager) Admit(*corev1.Pod) (string, string) {
	if m.ShuttingDown() {
		return refused, refusedMessage
	}
	return "", ""
}

// Contribute says on the Node that the machine goes down; see node.Parts.
func (m *Manager) Contribute(n *corev1.Node) {
	if !m.ShuttingDown() {
		return
	}
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady {
			text := nodeMessage
			if c.Status != corev1.ConditionTrue {
				text = c.Message + "; " + text
			}
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, "KubeletNotReady", text
		}
	}
}

// Run watches until ctx ends; changed is called when ShuttingDown says something else.
func (m *Manager) Run(ctx context.Context, pods Pods, changed func()) error {
	m.changed = changed
	said := false
	for total(m.cfg.Groups) > 0 {
		err := m.watch(ctx, pods)
		if ctx.Err() != nil {
			return nil
		}
		if !said {
			m.log.Warn("no graceful shutdown of this node: nobody announces it", zap.Error(err))
		}
		said = true
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(redial):
		}
	}
	<-ctx.Done()
	return nil
}

// watch serves one connection until it is lost or ctx ends.
func (m *Manager) watch(ctx context.Context, pods Pods) (err error) {
	w, err := m.parts.Dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := m.extend(w); err != nil {
		return err
	}
	news, err := w.Announcements()
	if err != nil {
		return fmt.Errorf("listening for shutdowns: %w", err)
	}
	under, err := w.Preparing() // what was announced, or called off, while nobody listened
	if err != nil {
		return fmt.Errorf("asking for a shutdown under way: %w", err)
	}
	var lock func() error // gives it up; nil: it is not held
	hold := func() (err error) {
		if lock != nil {
			return nil
		}
		if lock, err = w.Inhibit(); err != nil {
			return fmt.Errorf("delaying shutdowns: %w", err)
		}
		return nil
	}
	release := func() error {
		held := lock
		lock = nil
		if held == nil {
			return nil
		}
		return held()
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := hold(); err != nil {
		if !under {
			return err
		}
		m.log.Warn("pods end without the machine's waiting for them", zap.Error(err))
	}
	m.log.Info("shutdowns of this machine are delayed for its pods", zap.Duration("by", total(m.cfg.Groups)))
	var ended chan struct{} // closed when all pods have ended, or their time is over
	stop := func() {}
	defer func() { stop() }()
	begin := func() {
		m.log.Info("a shutdown begins")
		m.set(true)
		m.parts.Events.Eventf(&corev1.ObjectReference{Kind: "Node", Name: m.cfg.Node, UID: types.UID(m.cfg.Node)}, corev1.EventTypeNormal, refused,
			"Shutdown manager detected shutdown event")
		own, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		ended, stop = done, func() { cancel(); <-done }
		go func() {
			defer close(done)
			m.end(own, pods)
		}()
	}
	if under {
		begin()
	} else {
		m.set(false)
	}
	lost := errors.New("the connection is lost")
	for {
		select {
		case <-ctx.Done():
			return nil
		case down, ok := <-news:
			switch {
			case !ok && ended == nil:
				return lost
			case !ok: // pods end as announced: the lock lives as long as its file, not as the connection
				news = nil
			case down && !m.ShuttingDown():
				begin()
			case !down: // it was called off
				m.log.Info("the shutdown is called off")
				m.set(false)
				stop()
				ended, stop = nil, func() {}
				if err := hold(); err != nil {
					return err
				}
			}
		case <-ended:
			ended, stop = nil, func() {}
			if err := release(); err != nil {
				m.log.Warn("letting the shutdown go on", zap.Error(err))
			}
			if news == nil {
				return lost
			}
		}
	}
}

// extend sees to it that a shutdown can be delayed for long enough; where it cannot, pods have less time.
func (m *Manager) extend(w Watcher) error {
	want := total(m.cfg.Groups)
	have, err := w.Delay()
	if err != nil {
		return fmt.Errorf("asking how long a shutdown can be delayed: %w", err)
	}
	if have >= want {
		return nil
	}
	if err := w.Extend(want); err != nil {
		m.log.Warn("a shutdown cannot be delayed for as long as pods may take", zap.Duration("by", have), zap.Duration("wanted", want), zap.Error(err))
	}
	return nil
}

// end ends the pods, group by group, each within its time.
func (m *Manager) end(ctx context.Context, pods Pods) {
	for i, list := range sorted(m.cfg.Groups, pods.Pods()) {
		if len(list) == 0 || ctx.Err() != nil {
			continue
		}
		g := m.cfg.Groups[i]
		m.log.Info("ending pods", zap.Int("pods", len(list)), zap.Int32("priority", g.Priority), zap.Duration("within", g.Grace))
		for _, p := range list {
			pods.Evict(p.UID, terminated, terminatedMessage, graceOf(p, g), terminatedMessage)
		}
		m.await(ctx, pods, list, g.Grace)
	}
}

func (m *Manager) await(ctx context.Context, pods Pods, list []*corev1.Pod, within time.Duration) {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		left := 0
		for _, p := range list {
			if !pods.Ended(p.UID) {
				left++
			}
		}
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timeout.C:
			m.log.Warn("pods did not end in time", zap.Int("pods", left))
			return
		case <-tick.C:
		}
	}
}
