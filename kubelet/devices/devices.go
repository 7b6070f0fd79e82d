// Package devices gives containers the devices that device plugins bring
// (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/, device plugin API v1beta1).
//
// A plugin registers over kubelet.sock, or by a socket that the room plugins found; from then on it streams its devices, which become extended
// resources of the node. pods asks for devices at admission and before each start. What always holds: a device is given to one container at a
// time; a container that is started again has the devices it had; what is given is in the containers' labels, so a restart of the kubelet
// finds it again; a plugin that hangs delays only the containers that want its devices. Which resources are devices is noted in a file beside the
// sockets (note.go): a pod that comes before its plugin is back must not run without them.
package devices

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// label of a container that has devices: JSON of IDs by resource, with more labels where it is long.
const label = "pilothouse.dev/devices"

const (
	dialTimeout = 10 * time.Second // until a plugin that registered answers
	callTimeout = 30 * time.Second // of one call of a plugin
	absence     = 5 * time.Minute  // how long the node's capacity remembers a plugin that went
)

// Manager gives devices away. Its methods may be called at the same time.
type Manager struct {
	dir string // set once, as all in this group
	log *zap.Logger

	mu      sync.Mutex
	nudge   func()                                       // has the node's status told soon; guarded by mu
	plugins map[string]*plugin                           // by resource; guarded by mu
	given   map[types.UID]map[string]map[string][]string // IDs by pod, container and resource; guarded by mu
	settled map[types.UID]map[string]bool                // containers that have begun to use what they were given; guarded by mu
}

// New stores what it is given. dir is where plugins find kubelet.sock.
func New(dir string, log *zap.Logger) *Manager {
	return &Manager{dir: dir, log: log.Named("devices"), nudge: func() {}, plugins: map[string]*plugin{}, given: map[types.UID]map[string]map[string][]string{}, settled: map[types.UID]map[string]bool{}}
}

// Admit reserves the devices that a new pod asks for. See pods.Guard.
func (m *Manager) Admit(p *corev1.Pod) (reason, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reserve(p); err != nil {
		return "UnexpectedAdmissionError", "Allocate failed due to " + err.Error() + ", which is unexpected"
	}
	return "", ""
}

// reserve finds devices for all containers of a pod, or for none. Init containers that end use what later ones get. The caller holds mu.
func (m *Manager) reserve(p *corev1.Pod) error {
	if m.given[p.UID] != nil {
		return nil
	}
	mine := map[string]map[string][]string{}
	var taken, later []string // «resource ID» that this pod takes, and which of them init containers may use before
	key := func(resource, id string) string { return resource + " " + id }
	take := func(c *corev1.Container, before bool) error {
		for name, n := range m.wants(c) {
			var ids []string
			if before {
				for _, id := range m.plugins[name].ids() {
					if len(ids) < n && slices.Contains(later, key(name, id)) {
						ids = append(ids, id)
					}
				}
			}
			free := slices.DeleteFunc(m.free(name), func(id string) bool { return slices.Contains(taken, key(name, id)) })
			if len(ids)+len(free) < n {
				return fmt.Errorf("requested number of devices unavailable for %s. Requested: %d, Available: %d", name, n, len(ids)+len(free))
			}
			for _, id := range free[:n-len(ids)] {
				ids = append(ids, id)
				taken = append(taken, key(name, id))
				later = append(later, key(name, id))
			}
			if mine[c.Name] == nil {
				mine[c.Name] = map[string][]string{}
			}
			mine[c.Name][name] = ids
		}
		return nil
	}
	for kind, c := range pod.Containers(p) {
		if kind == pod.Regular {
			if err := take(c, false); err != nil {
				return err
			}
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		side := pod.Sidecar(c)
		was := len(later)
		if err := take(c, !side); err != nil {
			return err
		}
		if side {
			later = later[:was] // it keeps them for itself
		}
	}
	if len(mine) > 0 {
		m.given[p.UID] = mine
	}
	return nil
}

// wants is how many devices of each resource that a plugin brings a container asks for.
func (m *Manager) wants(c *corev1.Container) map[string]int {
	out := map[string]int{}
	for name, q := range c.Resources.Limits {
		if m.plugins[string(name)] != nil && q.Value() > 0 {
			out[string(name)] = int(min(q.Value(), 1<<20))
		}
	}
	return out
}

// free are the healthy devices that nobody has, sorted. The caller holds mu.
func (m *Manager) free(resource string) []string {
	used := sets.New[string]()
	for _, containers := range m.given {
		for _, resources := range containers {
			used.Insert(resources[resource]...)
		}
	}
	return slices.DeleteFunc(m.plugins[resource].healthy(), used.Has)
}

// Found takes over what containers were given in a former life.
func (m *Manager) Found(l containers.Listing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range l.Containers {
		var held map[string][]string
		if json.Unmarshal([]byte(read(c.Labels)), &held) != nil || len(held) == 0 {
			continue // no label: it has no devices
		}
		uid := types.UID(c.PodUID)
		if m.given[uid] == nil {
			m.given[uid] = map[string]map[string][]string{}
		}
		m.given[uid][c.Name] = held
		m.settle(uid, c.Name)
	}
}

// Grant has the plugins allocate a container's devices and puts what they answer into its spec.
func (m *Manager) Grant(ctx context.Context, p *corev1.Pod, c *corev1.Container, spec *containers.ContainerSpec) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m.mu.Lock()
	err := m.reserve(p) // it was admitted in a former life that ended before it had a container
	held := maps.Clone(m.given[p.UID][c.Name])
	m.mu.Unlock()
	if err != nil || len(held) == 0 {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		m.mu.Lock()
		plug := m.plugins[name]
		m.mu.Unlock()
		if plug == nil || plug.gone() {
			return fmt.Errorf("no device plugin for %s is registered now", name)
		}
		if held[name], err = m.prefer(ctx, plug, p, c, held[name]); err != nil {
			return fmt.Errorf("asking for preferred devices of %s: %w", name, err)
		}
		if err := plug.allocate(ctx, held[name], spec); err != nil {
			return fmt.Errorf("allocating devices of %s: %w", name, err)
		}
	}
	m.mu.Lock()
	m.settle(p.UID, c.Name)
	m.mu.Unlock()
	text, err := json.Marshal(held)
	if err != nil {
		return fmt.Errorf("noting devices: %w", err)
	}
	write(spec.Labels, string(text))
	return nil
}

