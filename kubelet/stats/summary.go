package stats

import (
	"context"
	"errors"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/pkg/pod"
)

func qosOf(p *corev1.Pod) corev1.PodQOSClass { return pod.QoS(p) }

func isGone(err error) bool { return errors.Is(err, cgroups.ErrNotFound) }

// Summary is what the node and its pods use.
func (s *Stats) Summary(ctx context.Context) (*statsv1.Summary, error) {
	seen, err := s.look(ctx, true)
	if err != nil {
		return nil, err
	}
	s.measured.tidy()
	d := s.disks(ctx)
	sum := &statsv1.Summary{Node: statsv1.NodeStats{NodeName: s.cfg.Node, StartTime: metav1.NewTime(s.started), Fs: d.node,
		Runtime: &statsv1.RuntimeStats{ImageFs: d.images, ContainerFs: d.images}}, Pods: []statsv1.PodStats{}}
	if err := s.machine(&sum.Node); err != nil {
		return nil, err
	}
	counting, stop := context.WithTimeout(ctx, patience)
	defer stop()
	var own *statsv1.PodStats
	var took Folder
	finish := func(p *corev1.Pod) {
		if own == nil {
			return
		}
		var vols Folder
		own.VolumeStats, vols = s.volumesOf(counting, d, p)
		own.EphemeralStorage = files(d, Folder{took.Bytes + vols.Bytes, took.Inodes + vols.Inodes}, time.Now())
		sum.Pods = append(sum.Pods, *own)
	}
	var last *corev1.Pod
	for i := range seen.groups {
		g := &seen.groups[i]
		switch {
		case g.pod == nil:
			if g.path == s.parts.Groups.KubepodsPath() {
				sum.Node.SystemContainers = append(sum.Node.SystemContainers, statsv1.ContainerStats{Name: statsv1.SystemContainerPods,
					StartTime: metav1.NewTime(s.started), CPU: g.cpu(), Memory: g.memory(), Swap: g.swap()})
			}
		case g.ctr == nil:
			finish(last)
			last, took = g.pod, Folder{}
			own = &statsv1.PodStats{PodRef: statsv1.PodReference{Name: g.pod.Name, Namespace: g.pod.Namespace, UID: string(g.pod.UID)},
				Containers: []statsv1.ContainerStats{}, CPU: g.cpu(), Memory: g.memory(), IO: g.io(), Swap: g.swap(), ProcessStats: &statsv1.ProcessStats{ProcessCount: new(g.detail.PIDs)}}
			if g.pod.Status.StartTime != nil {
				own.StartTime = *g.pod.Status.StartTime
			}
		default:
			c := statsv1.ContainerStats{Name: g.ctr.Name, StartTime: metav1.NewTime(g.ctr.Started), CPU: g.cpu(), Memory: g.memory(), IO: g.io(), Swap: g.swap()}
			c.Rootfs = s.layer(counting, d, g.ctr)
			c.Logs = s.folder(counting, d, s.logsOf(g.pod, g.ctr.Name))
			for _, fs := range []*statsv1.FsStats{c.Rootfs, c.Logs} {
				if fs != nil {
					took.Bytes, took.Inodes = took.Bytes+*fs.UsedBytes, took.Inodes+*fs.InodesUsed
				}
			}
			own.Containers = append(own.Containers, c)
			if own.Network == nil && !g.pod.Spec.HostNetwork {
				own.Network = networkStats(netOf(g.ctr.PID), "eth0")
			}
		}
	}
	finish(last)
	return sum, nil
}

// machine fills in what the whole machine uses, and the kubelet of it.
func (s *Stats) machine(n *statsv1.NodeStats) error {
	now, busy, err := machineCPU()
	if err != nil {
		return err
	}
	n.CPU = &statsv1.CPUStats{Time: metav1.NewTime(now), UsageCoreNanoSeconds: new(uint64(busy)), UsageNanoCores: s.machineRate(now, busy), PSI: psi(cgroups.ReadPressure("/proc/pressure", "cpu"))}
	have, err := Memory()
	if err != nil {
		return err
	}
	n.Memory = machineMemory(now, have)
	if p := cgroups.ReadPressure("/proc/pressure", "io"); p != nil {
		n.IO = &statsv1.IOStats{Time: metav1.NewTime(now), PSI: psi(p)}
	}
	n.Swap = &statsv1.SwapStats{Time: metav1.NewTime(now), SwapAvailableBytes: new(have["SwapFree"]), SwapUsageBytes: new(have["SwapTotal"] - have["SwapFree"])}
	n.Network = networkStats(netOf(os.Getpid()), defaultLink())
	if free, most, err := Processes(); err == nil {
		n.Rlimit = &statsv1.RlimitStats{Time: metav1.NewTime(now), MaxPID: new(int64(most)), NumOfRunningProcesses: new(int64(most - free))}
	}
	if own := self(now); own != nil {
		own.StartTime = metav1.NewTime(s.started)
		n.SystemContainers = append(n.SystemContainers, *own)
	}
	return nil
}

// machineRate is rate for the whole machine.
func (s *Stats) machineRate(now time.Time, busy time.Duration) *uint64 {
	g := []group{{path: "the machine", detail: cgroups.Detail{Stats: cgroups.Stats{Time: now, CPU: busy}}}}
	s.rate(g)
	return g[0].nanos
}

func (g *group) cpu() *statsv1.CPUStats {
	return &statsv1.CPUStats{Time: metav1.NewTime(g.detail.Time), UsageCoreNanoSeconds: new(uint64(g.detail.CPU)), UsageNanoCores: g.nanos, PSI: psi(g.detail.CPUPressure)}
}

func (g *group) memory() *statsv1.MemoryStats {
	d := &g.detail
	m := &statsv1.MemoryStats{Time: metav1.NewTime(d.Time), UsageBytes: new(d.MemoryUsage), WorkingSetBytes: new(d.WorkingSet), RSSBytes: new(d.RSS),
		PageFaults: new(d.PageFaults), MajorPageFaults: new(d.MajorPageFaults), PSI: psi(d.MemoryPressure)}
	if d.MemoryLimit > d.WorkingSet {
		m.AvailableBytes = new(d.MemoryLimit - d.WorkingSet)
	}
	return m
}

func (g *group) io() *statsv1.IOStats {
	if g.detail.IOPressure == nil {
		return nil
	}
	return &statsv1.IOStats{Time: metav1.NewTime(g.detail.Time), PSI: psi(g.detail.IOPressure)}
}

func (g *group) swap() *statsv1.SwapStats {
	return &statsv1.SwapStats{Time: metav1.NewTime(g.detail.Time), SwapAvailableBytes: new(g.swapLimit() - min(g.detail.Swap, g.swapLimit())), SwapUsageBytes: new(g.detail.Swap)}
}

// swapLimit is how much swap the group may have: none, unless the kernel says more (v1 bounds memory and swap together).
func (g *group) swapLimit() uint64 {
	if g.detail.SwapLimit > g.detail.MemoryLimit && g.detail.MemoryLimit > 0 {
		return g.detail.SwapLimit - g.detail.MemoryLimit
	}
	return 0
}

func psi(p *cgroups.Pressure) *statsv1.PSIStats {
	if p == nil {
		return nil
	}
	one := func(s cgroups.Stall) statsv1.PSIData {
		return statsv1.PSIData{Total: uint64(s.Total), Avg10: s.Avg10, Avg60: s.Avg60, Avg300: s.Avg300}
	}
	return &statsv1.PSIStats{Full: one(p.Full), Some: one(p.Some)}
}
