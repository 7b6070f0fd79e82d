// Package cpus gives containers of guaranteed pods that ask for whole processors these processors alone: the CPU manager's static policy
// (https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/#static-policy). All other containers run on the rest.
//
// pods asks it at admission and before each start, and tells it when a pod is over. What always holds: a processor is given to one container at
// a time; a container that is started again has the processors it had; what is given is in the containers' labels, so a restart of the kubelet
// finds it again and moves nobody. When the rest changes, running containers follow within a moment.
package cpus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// Policies. With None all containers run on all processors, and this room does nothing.
const (
	None   = "none"
	Static = "static"
)

// Options of the static policy.
const (
	fullCores = "full-pcpus-only"
	strict    = "strict-cpu-reservation"
)

// label of a container that has processors of its own: which.
const label = "pilothouse.dev/cpus"

const sysfs = "/sys/devices/system/cpu"

// Config of the policy.
type Config struct {
	// Policy is one of the above; empty means None. All else is for the static one.
	Policy string
	// Options are KEY=VALUE.
	Options []string
	// Reserved are processors that nobody gets alone, as 0-1,4. Empty: as many of the first ones as ReservedMilli, thousandths of a processor,
	// rounded up.
	Reserved      string
	ReservedMilli int64
	// Reconcile is how long after a change the running containers are looked at once more.
	Reconcile time.Duration
	// Sysfs is where the kernel tells its processors; empty means /sys/devices/system/cpu.
	Sysfs string
}

// Runtime changes where containers run.
type Runtime interface {
	List(ctx context.Context) (containers.Listing, error)
	UpdateResources(ctx context.Context, id string, res cgroups.Resources) error
}

// Manager gives processors away. Its methods may be called at the same time.
type Manager struct {
	idle     bool // the policy is None; set once, as all in this group
	machine  machine
	reserved cpuset.CPUSet
	whole    bool // only whole cores are given
	apart    bool // the reserved ones are for no pod at all
	again    time.Duration
	runtime  Runtime
	log      *zap.Logger
	wake     chan struct{}

	mu    sync.Mutex
	given map[types.UID]map[string]cpuset.CPUSet // by pod and container; guarded by mu
}

// New reads the machine. An option that is not known, or a reservation that leaves the daemons nothing, is an error.
func New(cfg Config, runtime Runtime, log *zap.Logger) (*Manager, error) {
	m := &Manager{again: cfg.Reconcile, runtime: runtime, log: log.Named("cpus"), wake: make(chan struct{}, 1), given: map[types.UID]map[string]cpuset.CPUSet{}}
	switch cfg.Policy {
	case "", None:
		m.idle = true
		return m, nil
	case Static:
	default:
		return nil, fmt.Errorf("--cpu-manager-policy %q: want %s or %s", cfg.Policy, None, Static)
	}
	for _, option := range cfg.Options {
		name, value, _ := strings.Cut(option, "=")
		into := map[string]*bool{fullCores: &m.whole, strict: &m.apart}[name]
		if into == nil || value != "true" && value != "false" {
			return nil, fmt.Errorf("--cpu-manager-policy-options %q: want %s or %s, =true or =false", option, fullCores, strict)
		}
		*into = value == "true"
	}
	if cfg.Sysfs == "" {
		cfg.Sysfs = sysfs
	}
	var err error
	if m.machine, err = readMachine(cfg.Sysfs); err != nil {
		return nil, err
	}
	if cfg.Reserved != "" {
		if m.reserved, err = cpuset.Parse(cfg.Reserved); err != nil {
			return nil, fmt.Errorf("--reserved-cpus %q: %w", cfg.Reserved, err)
		}
	} else {
		n := int((cfg.ReservedMilli + 999) / 1000)
		first, enough := m.machine.choose(m.machine.all, n)
		if !enough {
			return nil, fmt.Errorf("--cpu-manager-policy=static: %d processors are reserved, this machine has %d", n, m.machine.all.Size())
		}
		m.reserved = first
	}
	if m.reserved.IsEmpty() {
		return nil, errors.New("--cpu-manager-policy=static needs processor time that is kept from pods: --kube-reserved, --system-reserved or --reserved-cpus")
	}
	if !m.reserved.IsSubsetOf(m.machine.all) {
		return nil, fmt.Errorf("--reserved-cpus %s: this machine has %s", m.reserved, m.machine.all)
	}
	return m, nil
}

// Admit gives a new pod the processors that it asks for. See pods.Guard.
func (m *Manager) Admit(p *corev1.Pod) (reason, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.give(p)
	var odd misaligned
	switch {
	case errors.As(err, &odd):
		return "SMTAlignmentError", err.Error()
	case err != nil:
		return "UnexpectedAdmissionError", "Allocate failed due to " + err.Error() + ", which is unexpected"
	}
	return "", ""
}

// misaligned: only whole cores are given, and these were not.
type misaligned struct{ wanted, core int }

func (m misaligned) Error() string {
	return fmt.Sprintf("SMT Alignment Error: requested %d cpus not multiple cpus per core = %d", m.wanted, m.core)
}

