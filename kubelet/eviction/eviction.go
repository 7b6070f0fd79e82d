// Package eviction watches memory, disks and process numbers of the node, says which of them are short, and mends that: by removing images that no
// container uses where a disk is short, then by ending pods, one after the other. It also ends pods that have more on disk than they may.
//
// main gives it the pods and has it asked: node for its conditions, pods before one is let in. What always holds: pressure once seen is told for a
// while after it is over, so that the scheduler does not come back too soon; critical pods are never chosen; the next pod is chosen when the last one has
// given back what it held. thresholds.go reads the flags, judge.go says what is short, rank.go who goes, limits.go who exceeds what it may.
//
// Memory is looked at every second, which costs one read of a file of the kernel and needs no notification; the rest every ten. Files of pods are
// walked only where a limit or a full disk asks for it, on a goroutine of its own, at most a twentieth of the time.
package eviction

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// Config of the watch.
type Config struct {
	// Node is this node's name, for events.
	Node string
	// Root is the kubelet's folder, whose disk is the node's; Logs that of containers' logs.
	Root, Logs string
	Thresholds []Threshold
	// MaxGrace bounds how long pods may take to end that go because of a soft threshold.
	MaxGrace time.Duration
	// PressureLasts is how long pressure is told after it was seen last.
	PressureLasts time.Duration
}

// Pods are those of this node.
type Pods interface {
	Pods() []*corev1.Pod
	// Evict ends a pod within the grace period; disruption is the message of its condition DisruptionTarget, empty: it gets none.
	Evict(uid types.UID, reason, message string, grace time.Duration, disruption string)
}

// Groups reads what pods use.
type Groups interface {
	Stats(path string) (cgroups.Stats, error)
	PodPath(qos corev1.PodQOSClass, podUID string) string
	KubepodsPath() string
}

// Images removes those that are not in use, by ID.
type Images interface {
	RemoveUnused(ctx context.Context, inUse map[string]bool) ([]string, error)
}

// Runtime says what containers there are and what they have on disk.
type Runtime interface {
	List(ctx context.Context) (containers.Listing, error)
	LayerUsage(ctx context.Context, id string) (containers.LayerUsage, error)
	Folder(ctx context.Context) (string, error)
}

// Recorder tells users what happened.
type Recorder interface {
	Eventf(object runtime.Object, kind, reason, format string, args ...any)
}

// Parts are what the watch needs.
type Parts struct {
	Groups  Groups
	Images  Images
	Runtime Runtime
	Events  Recorder
}

const (
	often    = time.Second      // how often memory is looked at
	seldom   = 10 * time.Second // and everything else
	patience = 30 * time.Second // how long an ended pod is waited for before the next is chosen
	answer   = 5 * time.Second  // of the runtime
	thorough = time.Minute      // of one that works through a disk: measures a layer, removes images
)

// Manager watches.
type Manager struct {
	cfg   Config // set once, as all in this group
	parts Parts
	log   *zap.Logger
	look  func(ctx context.Context, all bool, into sight) error
	walk  chan struct{} // asks for a measure of every pod
	count *prometheus.CounterVec

	// Owned by Run's loop.
	judge     *judge
	sight     sight
	folder    string    // of images and layers, once known
	looked    time.Time // when everything was looked at
	acting    bool      // something is short
	cleaned   time.Time // when images were removed last
	victims   map[types.UID]bool
	leaving   *victim
	announced Signal // the shortage that was told last

	over map[types.UID]bool // pods that were told to end for their limits; owned by measure

	mu       sync.Mutex
	pressure map[corev1.NodeConditionType]bool // replaced, never changed; guarded by mu, as all below
	uses     map[types.UID]diskUse             // what was measured last
	measured time.Time                         // when every pod was
	split    bool                              // images have a disk of their own
}

// victim is a pod that was told to end.
type victim struct {
	uid    types.UID
	group  string
	since  time.Time
	folder bool // its folder holds what is short, so that must go too
}

// New stores what it is given.
func New(cfg Config, parts Parts, log *zap.Logger) *Manager {
	m := &Manager{
		cfg: cfg, parts: parts, log: log.Named("eviction"), walk: make(chan struct{}, 1), judge: newJudge(cfg.Thresholds, cfg.PressureLasts),
		sight: sight{}, victims: map[types.UID]bool{},
		count: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_evictions", Help: "Cumulative number of pod evictions by eviction signal"}, []string{"eviction_signal"}),
	}
	m.look = m.machine
	return m
}

