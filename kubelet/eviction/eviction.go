// Package eviction watches memory, disk and process numbers of the node, says which of them are short, and mends that: by removing images that no
// container uses where the disk is short, then by ending pods, one after the other.
//
// main gives it the function that ends a pod; node asks Pressure for its conditions. What always holds: pressure once seen is told for a while after
// it is over, so that the scheduler does not come back too soon; critical pods are never chosen.
package eviction

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/stats"
	"pilothouse.dev/pkg/pod"
)

// Config of the thresholds: a signal is short when less than its part (0 … 1) or its bytes are left. Zero: never.
type Config struct {
	Root          string // the kubelet's folder: its disk is watched
	MemoryBytes   uint64
	DiskPart      float64
	InodesPart    float64
	PIDPart       float64
	Every         time.Duration // how often to look; 0 means 10 s
	PressureLasts time.Duration // how long pressure is told after it was seen last
}

// Pods are those of this node; Evict ends one.
type Pods interface {
	Pods() []*corev1.Pod
	Evict(uid types.UID, reason, message string, grace time.Duration)
}

// Groups reads what a pod uses.
type Groups interface {
	Stats(path string) (cgroups.Stats, error)
	PodPath(qos corev1.PodQOSClass, podUID string) string
}

// Images removes those that are not in use, by ID.
type Images interface {
	RemoveUnused(ctx context.Context, inUse map[string]bool) ([]string, error)
}

// Runtime says which images are in use.
type Runtime interface {
	List(ctx context.Context) (containers.Listing, error)
}

// Parts are what the watch needs.
type Parts struct {
	Groups  Groups
	Images  Images
	Runtime Runtime
}

// Manager watches.
type Manager struct {
	cfg   Config // set once, as all in this group
	parts Parts
	log   *zap.Logger
	look  func(root string) (sight, error)

	mu   sync.Mutex
	seen map[corev1.NodeConditionType]time.Time // when it was short last; guarded by mu
}

// New stores what it is given.
func New(cfg Config, parts Parts, log *zap.Logger) *Manager {
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	return &Manager{cfg: cfg, parts: parts, log: log.Named("eviction"), look: look, seen: map[corev1.NodeConditionType]time.Time{}}
}

// Pressure says what is short, or was a moment ago.
func (m *Manager) Pressure() (memory, disk, pids bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	recent := func(kind corev1.NodeConditionType) bool {
		at, seen := m.seen[kind]
		return seen && time.Since(at) <= m.cfg.PressureLasts
	}
	return recent(corev1.NodeMemoryPressure), recent(corev1.NodeDiskPressure), recent(corev1.NodePIDPressure)
}

