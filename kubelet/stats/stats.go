// Package stats turns what control groups and the machine count into the Summary and the metrics that users, dashboards and metrics-server read.
//
// The kubelet's server calls it, for each request anew, in one pass over the control groups; only what volumes and writable layers take, which must be
// counted file by file, is kept for a while (Config.Keep). What always holds: a container that ended while it was being read is left out, not an error.
package stats

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/csi"
)

// Runtime lists containers and measures what they write.
type Runtime interface {
	List(ctx context.Context) (containers.Listing, error)
	LayerUsage(ctx context.Context, id string) (containers.LayerUsage, error)
	Folder(ctx context.Context) (string, error)
}

// Groups reads control groups.
type Groups interface {
	Details(paths []string, see func(i int, d *cgroups.Detail, err error)) error
	PodPath(qos corev1.PodQOSClass, podUID string) string
	KubepodsPath() string
	PIDs(path string) ([]int, error)
}

// Pods are those of this node.
type Pods interface {
	Pods() []*corev1.Pod
}

// Volumes says where a pod's volumes are on the node, by their names in the pod.
type Volumes interface {
	Where(uid types.UID) map[string]string
}

// Drivers tell how full their volumes are.
type Drivers interface {
	Stats(ctx context.Context, pod types.UID, pv string) (csi.Usage, error)
}

// Config of the numbers.
type Config struct {
	Node string
	// Root is the kubelet's folder, whose disk is the node's; Logs that of the containers' logs.
	Root, Logs string
	// Keep is how long it is kept what was counted file by file; 0: not at all.
	Keep time.Duration
}

// Parts are the rooms that numbers come from. Volumes and Drivers may be nil.
type Parts struct {
	Runtime Runtime
	Groups  Groups
	Pods    Pods
	Volumes Volumes
	Drivers Drivers
}

// Stats reads the numbers of one node. Safe for concurrent use.
type Stats struct {
	cfg     Config
	parts   Parts
	started time.Time

	measured *measured

	mu    sync.Mutex
	rates map[string]rate // by control group; guarded by mu
}

// rate is how fast a group used the processor between two looks that were at least leastSpan apart.
type rate struct {
	at    time.Time
	cpu   time.Duration
	nanos uint64 // per second
	known bool
}

// leastSpan between two looks makes a rate: over less, it says nothing.
const leastSpan = time.Second

// New stores what it is given.
func New(cfg Config, parts Parts) *Stats {
	return &Stats{cfg: cfg, parts: parts, started: time.Now(), measured: newMeasured(cfg.Keep), rates: map[string]rate{}}
}

// group is one control group that was looked at.
type group struct {
	path   string
	detail cgroups.Detail
	pod    *corev1.Pod           // nil for groups above pods
	ctr    *containers.Container // nil for a pod's own group
	nanos  *uint64               // rate of use, if one is known
}

// sight is one pass over everything.
type sight struct {
	list   containers.Listing
	groups []group // of a pod: its own, then its containers'; above them: the machine's, kubepods, and the classes
}

// look goes over all groups. above includes those above pods.
func (s *Stats) look(ctx context.Context, above bool) (*sight, error) {
	l, err := s.parts.Runtime.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	of := map[string][]*containers.Container{}
	for i := range l.Containers {
		if c := &l.Containers[i]; c.State == containers.Running {
			of[c.PodUID] = append(of[c.PodUID], c)
		}
	}
	var all []group
	if above {
		top := s.parts.Groups.KubepodsPath()
		all = append(all, group{path: "/"}, group{path: top}, group{path: top + "/burstable"}, group{path: top + "/besteffort"})
	}
	for _, p := range s.parts.Pods.Pods() {
		all = append(all, group{path: s.parts.Groups.PodPath(qosOf(p), string(p.UID)), pod: p})
		for _, c := range of[string(p.UID)] {
			all = append(all, group{path: c.CgroupPath, pod: p, ctr: c})
		}
	}
	paths := make([]string, len(all))
	for i := range all {
		paths[i] = all[i].path
	}
	there := make([]bool, len(all))
	var failed error
	err = s.parts.Groups.Details(paths, func(i int, d *cgroups.Detail, err error) {
		switch {
		case err == nil:
			there[i], all[i].detail = true, *d
			all[i].detail.Disks, all[i].detail.Processes = slices.Clone(d.Disks), slices.Clone(d.Processes)
		case !isGone(err) && all[i].pod != nil:
			failed = err
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	kept := all[:0]
	podThere := false
	for i, g := range all {
		if g.ctr == nil {
			podThere = there[i]
		}
		if there[i] && podThere {
			kept = append(kept, g)
		}
	}
	s.rate(kept)
	return &sight{list: l, groups: kept}, nil
}

// rate finds how fast each group uses the processor, and forgets groups that are gone.
func (s *Stats) rate(groups []group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]rate, len(groups))
	for i := range groups {
		g := &groups[i]
		was, ok := s.rates[g.path]
		now := rate{at: g.detail.Time, cpu: g.detail.CPU}
		switch span := now.at.Sub(was.at); {
		case ok && span < leastSpan:
			now = was
		case ok && now.cpu >= was.cpu:
			now.nanos, now.known = uint64(float64(now.cpu-was.cpu)/span.Seconds()), true
		}
		if now.known {
			g.nanos = new(now.nanos)
		}
		next[g.path] = now
	}
	for path, was := range s.rates { // of a look that saw less than this one's predecessor
		if _, ok := next[path]; !ok && time.Since(was.at) < time.Minute {
			next[path] = was
		}
	}
	s.rates = next
}