// Collectors are the metrics of evictions.
func (m *Manager) Collectors() []prometheus.Collector { return []prometheus.Collector{m.count} }

// Pressure says what is short, or was a while ago.
func (m *Manager) Pressure() (memory, disk, pids bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pressure[corev1.NodeMemoryPressure], m.pressure[corev1.NodeDiskPressure], m.pressure[corev1.NodePIDPressure]
}

// Run watches until ctx ends; pods are those that may be ended, and changed is called whenever Pressure says something else.
func (m *Manager) Run(ctx context.Context, pods Pods, changed func()) error {
	var walks sync.WaitGroup
	defer walks.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	walks.Go(func() { m.measure(ctx, pods) })
	tick := time.NewTicker(often)
	defer tick.Stop()
	said := ""
	for {
		text := ""
		if err := m.turn(ctx, pods, changed); err != nil {
			text = err.Error()
			if said != text && ctx.Err() == nil {
				m.log.Warn("looking for pressure", zap.Error(err))
			}
		}
		said = text
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// turn looks once and does the one thing that is most urgent.
func (m *Manager) turn(ctx context.Context, pods Pods, changed func()) error {
	now := time.Now()
	all := m.looked.IsZero() || m.acting || now.Sub(m.looked) >= seldom-often/2
	if all {
		m.looked = now
	}
	failed := m.look(ctx, all, m.sight) // what could be read counts all the same
	pressure, due := m.judge.look(now, m.sight)
	m.mu.Lock()
	news := !maps.Equal(m.pressure, pressure)
	m.pressure = pressure
	m.mu.Unlock()
	if news {
		changed()
	}
	m.acting = len(due) > 0
	if !m.acting {
		m.announced = ""
		return failed
	}
	if m.leaving != nil {
		if !m.stillLeaving(now) {
			m.leaving = nil
		}
		return failed // what was seen now may be older than what it has given back
	}
	if err := m.mend(ctx, pods, due[0]); err != nil {
		return err
	}
	return failed
}

// stillLeaving: the last pod that was chosen holds what it had.
func (m *Manager) stillLeaving(now time.Time) bool {
	v := m.leaving
	st, err := m.parts.Groups.Stats(v.group)
	holds := err == nil && st.PIDs > 0 || v.folder && exists(m.podDir(v.uid))
	return holds && now.Sub(v.since) < patience
}

// mend makes more of what is short.
func (m *Manager) mend(ctx context.Context, pods Pods, s shortage) error {
	signal := s.threshold.Signal
	disk := signal.condition() == corev1.NodeDiskPressure
	if m.announced != signal {
		m.announced = signal
		m.log.Warn("a resource is short", zap.String("signal", string(signal)), zap.Int64("left", s.left), zap.Int64("wanted", s.want))
		m.parts.Events.Eventf(&corev1.ObjectReference{Kind: "Node", Name: m.cfg.Node, UID: types.UID(m.cfg.Node)}, corev1.EventTypeWarning,
			"EvictionThresholdMet", "Attempting to reclaim %s", signal.resource())
	}
	if disk && time.Since(m.cleaned) >= seldom {
		m.cleaned = time.Now()
		if freed, err := m.reclaim(ctx); err != nil || freed {
			return err // the next look shows whether that was enough
		}
	}
	if disk && !m.measuredSince(time.Now().Add(-patience)) {
		select {
		case m.walk <- struct{}{}:
		default:
		}
		return nil
	}
	here := pods.Pods()
	maps.DeleteFunc(m.victims, func(uid types.UID, _ bool) bool {
		return !slices.ContainsFunc(here, func(p *corev1.Pod) bool { return p.UID == uid })
	})
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	candidates := m.candidates(ctx, here, signal)
	if len(candidates) == 0 {
		return nil
	}
	c := rank(signal.resource(), candidates)[0]
	grace := time.Duration(0)
	if !s.threshold.Hard {
		grace = min(m.cfg.MaxGrace, time.Duration(pod.GracePeriod(c.pod))*time.Second)
	}
	text := message(s, c)
	m.victims[c.pod.UID] = true
	m.leaving = &victim{uid: c.pod.UID, group: m.parts.Groups.PodPath(pod.QoS(c.pod), string(c.pod.UID)), since: time.Now().Add(grace),
		folder: disk || signal.resource() == corev1.ResourceMemory && inMemory(c.pod)}
	m.count.WithLabelValues(string(signal)).Inc()
	pods.Evict(c.pod.UID, reason, text, grace, text)
	return nil
}

// candidates are the pods that may go, with what they use of the signal's resource.
func (m *Manager) candidates(ctx context.Context, pods []*corev1.Pod, signal Signal) []candidate {
	var groups map[string][]containers.Container
	if signal.resource() == corev1.ResourceMemory {
		groups = m.running(ctx)
	}
	var out []candidate
	for _, p := range pods {
		if pod.Critical(p) || pod.Terminal(p) || m.victims[p.UID] { // one that takes its time to end may have to hurry
			continue
		}
		c := candidate{pod: p}
		switch signal.resource() {
		case corev1.ResourceMemory:
			requests := pod.Requests(p)
			c.requested = requests.Memory().Value()
			if st, err := m.parts.Groups.Stats(m.parts.Groups.PodPath(pod.QoS(p), string(p.UID))); err == nil { // one without a group uses nothing
				c.used = int64(st.WorkingSet)
			}
			for _, one := range groups[string(p.UID)] {
				spec, _ := pod.Container(p, one.Name)
				if st, err := m.parts.Groups.Stats(one.CgroupPath); err == nil && spec != nil {
					c.containers = append(c.containers, consumer{one.Name, int64(st.WorkingSet), spec.Resources.Requests.Memory().Value()})
				}
			}
		case pids:
			if st, err := m.parts.Groups.Stats(m.parts.Groups.PodPath(pod.QoS(p), string(p.UID))); err == nil {
				c.used = int64(st.PIDs)
			}
		default:
			m.weigh(&c, signal)
		}
		out = append(out, c)
	}
	return out
}

// weigh fills in what the pod has on the disk that is short.
func (m *Manager) weigh(c *candidate, signal Signal) {
	r := signal.resource()
	m.mu.Lock()
	use := m.uses[c.pod.UID]
	m.mu.Unlock()
	if r == corev1.ResourceEphemeralStorage {
		requests := pod.Requests(c.pod)
		c.requested = requests.StorageEphemeral().Value()
	}
	layers, rest := true, true
	if m.apart() { // images and layers have a disk of their own
		onNodefs := signal == nodefsAvailable || signal == nodefsInodesFree
		layers, rest = !onNodefs, onNodefs
	}
	for kind, spec := range pod.Containers(c.pod) {
		if kind == pod.Ephemeral {
			continue
		}
		var sum amounts
		if layers {
			sum = sum.plus(use.containers[spec.Name])
		}
		if rest {
			sum = sum.plus(use.logs[spec.Name])
		}
		one := consumer{name: spec.Name, used: sum.of(r)}
		if r == corev1.ResourceEphemeralStorage {
			one.requested = spec.Resources.Requests.StorageEphemeral().Value()
		}
		c.containers = append(c.containers, one)
		c.used += one.used
	}
	if rest {
		for _, a := range use.volumes {
			c.used += a.of(r)
		}
	}
}

// running are the containers that run, by pod; a runtime that does not answer shows none, and the message says less.
func (m *Manager) running(ctx context.Context) map[string][]containers.Container {
	l, err := m.parts.Runtime.List(ctx)
	if err != nil {
		m.log.Warn("listing containers", zap.Error(err))
		return nil
	}
	out := map[string][]containers.Container{}
	for _, c := range l.Containers {
		if c.State == containers.Running {
			out[c.PodUID] = append(out[c.PodUID], c)
		}
	}
	return out
}

// reclaim removes images that no container uses, and says whether there were any.
func (m *Manager) reclaim(ctx context.Context) (bool, error) {
	list, cancel := context.WithTimeout(ctx, answer)
	l, err := m.parts.Runtime.List(list)
	cancel()
	if err != nil {
		return false, fmt.Errorf("listing images in use: %w", err)
	}
	inUse := map[string]bool{}
	for _, c := range l.Containers {
		inUse[c.ImageID] = true
	}
	ctx, cancel = context.WithTimeout(ctx, thorough)
	defer cancel()
	removed, err := m.parts.Images.RemoveUnused(ctx, inUse)
	if len(removed) > 0 {
		m.log.Info("removed images that no container uses", zap.Strings("images", removed))
	}
	if err != nil {
		return len(removed) > 0, fmt.Errorf("removing images: %w", err)
	}
	return len(removed) > 0, nil
}
