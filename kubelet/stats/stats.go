// Package stats turns what control groups and the machine count into the Summary and the metrics that users and metrics-server read.
//
// The kubelet's server calls it, for each request anew: nothing is gathered in between. What always holds: a container that ended while
// it was being read is left out, not an error.
package stats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// Runtime lists containers.
type Runtime interface {
	List(ctx context.Context) (containers.Listing, error)
}

// Groups reads control groups.
type Groups interface {
	Stats(path string) (cgroups.Stats, error)
	PodPath(qos corev1.PodQOSClass, podUID string) string
}

// Pods are those of this node.
type Pods interface {
	Pods() []*corev1.Pod
}

// Stats reads the numbers of one node.
type Stats struct {
	node, root string
	rt         Runtime
	groups     Groups
	pods       Pods
	started    time.Time
}

// New stores what it is given; root is the kubelet's folder, whose disk is the node's.
func New(node, root string, rt Runtime, groups Groups, pods Pods) *Stats {
	return &Stats{node: node, root: root, rt: rt, groups: groups, pods: pods, started: time.Now()}
}

// Summary is what the node and its pods use.
func (s *Stats) Summary(ctx context.Context) (*statsv1.Summary, error) {
	l, err := s.rt.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	sum := &statsv1.Summary{Node: statsv1.NodeStats{NodeName: s.node, StartTime: metav1.NewTime(s.started), Fs: diskOf(s.root)}, Pods: []statsv1.PodStats{}}
	now, busy, err := machineCPU()
	if err != nil {
		return nil, err
	}
	sum.Node.CPU = &statsv1.CPUStats{Time: metav1.NewTime(now), UsageCoreNanoSeconds: new(uint64(busy))}
	if sum.Node.Memory, err = machineMemory(now); err != nil {
		return nil, err
	}
	for _, p := range s.pods.Pods() {
		ps := statsv1.PodStats{PodRef: statsv1.PodReference{Name: p.Name, Namespace: p.Namespace, UID: string(p.UID)}, Containers: []statsv1.ContainerStats{}}
		if p.Status.StartTime != nil {
			ps.StartTime = *p.Status.StartTime
		}
		all, err := s.groups.Stats(s.groups.PodPath(pod.QoS(p), string(p.UID)))
		if errors.Is(err, cgroups.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading pod %s/%s: %w", p.Namespace, p.Name, err)
		}
		ps.CPU, ps.Memory = cpu(all), memory(all)
		ps.ProcessStats = &statsv1.ProcessStats{ProcessCount: new(all.PIDs)}
		for _, c := range l.Containers {
			if c.PodUID != string(p.UID) || c.State != containers.Running {
				continue
			}
			one, err := s.groups.Stats(c.CgroupPath)
			if errors.Is(err, cgroups.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("reading container %s of pod %s/%s: %w", c.Name, p.Namespace, p.Name, err)
			}
			ps.Containers = append(ps.Containers, statsv1.ContainerStats{Name: c.Name, StartTime: metav1.NewTime(c.Started), CPU: cpu(one), Memory: memory(one)})
		}
		sum.Pods = append(sum.Pods, ps)
	}
	return sum, nil
}

func cpu(s cgroups.Stats) *statsv1.CPUStats {
	return &statsv1.CPUStats{Time: metav1.NewTime(s.Time), UsageCoreNanoSeconds: new(uint64(s.CPU))}
}

func memory(s cgroups.Stats) *statsv1.MemoryStats {
	m := &statsv1.MemoryStats{Time: metav1.NewTime(s.Time), UsageBytes: new(s.MemoryUsage), WorkingSetBytes: new(s.WorkingSet), RSSBytes: new(s.RSS),
		PageFaults: new(s.PageFaults), MajorPageFaults: new(s.MajorPageFaults)}
	if s.MemoryLimit > s.WorkingSet {
		m.AvailableBytes = new(s.MemoryLimit - s.WorkingSet)
	}
	return m
}

func diskOf(path string) *statsv1.FsStats {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil
	}
	size := uint64(fs.Bsize)
	return &statsv1.FsStats{Time: metav1.Now(), AvailableBytes: new(fs.Bavail * size), CapacityBytes: new(fs.Blocks * size),
		UsedBytes: new((fs.Blocks - fs.Bfree) * size), Inodes: new(fs.Files), InodesFree: new(fs.Ffree), InodesUsed: new(fs.Files - fs.Ffree)}
}

// machineCPU is the processor time that all processes of the machine have used.
func machineCPU() (time.Time, time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("reading processor time: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var ticks uint64
	for i, word := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle and waiting for the disk; guests are in user time
			continue
		}
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return time.Time{}, 0, fmt.Errorf("reading processor time: %w", err)
		}
		ticks += n
	}
	return time.Now(), time.Duration(ticks) * (time.Second / 100), nil // the kernel shows hundredths on every machine
}

func machineMemory(now time.Time) (*statsv1.MemoryStats, error) {
	have, err := Memory()
	if err != nil {
		return nil, err
	}
	used := have["MemTotal"] - have["MemFree"]
	return &statsv1.MemoryStats{Time: metav1.NewTime(now), AvailableBytes: new(have["MemAvailable"]), UsageBytes: &used,
		WorkingSetBytes: new(have["MemTotal"] - have["MemAvailable"]), RSSBytes: new(have["AnonPages"])}, nil
}

// Memory is what the machine says of its memory, in bytes by the kernel's names.
func Memory() (map[string]uint64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("reading memory: %w", err)
	}
	have := map[string]uint64{}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		words := strings.Fields(rest)
		if len(words) == 0 {
			continue
		}
		n, err := strconv.ParseUint(words[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading memory: %w", err)
		}
		have[name] = n * 1024
	}
	return have, nil
}
