package cgroups

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

const (
	defaultMountPoint = "/sys/fs/cgroup"
	removeTimeout     = 10 * time.Second
)

// layout is what differs between v1 and v2. Paths begin with «/» and are relative to the mount point.
type layout interface {
	create(path string) error
	set(path string, res Resources) error
	actual(path string) (Actual, error)
	limitsHugePages() bool
	stats(path string) (Stats, error)
	// hierarchies are the folders in which path may exist.
	hierarchies() ([]string, error)
}

// New stores what it is given.
func New(cfg Config, log *zap.Logger) *Tree {
	if cfg.MountPoint == "" {
		cfg.MountPoint = defaultMountPoint
	}
	return &Tree{cfg: cfg, log: log.Named("cgroups")}
}

// layout asks the kernel each time: one system call, and nothing to keep.
func (t *Tree) layout() (layout, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(t.cfg.MountPoint, &st); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", t.cfg.MountPoint, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return v2{root: t.cfg.MountPoint}, nil
	}
	return v1{root: t.cfg.MountPoint}, nil
}

// Abilities are what this machine can limit beside what every one can.
type Abilities struct {
	// V2: memory can be protected and slowed down.
	V2 bool
	// HugePages are the sizes of huge pages, in bytes, that can be limited.
	HugePages []int64
}

// Abilities asks the machine.
func (t *Tree) Abilities() (Abilities, error) {
	l, err := t.layout()
	if err != nil {
		return Abilities{}, err
	}
	a := Abilities{}
	if _, a.V2 = l.(v2); !l.limitsHugePages() {
		return a, nil
	}
	sizes, err := HugePages()
	if err != nil {
		return a, err
	}
	a.HugePages = slices.Sorted(maps.Keys(sizes))
	return a, nil
}

// HugePages are the sizes of huge pages that this machine has, in bytes, and how many pages of each are set aside.
func HugePages() (map[int64]int64, error) {
	return hugePages("/sys/kernel/mm/hugepages")
}

// HugePagesOrNone is HugePages, none where they cannot be counted.
func HugePagesOrNone() map[int64]int64 {
	pages, err := HugePages()
	if err != nil {
		return nil
	}
	return pages
}

// Open makes kubepods and its QoS groups. What all pods together may use is set too; where they use more already (the node was told to keep
// more for itself since), that is tried again with every SetQoS, until pods have gone.
func (t *Tree) Open() error {
	for _, p := range []string{t.KubepodsPath(), t.qosPath(corev1.PodQOSBurstable), t.qosPath(corev1.PodQOSBestEffort)} {
		if err := t.apply(p, Resources{}); err != nil {
			return err
		}
	}
	t.bound()
	return t.SetQoS(QoS{})
}

// bound limits all pods together.
func (t *Tree) bound() {
	if err := t.Update(t.KubepodsPath(), t.cfg.Pods); err != nil {
		t.late.Store(&err)
		t.log.Warn("limiting all pods together", zap.Error(err))
		return
	}
	t.late.Store(nil)
}

// Bound says why what all pods together may use is not enforced yet; nil: it is, since Open.
func (t *Tree) Bound() error {
	if why := t.late.Load(); why != nil {
		return *why
	}
	return nil
}

// CreatePod makes (or updates) a pod's group with its limits and returns its path, for containers.ContainerSpec.CgroupParent.
func (t *Tree) CreatePod(qos corev1.PodQOSClass, podUID string, res Resources) (string, error) {
	p := t.PodPath(qos, podUID)
	return p, t.apply(p, res)
}

func (t *Tree) apply(p string, res Resources) error {
	l, err := t.layout()
	if err != nil {
		return err
	}
	if err := l.create(p); err != nil {
		return fmt.Errorf("making control group %s: %w", p, err)
	}
	if err := l.set(p, res); err != nil {
		return fmt.Errorf("setting limits of %s: %w", p, err)
	}
	return nil
}

// Update changes the limits of the group at path.
func (t *Tree) Update(p string, res Resources) error {
	l, err := t.layout()
	if err != nil {
		return err
	}
	if err := l.set(p, res); err != nil {
		return fmt.Errorf("setting limits of %s: %w", p, gone(err))
	}
	return nil
}

