package stats

import (
	"time"

	"pilothouse.dev/kubelet/cgroups"
)

// family is one name of /metrics/cadvisor, and how its rows are made of a group.
type family struct {
	name, kind, help string
	rows             func(p *page, s *subject)
}

// gauge and counter are families of one row a group.
func gauge(name, help string, v func(s *subject) float64) family {
	return family{name, "gauge", help, func(p *page, s *subject) { p.row(s.labels, v(s)) }}
}

func counter(name, help string, v func(s *subject) float64) family {
	return family{name, "counter", help, func(p *page, s *subject) { p.row(s.labels, v(s)) }}
}

// when leaves out groups of which the value says nothing.
func (f family) when(is func(s *subject) bool) family {
	rows := f.rows
	f.rows = func(p *page, s *subject) {
		if is(s) {
			rows(p, s)
		}
	}
	return f
}

func (s *subject) contained() bool { return s.ctr != nil }
func (s *subject) quota() bool     { return s.detail.Quota > 0 || s.detail.Periods > 0 }
func (s *subject) measured() bool  { return s.disk != nil && s.disk.UsedBytes != nil }
func (s *subject) open() bool      { return s.counted }

// network is a family of one row an interface.
func network(name, help string, v func(l *link) uint64) family {
	return family{name, "counter", help, func(p *page, s *subject) {
		for i := range s.links {
			p.row(s.labels, float64(v(&s.links[i])), "interface", s.links[i].name)
		}
	}}
}

// disk is a family of one row a device.
func disk(name, help string, v func(d *cgroups.DiskIO) uint64) family {
	return family{name, "counter", help, func(p *page, s *subject) {
		s.io(func(d *cgroups.DiskIO, device string) { p.row(s.labels, float64(v(d)), "device", device) })
	}}
}

// volume is a family of one row a file system.
func volume(name, help string, v func(s *subject) *uint64) family {
	return family{name, "gauge", help, func(p *page, s *subject) {
		if n := v(s); n != nil {
			p.row(s.labels, float64(*n), "device", s.device)
		}
	}}.when((*subject).measured)
}

// pressure is a family of groups on kernels that tell how long processes waited.
func pressure(name, help string, of func(d *cgroups.Detail) *cgroups.Pressure, line func(p *cgroups.Pressure) cgroups.Stall) family {
	return family{name, "counter", help, func(p *page, s *subject) {
		if pr := of(&s.detail); pr != nil {
			p.row(s.labels, line(pr).Total.Seconds())
		}
	}}
}

func some(p *cgroups.Pressure) cgroups.Stall { return p.Some }
func full(p *cgroups.Pressure) cgroups.Stall { return p.Full }

func cpuPressure(d *cgroups.Detail) *cgroups.Pressure    { return d.CPUPressure }
func memoryPressure(d *cgroups.Detail) *cgroups.Pressure { return d.MemoryPressure }
func ioPressure(d *cgroups.Detail) *cgroups.Pressure     { return d.IOPressure }

// cpus is a family of processor time, which has a label for the processor.
func cpus(name, help string, v func(s *subject) time.Duration) family {
	return family{name, "counter", help, func(p *page, s *subject) { p.row(s.labels, v(s).Seconds(), "cpu", "total") }}
}

