package cgroups

import (
	"bytes"
	"path/filepath"
	"time"
)

// counters are the hierarchies of v1 that count; «» for one that is not mounted.
type counters struct{ cpu, cpuacct, memory, pids, blkio string }

func (l v1) counters() (counters, error) {
	var c counters
	for name, to := range map[string]*string{"cpu": &c.cpu, "cpuacct": &c.cpuacct, "memory": &c.memory, "pids": &c.pids} {
		dir, err := l.controller(name)
		if err != nil {
			return c, err
		}
		*to = dir
	}
	if dir, err := l.controller("blkio"); err == nil {
		c.blkio = dir
	}
	return c, nil
}

// hundredths: the kernel counts user and system time in them.
const hundredths = time.Second / 100

func (c counters) detail(path string, d *Detail, g *glass) error {
	dir := filepath.Join(c.cpuacct, path)
	text, err := g.file(dir, "cpuacct.usage")
	if err != nil {
		return err
	}
	ns, _ := unsigned(bytes.TrimSpace(text))
	d.CPU = time.Duration(ns)
	if err := g.pairs(dir, "cpuacct.stat", func(name []byte, n uint64) {
		switch string(name) {
		case "user":
			d.User = time.Duration(n) * hundredths
		case "system":
			d.System = time.Duration(n) * hundredths
		}
	}); err != nil {
		return err
	}
	dir = filepath.Join(c.cpu, path)
	if err := g.pairs(dir, "cpu.stat", func(name []byte, n uint64) {
		switch string(name) {
		case "nr_periods":
			d.Periods = n
		case "nr_throttled":
			d.Throttled = n
		case "throttled_time":
			d.ThrottledFor = time.Duration(n)
		}
	}); err != nil {
		return err
	}
	d.Shares, d.Quota, d.Period = g.number(dir, "cpu.shares"), g.number(dir, "cpu.cfs_quota_us"), g.number(dir, "cpu.cfs_period_us")
	if err := c.memoryOf(filepath.Join(c.memory, path), d, g); err != nil {
		return err
	}
	dir = filepath.Join(c.pids, path)
	d.PIDs, d.PIDLimit = g.number(dir, "pids.current"), g.number(dir, "pids.max")
	d.processes(dir, g)
	if c.blkio != "" {
		dir = filepath.Join(c.blkio, path)
		c.disks(dir, "blkio.throttle.io_service_bytes_recursive", d, g, func(io *DiskIO) (*uint64, *uint64) { return &io.ReadBytes, &io.WriteBytes })
		c.disks(dir, "blkio.throttle.io_serviced_recursive", d, g, func(io *DiskIO) (*uint64, *uint64) { return &io.Reads, &io.Writes })
	}
	return nil
}

func (c counters) memoryOf(dir string, d *Detail, g *glass) error {
	err := g.pairs(dir, "memory.stat", func(name []byte, n uint64) {
		switch string(name) {
		case "total_cache":
			d.Cache = n
		case "total_rss":
			d.RSS = n
		case "total_mapped_file":
			d.Mapped = n
		case "total_swap":
			d.Swap = n
		case "total_pgfault":
			d.PageFaults = n
		case "total_pgmajfault":
			d.MajorPageFaults = n
		case "total_active_file":
			d.ActiveFile = n
		case "total_inactive_file":
			d.InactiveFile = n
		}
	})
	if err != nil {
		return err
	}
	bounded := func(name string) uint64 {
		if n := g.number(dir, name); n < noLimitFrom {
			return n
		}
		return 0
	}
	d.MemoryUsage, d.MaxUsage, d.FailCount = g.number(dir, "memory.usage_in_bytes"), g.number(dir, "memory.max_usage_in_bytes"), g.number(dir, "memory.failcnt")
	d.MemoryLimit, d.SwapLimit, d.SoftLimit = bounded("memory.limit_in_bytes"), bounded("memory.memsw.limit_in_bytes"), bounded("memory.soft_limit_in_bytes")
	d.Kernel = g.number(dir, "memory.kmem.usage_in_bytes")
	d.WorkingSet = d.MemoryUsage - min(d.InactiveFile, d.MemoryUsage)
	return g.pairs(dir, "memory.oom_control", func(name []byte, n uint64) {
		if string(name) == "oom_kill" {
			d.OOMKills = n
		}
	})
}

// disks reads lines «MAJOR:MINOR Read 123».
func (c counters) disks(dir, name string, d *Detail, g *glass, to func(*DiskIO) (reads, writes *uint64)) {
	text, err := g.file(dir, name)
	if err != nil {
		return // not every kernel has it
	}
	for line := range bytes.Lines(text) {
		device, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte{' '})
		what, count, _ := bytes.Cut(rest, []byte{' '})
		n, ok := unsigned(count)
		if !ok || len(what) == 0 || what[0] != 'R' && what[0] != 'W' {
			continue
		}
		io := d.disk(device)
		if io == nil {
			continue
		}
		reads, writes := to(io)
		switch string(what) {
		case "Read":
			*reads = n
		case "Write":
			*writes = n
		}
	}
}