// SetQoS weighs the burstable pods as a whole by what they asked for, and keeps memory for classes on v2. BestEffort always has the least.
func (t *Tree) SetQoS(q QoS) error {
	if t.late.Load() != nil {
		t.bound()
	}
	keep := func(bytes int64) int64 {
		if bytes == 0 {
			return -1
		}
		return bytes
	}
	for _, g := range []struct {
		path string
		res  Resources
	}{
		{t.KubepodsPath(), Resources{MemoryMin: keep(q.GuaranteedMemory), MemoryLow: keep(q.BurstableMemory)}},
		{t.qosPath(corev1.PodQOSBurstable), Resources{CPUShares: SharesFromMilli(q.BurstableMilli), MemoryLow: keep(q.BurstableMemory)}},
		{t.qosPath(corev1.PodQOSBestEffort), Resources{CPUShares: minShares}},
	} {
		if err := t.Update(g.path, g.res); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) qosPath(qos corev1.PodQOSClass) string {
	return path.Dir(t.PodPath(qos, "any"))
}

// RemovePod kills what is left in the pod's group, in whatever QoS class it is, and removes it. Removing what is gone is no error.
func (t *Tree) RemovePod(ctx context.Context, podUID string) error {
	for _, qos := range []corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		if err := t.remove(ctx, t.PodPath(qos, podUID)); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes the whole tree away, its processes included and Config.Root too: for a node that leaves for good.
func (t *Tree) Remove(ctx context.Context) error {
	if root := path.Join("/", t.cfg.Root); root != "/" {
		return t.remove(ctx, root)
	}
	return t.remove(ctx, t.KubepodsPath())
}

// remove kills and removes until nothing is there; a process takes a moment to leave its group after it was killed.
func (t *Tree) remove(ctx context.Context, p string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		last, err := t.removeOnce(p)
		if err != nil {
			return fmt.Errorf("removing control group %s: %w", p, err)
		}
		if last == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("removing control group %s: %w", p, errors.Join(ctx.Err(), last))
		}
	}
}

// removeOnce says in busy why something still stands.
func (t *Tree) removeOnce(p string) (busy, err error) {
	dirs, err := t.dirs(p)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		if err := killAll(dir); err != nil {
			return nil, err
		}
		if err := removeTree(dir); err != nil {
			busy = err
		}
	}
	return busy, nil
}

// dirs are the folders of one group, in each hierarchy that has it.
func (t *Tree) dirs(p string) ([]string, error) {
	l, err := t.layout()
	if err != nil {
		return nil, err
	}
	roots, err := l.hierarchies()
	if err != nil {
		return nil, fmt.Errorf("listing hierarchies: %w", err)
	}
	var dirs []string
	for _, root := range roots {
		if dir := path.Join(root, p); isDir(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// PodUIDs are the pods that have a group, to find leftovers.
func (t *Tree) PodUIDs() ([]string, error) {
	seen := make(map[string]bool)
	var uids []string
	for _, qos := range []corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		dirs, err := t.dirs(t.qosPath(qos))
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			names, err := subdirs(dir)
			if err != nil {
				return nil, fmt.Errorf("listing pods' control groups: %w", err)
			}
			for _, name := range names {
				uid, ok := strings.CutPrefix(name, "pod")
				if ok && !seen[uid] {
					seen[uid] = true
					uids = append(uids, uid)
				}
			}
		}
	}
	return uids, nil
}

// PIDs of the processes in the group and all below it, or ErrNotFound.
func (t *Tree) PIDs(p string) ([]int, error) {
	dirs, err := t.dirs(p)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s: %w", p, ErrNotFound)
	}
	seen := make(map[int]bool)
	var pids []int
	for _, dir := range dirs {
		found, err := processes(dir)
		if err != nil {
			return nil, fmt.Errorf("listing processes of %s: %w", p, err)
		}
		for _, pid := range found {
			if !seen[pid] {
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// Stats of the group at path, or ErrNotFound.
func (t *Tree) Stats(p string) (Stats, error) {
	l, err := t.layout()
	if err != nil {
		return Stats{}, err
	}
	s, err := l.stats(p)
	if err != nil {
		return Stats{}, fmt.Errorf("reading numbers of %s: %w", p, gone(err))
	}
	s.Time = time.Now()
	return s, nil
}

// gone says ErrNotFound of a group that is not there, or that vanished while it was read.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
