package stats

import (
	"context"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"pilothouse.dev/kubelet/cgroups"
)

// subject is a control group with what else is known of it, for one scrape.
type subject struct {
	*group
	labels string // container, id, image, name, namespace and pod
	links  []link // of a pod, on its own group
	disk   *statsv1.FsStats
	device string            // of that disk
	names  map[uint64]string // of devices, for all subjects

	files, sockets float64
	counted        bool // the two above
	start          time.Time
}

// WriteContainers writes the numbers of machine, pods and containers under the names and labels of cAdvisor, which dashboards look for
// (https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md). Rows of a pod have an empty container, those of groups above pods an empty
// pod too. The error is that nothing could be read, or that w fails.
func (s *Stats) WriteContainers(ctx context.Context, w io.Writer) error {
	seen, err := s.look(ctx, true)
	if err != nil {
		return err
	}
	p := &page{w: w, buf: make([]byte, 0, 64<<10)}
	all := s.subjects(ctx, seen)
	for i := range families {
		f := &families[i]
		p.family(f.name, f.kind, f.help)
		for j := range all {
			f.rows(p, &all[j])
		}
	}
	s.writeMachine(p)
	p.flush()
	return p.fail
}

// subjects gathers for each group what is no control group's business.
func (s *Stats) subjects(ctx context.Context, seen *sight) []subject {
	d, devices := s.disks(ctx), map[uint64]string{}
	images := device(devices, s.imageDevice(ctx))
	counting, stop := context.WithTimeout(ctx, patience)
	defer stop()
	all := make([]subject, 0, len(seen.groups))
	own := -1 // of the pod that the next containers are of
	for i := range seen.groups {
		g := &seen.groups[i]
		sub := subject{group: g, start: s.started, names: devices}
		var container, image, name, namespace, pod string
		if g.pod != nil {
			namespace, pod = g.pod.Namespace, g.pod.Name
			if g.pod.Status.StartTime != nil {
				sub.start = g.pod.Status.StartTime.Time
			}
		}
		switch {
		case g.ctr != nil:
			container, image, name, sub.start = g.ctr.Name, g.ctr.Image, g.ctr.ID, g.ctr.Started
			sub.disk, sub.device = s.layer(counting, d, g.ctr), images
			if own >= 0 && all[own].links == nil && !g.pod.Spec.HostNetwork {
				all[own].links = netOf(g.ctr.PID)
			}
			sub.countFiles()
		case g.pod != nil:
			own = len(all)
		case g.path == "/":
			sub.disk, sub.device, sub.links = d.node, device(devices, deviceOf(s.cfg.Root)), netOf(os.Getpid())
		}
		var b []byte
		for _, l := range [...][2]string{{"container", container}, {"id", g.path}, {"image", image}, {"name", name}, {"namespace", namespace}, {"pod", pod}} {
			if len(b) > 0 {
				b = append(b, ',')
			}
			b = label(b, l[0], l[1])
		}
		sub.labels = string(b)
		all = append(all, sub)
	}
	return all
}

func (s *Stats) imageDevice(ctx context.Context) uint64 {
	if folder, err := s.parts.Runtime.Folder(ctx); err == nil && folder != "" {
		return deviceOf(folder)
	}
	return deviceOf(s.cfg.Root)
}

func deviceOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Dev
}

// device is the name of a disk, as /dev/vda; its numbers if the kernel does not tell.
func device(known map[uint64]string, dev uint64) string {
	if name, ok := known[dev]; ok {
		return name
	}
	name := deviceName(unix.Major(dev), unix.Minor(dev))
	known[dev] = name
	return name
}

func deviceName(major, minor uint32) string {
	numbers := strconv.Itoa(int(major)) + ":" + strconv.Itoa(int(minor))
	text, err := os.ReadFile("/sys/dev/block/" + numbers + "/uevent")
	if err != nil {
		return numbers
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return "/dev/" + name
		}
	}
	return numbers
}

// countFiles counts open files and sockets of a container's processes.
func (s *subject) countFiles() {
	for _, pid := range s.detail.Processes {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		f, err := os.Open(dir)
		if err != nil {
			continue // it has ended
		}
		names, err := f.Readdirnames(-1)
		f.Close()
		if err != nil {
			continue
		}
		s.counted = true
		var to [16]byte
		for _, name := range names {
			s.files++
			if n, err := unix.Readlink(dir+"/"+name, to[:]); err == nil && n >= 7 && string(to[:7]) == "socket:" {
				s.sockets++
			}
		}
	}
}

// writeMachine writes what is there once a machine.
func (s *Stats) writeMachine(p *page) {
	p.family("cadvisor_version_info", "gauge", "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.")
	p.row("", 1, "cadvisorRevision", "", "cadvisorVersion", "", "dockerVersion", "", "kernelVersion", kernel(), "osVersion", system())
	boot, id := text("/proc/sys/kernel/random/boot_id"), text("/etc/machine-id")
	labels := []string{"boot_id", boot, "machine_id", id, "system_uuid", text("/sys/class/dmi/id/product_uuid")}
	p.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.")
	p.row("", float64(runtime.NumCPU()), labels...)
	cores, sockets := topology()
	p.family("machine_cpu_physical_cores", "gauge", "Number of physical CPU cores.")
	p.row("", float64(cores), labels...)
	p.family("machine_cpu_sockets", "gauge", "Number of CPU sockets.")
	p.row("", float64(sockets), labels...)
	have, err := Memory()
	failed := 0.0
	if err != nil {
		failed = 1
	}
	p.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.")
	p.row("", float64(have["MemTotal"]), labels...)
	p.family("machine_swap_bytes", "gauge", "Amount of swap memory available on the machine.")
	p.row("", float64(have["SwapTotal"]), labels...)
	p.family("machine_scrape_error", "gauge", "1 if there was an error while getting machine metrics, 0 otherwise.")
	p.row("", failed)
	p.family("container_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
	p.row("", 0)
}

// topology counts cores and sockets of the processors that are there.
func topology() (cores, sockets int) {
	all, packages := map[string]bool{}, map[string]bool{}
	for i := range runtime.NumCPU() {
		dir := "/sys/devices/system/cpu/cpu" + strconv.Itoa(i) + "/topology/"
		pkg, core := text(dir+"physical_package_id"), text(dir+"core_id")
		packages[pkg], all[pkg+"/"+core] = true, true
	}
	return len(all), len(packages)
}

// text is a small file's only line; «» if it cannot be read.
func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func kernel() string { return text("/proc/sys/kernel/osrelease") }

func system() string {
	for line := range strings.Lines(text("/etc/os-release")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "Linux"
}

// io calls row for each disk that the group used.
func (s *subject) io(row func(d *cgroups.DiskIO, device string)) {
	for i := range s.detail.Disks {
		d := &s.detail.Disks[i]
		row(d, device(s.names, unix.Mkdev(d.Major, d.Minor)))
	}
}