// give finds processors for all containers of a pod that want some, or for none. The caller holds mu.
func (m *Manager) give(p *corev1.Pod) error {
	if m.idle || m.given[p.UID] != nil || pod.QoS(p) != corev1.PodQOSGuaranteed {
		return nil
	}
	mine := map[string]cpuset.CPUSet{}
	free := m.free()
	take := func(c *corev1.Container, from cpuset.CPUSet) error {
		n := wanted(c)
		if core := m.machine.cores[0].Size(); m.whole && n%core != 0 {
			return misaligned{n, core}
		}
		set, enough := m.machine.choose(from, n)
		if !enough {
			return fmt.Errorf("not enough cpus available to satisfy request: requested=%d, available=%d", n, from.Size())
		}
		mine[c.Name] = set
		return nil
	}
	var later cpuset.CPUSet // of those that run on; init containers use them before
	for kind, c := range pod.Containers(p) {
		if wanted(c) == 0 || kind == pod.Ephemeral || kind == pod.Init && !pod.Sidecar(c) {
			continue
		}
		if err := take(c, free); err != nil {
			return err
		}
		free = free.Difference(mine[c.Name])
		later = later.Union(mine[c.Name])
	}
	var before cpuset.CPUSet // of sidecars that run already
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if pod.Sidecar(c) {
			before = before.Union(mine[c.Name])
			continue
		}
		if wanted(c) == 0 {
			continue
		}
		from := later.Difference(before)
		if lack := wanted(c) - from.Size(); lack > 0 {
			more, enough := m.machine.choose(free, lack)
			if !enough {
				return fmt.Errorf("not enough cpus available to satisfy request: requested=%d, available=%d", wanted(c), from.Union(free).Size())
			}
			from, later, free = from.Union(more), later.Union(more), free.Difference(more)
		}
		if err := take(c, from); err != nil {
			return err
		}
	}
	if len(mine) > 0 {
		m.given[p.UID] = mine
		m.changed()
	}
	return nil
}

// wanted is how many processors a container of a guaranteed pod asks for alone: all or none of its request.
func wanted(c *corev1.Container) int {
	milli := c.Resources.Requests.Cpu().MilliValue()
	if milli%1000 != 0 || milli/1000 > math.MaxInt32 {
		return 0
	}
	return int(milli / 1000)
}

// free are the processors that can be given to somebody alone, shared those that all others run on. The caller holds mu.
func (m *Manager) free() cpuset.CPUSet { return m.shared().Difference(m.reserved) }

func (m *Manager) shared() cpuset.CPUSet {
	rest := m.machine.all
	for _, mine := range m.given {
		for _, set := range mine {
			rest = rest.Difference(set)
		}
	}
	if m.apart {
		if left := rest.Difference(m.reserved); !left.IsEmpty() {
			return left
		}
	}
	return rest
}

// Found takes over what containers were given in a former life.
func (m *Manager) Found(l containers.Listing) {
	if m.idle {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range l.Containers {
		set, err := cpuset.Parse(c.Labels[label])
		if err != nil || set.IsEmpty() || !set.IsSubsetOf(m.machine.all) { // the machine was started again with fewer: it is given others
			continue
		}
		uid := types.UID(c.PodUID)
		if m.given[uid] == nil {
			m.given[uid] = map[string]cpuset.CPUSet{}
		}
		m.given[uid][c.Name] = set
	}
	m.changed()
}

// Grant says in the spec where the container runs.
func (m *Manager) Grant(_ context.Context, p *corev1.Pod, c *corev1.Container, spec *containers.ContainerSpec) error {
	if m.idle {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.give(p); err != nil { // it was admitted in a former life that ended before it had a container
		return err
	}
	set, own := m.given[p.UID][c.Name]
	if own {
		spec.Labels[label] = set.String()
	} else {
		set = m.shared()
	}
	spec.Resources.CPUSet = set.String()
	return nil
}

// Release takes back what a pod had.
func (m *Manager) Release(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.given[uid] != nil {
		delete(m.given, uid)
		m.changed()
	}
}

func (m *Manager) changed() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run moves running containers onto what is shared whenever that changed, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	again := time.NewTimer(math.MaxInt64)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
			again.Reset(m.again) // one that was just being started then has what was shared before
		case <-again.C:
		}
		if err := m.move(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("moving containers to the processors that are left to them", zap.Error(err))
			again.Reset(m.again)
		}
	}
}

func (m *Manager) move(ctx context.Context) error {
	l, err := m.runtime.List(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	shared := m.shared().String()
	m.mu.Unlock()
	var failed []error
	for _, c := range l.Containers {
		if c.State != containers.Running || c.Labels[label] != "" {
			continue
		}
		err := m.runtime.UpdateResources(ctx, c.ID, cgroups.Resources{CPUSet: shared})
		if err != nil && !errors.Is(err, cgroups.ErrNotFound) && !errors.Is(err, containers.ErrNotFound) {
			failed = append(failed, fmt.Errorf("container %s: %w", c.Name, err))
		}
	}
	return errors.Join(failed...)
}
