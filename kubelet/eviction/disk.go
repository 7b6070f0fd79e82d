package eviction

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/stats"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/pod"
)

// What is read of the machine and its disks.

// machine reads the machine into a sight: memory, or all.
func (m *Manager) machine(ctx context.Context, all bool, into sight) error {
	var failed []error
	put := func(s Signal, left, of uint64, err error) {
		delete(into, s)
		if err != nil {
			failed = append(failed, err)
		} else if of > 0 { // a disk may count no inodes
			into[s] = level{left, of}
		}
	}
	left, of, err := stats.FreeMemory()
	put(memoryAvailable, left, of, err)
	delete(into, allocatableAvailable)
	if st, err := m.parts.Groups.Stats(m.parts.Groups.KubepodsPath()); err == nil && st.MemoryLimit > 0 && st.MemoryLimit < of {
		into[allocatableAvailable] = level{st.MemoryLimit - min(st.WorkingSet, st.MemoryLimit), st.MemoryLimit}
	}
	if !all {
		return errors.Join(failed...)
	}
	left, of, err = stats.Processes()
	put(pidAvailable, left, of, err)
	node, err := stats.DiskOf(m.cfg.Root)
	put(nodefsAvailable, node.Available, node.Capacity, err)
	put(nodefsInodesFree, node.InodesFree, node.InodesHave, nil)
	image := node
	if m.folder == "" { // it never changes, and a runtime that hangs must not keep us from looking
		ask, cancel := context.WithTimeout(ctx, answer)
		defer cancel()
		if m.folder, err = m.parts.Runtime.Folder(ask); err != nil {
			failed = append(failed, err)
		}
	}
	if m.folder != "" {
		if image, err = stats.DiskOf(m.folder); err != nil {
			failed = append(failed, err)
			image = node
		}
	}
	m.mu.Lock()
	m.split = image.Device != node.Device
	m.mu.Unlock()
	put(imagefsAvailable, image.Available, image.Capacity, nil)
	put(imagefsInodesFree, image.InodesFree, image.InodesHave, nil)
	put(containerfsAvailable, image.Available, image.Capacity, nil)
	put(containerfsInodes, image.InodesFree, image.InodesHave, nil)
	return errors.Join(failed...)
}

// apart: images and containers' layers are on another disk than the kubelet's folder.
func (m *Manager) apart() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.split
}

func (m *Manager) measuredSince(t time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.measured.After(t)
}

func (m *Manager) podDir(uid types.UID) string { return volumes.PodDir(m.cfg.Root, uid) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// measure walks over the files of pods that have a limit, and of all pods when asked, and ends those that exceed theirs; until ctx ends.
func (m *Manager) measure(ctx context.Context, pods Pods) {
	wait := time.NewTimer(seldom)
	defer wait.Stop()
	said := ""
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-m.walk:
			all = true
		case <-wait.C:
		}
		began := time.Now()
		text := ""
		if err := m.round(ctx, pods, all); err != nil {
			text = err.Error()
			if ctx.Err() == nil && text != said {
				m.log.Warn("measuring what pods have on disk", zap.Error(err))
			}
		}
		said = text
		wait.Reset(max(seldom, 20*time.Since(began)))
	}
}

// round measures once. What cannot be measured is reported and does not stop the rest.
func (m *Manager) round(ctx context.Context, pods Pods, all bool) error {
	var chosen []*corev1.Pod
	for _, p := range pods.Pods() {
		if !pod.Terminal(p) && (all || limited(p)) {
			chosen = append(chosen, p)
		}
	}
	uses, over := map[types.UID]diskUse{}, map[types.UID]bool{}
	var failed []error
	if len(chosen) > 0 {
		list, cancel := context.WithTimeout(ctx, answer)
		l, err := m.parts.Runtime.List(list)
		cancel()
		if err != nil {
			return fmt.Errorf("listing containers: %w", err)
		}
		newest := map[string]map[string]containers.Container{}
		for _, c := range l.Containers {
			if newest[c.PodUID] == nil {
				newest[c.PodUID] = map[string]containers.Container{}
			}
			if was, ok := newest[c.PodUID][c.Name]; !ok || was.Attempt < c.Attempt {
				newest[c.PodUID][c.Name] = c
			}
		}
		for _, p := range chosen {
			use, err := m.of(ctx, p, newest[string(p.UID)])
			if err != nil {
				failed = append(failed, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err))
			}
			uses[p.UID] = use
			if m.over[p.UID] {
				over[p.UID] = true
			}
			if limit, text := overLimit(p, use); limit != "" && !pod.Critical(p) && !m.over[p.UID] {
				over[p.UID] = true
				m.count.WithLabelValues(string(limit)).Inc()
				pods.Evict(p.UID, reason, text, 0, "")
			}
		}
	}
	m.over = over
	m.mu.Lock()
	m.uses = uses
	if all {
		m.measured = time.Now()
	}
	m.mu.Unlock()
	return errors.Join(failed...)
}

// of measures one pod.
func (m *Manager) of(ctx context.Context, p *corev1.Pod, records map[string]containers.Container) (diskUse, error) {
	use := diskUse{volumes: map[string]amounts{}, containers: map[string]amounts{}, logs: map[string]amounts{}}
	var failed []error
	folder := func(path string) amounts {
		f, err := stats.FolderOf(ctx, path)
		if err != nil {
			failed = append(failed, err)
		}
		return amounts{int64(f.Bytes), int64(f.Inodes)}
	}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; onDisk(v.EmptyDir) {
			use.volumes[v.Name] = folder(volumes.EmptyDir(m.cfg.Root, p.UID, v.Name))
		}
	}
	for name, c := range records {
		one, cancel := context.WithTimeout(ctx, thorough)
		layer, err := m.parts.Runtime.LayerUsage(one, c.ID)
		cancel()
		if err != nil && !errors.Is(err, containers.ErrNotFound) {
			failed = append(failed, err)
		}
		use.containers[name] = amounts{layer.Bytes, layer.Inodes}
		use.logs[name] = folder(filepath.Join(logs.PodDir(m.cfg.Logs, p.Namespace, p.Name, string(p.UID)), name))
	}
	return use, errors.Join(failed...)
}