// settle notes that a container uses what it was given. The caller holds mu.
func (m *Manager) settle(uid types.UID, container string) {
	if m.settled[uid] == nil {
		m.settled[uid] = map[string]bool{}
	}
	m.settled[uid][container] = true
}

// prefer lets a plugin that wishes for it choose among what is free, before a container starts for the first time; not where init containers use the
// devices of later ones, for those were chosen together.
func (m *Manager) prefer(ctx context.Context, plug *plugin, p *corev1.Pod, c *corev1.Container, ids []string) ([]string, error) {
	m.mu.Lock()
	asks := plug.options.GetGetPreferredAllocationAvailable() && !m.settled[p.UID][c.Name] &&
		!slices.ContainsFunc(p.Spec.InitContainers, func(i corev1.Container) bool { return m.given[p.UID][i.Name] != nil })
	available := append(m.free(plug.resource), ids...)
	m.mu.Unlock()
	if !asks {
		return ids, nil
	}
	wish, err := plug.preferred(ctx, available, len(ids))
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	open := sets.New(append(m.free(plug.resource), ids...)...)
	if len(wish) != len(ids) || sets.New(wish...).Len() != len(ids) || !open.HasAll(wish...) || m.given[p.UID] == nil {
		return ids, nil // an answer that does not fit, or not any more, is no more than a wish
	}
	m.given[p.UID][c.Name][plug.resource] = wish
	return wish, nil
}

// Release takes back what a pod had.
func (m *Manager) Release(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.given, uid)
	delete(m.settled, uid)
}

// Contribute tells the node's resources: see node.Parts. A plugin that went leaves capacity without anything allocatable for a while, so that it is
// seen that devices are missing.
func (m *Manager) Contribute(n *corev1.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, p := range m.plugins {
		if p.goneFor(absence) {
			if _, shown := n.Status.Capacity[corev1.ResourceName(name)]; !shown { // the API has heard it
				delete(m.plugins, name)
				m.remember()
			}
			delete(n.Status.Capacity, corev1.ResourceName(name))
			delete(n.Status.Allocatable, corev1.ResourceName(name))
			continue
		}
		all, healthy := len(p.ids()), len(p.healthy())
		if p.conn != nil { // else it is not back yet, and the node shows what it had
			n.Status.Capacity[corev1.ResourceName(name)] = *resource.NewQuantity(int64(all), resource.DecimalSI)
		}
		n.Status.Allocatable[corev1.ResourceName(name)] = *resource.NewQuantity(int64(healthy), resource.DecimalSI)
	}
}

// Held are the devices of a pod's container, IDs by resource.
func (m *Manager) Held(uid types.UID, container string) map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.given[uid][container])
}