// Run watches until ctx ends; pods are those that may be ended.
func (m *Manager) Run(ctx context.Context, pods Pods) error {
	tick := time.NewTicker(m.cfg.Every)
	defer tick.Stop()
	for {
		if err := m.turn(ctx, pods); err != nil {
			m.log.Warn("looking for pressure", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *Manager) turn(ctx context.Context, pods Pods) error {
	now, err := m.look(m.cfg.Root)
	if err != nil {
		return err
	}
	short := shortages(m.cfg, now)
	m.mu.Lock()
	for _, s := range short {
		m.seen[s.kind] = time.Now()
	}
	m.mu.Unlock()
	if len(short) == 0 {
		return nil
	}
	m.log.Warn("a resource is short", zap.String("resource", string(short[0].resource)), zap.String("left", short[0].text))
	if slices.ContainsFunc(short, func(s shortage) bool { return s.kind == corev1.NodeDiskPressure }) {
		freed, err := m.reclaim(ctx)
		if err != nil || freed && short[0].kind == corev1.NodeDiskPressure {
			return err // the next look shows whether that was enough
		}
	}
	candidates := m.candidates(pods.Pods())
	if len(candidates) == 0 {
		return nil
	}
	victim := rank(candidates)[0]
	pods.Evict(victim.pod.UID, "Evicted", fmt.Sprintf("The node was low on resource: %s. %s", short[0].resource, short[0].text), 0)
	return nil
}

// reclaim removes images that no container uses, and says whether there were any.
func (m *Manager) reclaim(ctx context.Context) (bool, error) {
	l, err := m.parts.Runtime.List(ctx)
	if err != nil {
		return false, fmt.Errorf("listing images in use: %w", err)
	}
	inUse := map[string]bool{}
	for _, c := range l.Containers {
		inUse[c.ImageID] = true
	}
	removed, err := m.parts.Images.RemoveUnused(ctx, inUse)
	if len(removed) > 0 {
		m.log.Info("removed images that no container uses", zap.Strings("images", removed))
	}
	if err != nil {
		return len(removed) > 0, fmt.Errorf("removing images: %w", err)
	}
	return len(removed) > 0, nil
}

// sight is what is left of the machine's resources, and what there is.
type sight struct {
	memory, memoryAll uint64
	disk, diskAll     uint64
	inodes, inodesAll uint64
	pids, pidsAll     uint64
}

// shortage is a resource of which too little is left.
type shortage struct {
	kind     corev1.NodeConditionType
	resource corev1.ResourceName
	text     string
}

// shortages compares; memory comes first, since it kills first.
func shortages(cfg Config, s sight) []shortage {
	var out []shortage
	add := func(kind corev1.NodeConditionType, resource corev1.ResourceName, left, limit uint64) {
		if limit > 0 && left < limit {
			out = append(out, shortage{kind, resource, fmt.Sprintf("Threshold quantity: %d, available: %d.", limit, left)})
		}
	}
	part := func(all uint64, p float64) uint64 { return uint64(float64(all) * p) }
	add(corev1.NodeMemoryPressure, corev1.ResourceMemory, s.memory, cfg.MemoryBytes)
	add(corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage, s.disk, part(s.diskAll, cfg.DiskPart))
	add(corev1.NodeDiskPressure, "inodes", s.inodes, part(s.inodesAll, cfg.InodesPart))
	add(corev1.NodePIDPressure, "pids", s.pids, part(s.pidsAll, cfg.PIDPart))
	return out
}

// candidate is a pod that may be ended.
type candidate struct {
	pod             *corev1.Pod
	used, requested uint64 // memory
}

func (m *Manager) candidates(pods []*corev1.Pod) []candidate {
	var out []candidate
	for _, p := range pods {
		if pod.Critical(p) || !pod.Active(p) {
			continue
		}
		requests := pod.Requests(p)
		c := candidate{pod: p, requested: uint64(requests.Memory().Value())}
		if st, err := m.parts.Groups.Stats(m.parts.Groups.PodPath(pod.QoS(p), string(p.UID))); err == nil { // one that has no group uses nothing
			c.used = st.WorkingSet
		}
		out = append(out, c)
	}
	return out
}

// rank sorts pods by who goes first: those that use more than they asked for, then lower priority, then the most above their request.
func rank(cs []candidate) []candidate {
	out := slices.Clone(cs)
	above := func(c candidate) int64 { return int64(c.used) - int64(c.requested) }
	slices.SortStableFunc(out, func(a, b candidate) int {
		if x, y := above(a) > 0, above(b) > 0; x != y {
			if x {
				return -1
			}
			return 1
		}
		if d := cmp.Compare(pod.Priority(a.pod), pod.Priority(b.pod)); d != 0 {
			return d
		}
		return cmp.Compare(above(b), above(a))
	})
	return out
}

// look reads the machine.
func look(root string) (sight, error) {
	var s sight
	have, err := stats.Memory()
	if err != nil {
		return s, err
	}
	s.memory, s.memoryAll = have["MemAvailable"], have["MemTotal"]
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return s, fmt.Errorf("reading the disk: %w", err)
	}
	size := uint64(fs.Bsize)
	s.disk, s.diskAll, s.inodes, s.inodesAll = fs.Bavail*size, fs.Blocks*size, fs.Ffree, fs.Files
	most, err := number("/proc/sys/kernel/pid_max")
	if err != nil {
		return s, err
	}
	load, err := os.ReadFile("/proc/loadavg") // 0.1 0.2 0.3 running/all last
	if err != nil {
		return s, fmt.Errorf("reading the number of processes: %w", err)
	}
	words := strings.Fields(string(load))
	if len(words) < 4 {
		return s, fmt.Errorf("reading the number of processes: %q", load)
	}
	_, all, _ := strings.Cut(words[3], "/")
	n, err := strconv.ParseUint(all, 10, 64)
	if err != nil {
		return s, fmt.Errorf("reading the number of processes: %w", err)
	}
	s.pidsAll, s.pids = most, most-min(n, most)
	return s, nil
}

func number(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
}