// families are all names of groups, in their order on the page.
var families = []family{
	counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", func(s *subject) float64 { return float64(s.detail.Periods) }).when((*subject).quota),
	counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", func(s *subject) float64 { return float64(s.detail.Throttled) }).when((*subject).quota),
	counter("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", func(s *subject) float64 { return s.detail.ThrottledFor.Seconds() }).when((*subject).quota),
	gauge("container_cpu_load_average_10s", "Value of container cpu load average over the last 10 seconds.", func(*subject) float64 { return 0 }),
	counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", func(s *subject) float64 { return s.detail.System.Seconds() }),
	cpus("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", func(s *subject) time.Duration { return s.detail.CPU }),
	counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", func(s *subject) float64 { return s.detail.User.Seconds() }),
	gauge("container_file_descriptors", "Number of open file descriptors for the container.", func(s *subject) float64 { return s.files }).when((*subject).open),
	volume("container_fs_inodes_free", "Number of available Inodes", func(s *subject) *uint64 { return s.disk.InodesFree }),
	volume("container_fs_inodes_total", "Number of Inodes", func(s *subject) *uint64 { return s.disk.Inodes }),
	volume("container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", func(s *subject) *uint64 { return s.disk.CapacityBytes }),
	disk("container_fs_reads_bytes_total", "Cumulative count of bytes read", func(d *cgroups.DiskIO) uint64 { return d.ReadBytes }),
	disk("container_fs_reads_total", "Cumulative count of reads completed", func(d *cgroups.DiskIO) uint64 { return d.Reads }),
	volume("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", func(s *subject) *uint64 { return s.disk.UsedBytes }),
	disk("container_fs_writes_bytes_total", "Cumulative count of bytes written", func(d *cgroups.DiskIO) uint64 { return d.WriteBytes }),
	disk("container_fs_writes_total", "Cumulative count of writes completed", func(d *cgroups.DiskIO) uint64 { return d.Writes }),
	gauge("container_last_seen", "Last time a container was seen by the exporter", func(s *subject) float64 { return float64(s.detail.Time.Unix()) }),
	gauge("container_memory_cache", "Number of bytes of page cache memory.", func(s *subject) float64 { return float64(s.detail.Cache) }),
	counter("container_memory_failcnt", "Number of memory usage hits limits", func(s *subject) float64 { return float64(s.detail.FailCount) }),
	{"container_memory_failures_total", "counter", "Cumulative count of memory allocation failures.", func(p *page, s *subject) {
		p.row(s.labels, float64(s.detail.PageFaults), "failure_type", "pgfault", "scope", "hierarchy")
		p.row(s.labels, float64(s.detail.MajorPageFaults), "failure_type", "pgmajfault", "scope", "hierarchy")
	}},
	gauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", func(s *subject) float64 { return float64(s.detail.Kernel) }),
	gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.", func(s *subject) float64 { return float64(s.detail.Mapped) }),
	gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", func(s *subject) float64 { return float64(s.detail.MaxUsage) }),
	gauge("container_memory_rss", "Size of RSS in bytes.", func(s *subject) float64 { return float64(s.detail.RSS) }),
	gauge("container_memory_swap", "Container swap usage in bytes.", func(s *subject) float64 { return float64(s.detail.Swap) }),
	gauge("container_memory_total_active_file_bytes", "Current total active file in bytes.", func(s *subject) float64 { return float64(s.detail.ActiveFile) }),
	gauge("container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", func(s *subject) float64 { return float64(s.detail.InactiveFile) }),
	gauge("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", func(s *subject) float64 { return float64(s.detail.MemoryUsage) }),
	gauge("container_memory_working_set_bytes", "Current working set in bytes.", func(s *subject) float64 { return float64(s.detail.WorkingSet) }),
	network("container_network_receive_bytes_total", "Cumulative count of bytes received", func(l *link) uint64 { return l.rx }),
	network("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", func(l *link) uint64 { return l.rxErrs }),
	network("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", func(l *link) uint64 { return l.rxDrops }),
	network("container_network_receive_packets_total", "Cumulative count of packets received", func(l *link) uint64 { return l.rxPackets }),
	network("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", func(l *link) uint64 { return l.tx }),
	network("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", func(l *link) uint64 { return l.txErrs }),
	network("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", func(l *link) uint64 { return l.txDrops }),
	network("container_network_transmit_packets_total", "Cumulative count of packets transmitted", func(l *link) uint64 { return l.txPackets }),
	counter("container_oom_events_total", "Count of out of memory events observed for the container", func(s *subject) float64 { return float64(s.detail.OOMKills) }),
	pressure("container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", cpuPressure, full),
	pressure("container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", cpuPressure, some),
	pressure("container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", ioPressure, full),
	pressure("container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", ioPressure, some),
	pressure("container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", memoryPressure, full),
	pressure("container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", memoryPressure, some),
	gauge("container_processes", "Number of processes running inside the container.", func(s *subject) float64 { return float64(len(s.detail.Processes)) }).when((*subject).contained),
	gauge("container_sockets", "Number of open sockets for the container.", func(s *subject) float64 { return s.sockets }).when((*subject).open),
	gauge("container_spec_cpu_period", "CPU period of the container.", func(s *subject) float64 { return float64(s.detail.Period) }),
	gauge("container_spec_cpu_quota", "CPU quota of the container.", func(s *subject) float64 { return float64(s.detail.Quota) }).when(func(s *subject) bool { return s.detail.Quota > 0 }),
	gauge("container_spec_cpu_shares", "CPU share of the container.", func(s *subject) float64 { return float64(s.detail.Shares) }),
	gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", func(s *subject) float64 { return float64(s.detail.MemoryLimit) }),
	gauge("container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", func(s *subject) float64 { return float64(s.detail.SoftLimit) }),
	gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", func(s *subject) float64 { return float64(s.detail.SwapLimit) }),
	gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", func(s *subject) float64 { return float64(s.start.Unix()) }),
	gauge("container_threads", "Number of threads running inside the container", func(s *subject) float64 { return float64(s.detail.PIDs) }),
	gauge("container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", func(s *subject) float64 { return float64(s.detail.PIDLimit) }),
}
