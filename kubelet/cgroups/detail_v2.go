package cgroups

import (
	"bytes"
	"path/filepath"
	"time"
)

func (l v2) detail(path string, d *Detail, g *glass) error {
	dir := filepath.Join(l.root, path)
	if err := g.pairs(dir, "cpu.stat", func(name []byte, n uint64) {
		switch string(name) {
		case "usage_usec":
			d.CPU = time.Duration(n) * time.Microsecond
		case "user_usec":
			d.User = time.Duration(n) * time.Microsecond
		case "system_usec":
			d.System = time.Duration(n) * time.Microsecond
		case "nr_periods":
			d.Periods = n
		case "nr_throttled":
			d.Throttled = n
		case "throttled_usec":
			d.ThrottledFor = time.Duration(n) * time.Microsecond
		}
	}); err != nil {
		return err
	}
	if text, err := g.file(dir, "cpu.max"); err == nil { // «max 100000»
		quota, period, _ := bytes.Cut(bytes.TrimSpace(text), []byte{' '})
		d.Quota, _ = unsigned(quota)
		d.Period, _ = unsigned(period)
	}
	if weight := g.number(dir, "cpu.weight"); weight > 0 {
		d.Shares = sharesFromWeight(weight)
	}
	if err := g.pairs(dir, "memory.stat", func(name []byte, n uint64) {
		switch string(name) {
		case "file":
			d.Cache = n
		case "anon":
			d.RSS = n
		case "file_mapped":
			d.Mapped = n
		case "kernel":
			d.Kernel = n
		case "pgfault":
			d.PageFaults = n
		case "pgmajfault":
			d.MajorPageFaults = n
		case "active_file":
			d.ActiveFile = n
		case "inactive_file":
			d.InactiveFile = n
		}
	}); err != nil {
		return err
	}
	d.MemoryUsage, d.MaxUsage, d.Swap = g.number(dir, "memory.current"), g.number(dir, "memory.peak"), g.number(dir, "memory.swap.current")
	d.MemoryLimit, d.SoftLimit, d.SwapLimit = g.number(dir, "memory.max"), g.number(dir, "memory.low"), g.number(dir, "memory.swap.max")
	d.WorkingSet = d.MemoryUsage - min(d.InactiveFile, d.MemoryUsage)
	if err := g.pairs(dir, "memory.events", func(name []byte, n uint64) {
		switch string(name) {
		case "max":
			d.FailCount = n
		case "oom_kill":
			d.OOMKills = n
		}
	}); err != nil && path != "/" { // the root has none
		return err
	}
	d.PIDs, d.PIDLimit = g.number(dir, "pids.current"), g.number(dir, "pids.max")
	d.processes(dir, g)
	l.disks(dir, d, g)
	d.CPUPressure, d.MemoryPressure, d.IOPressure = g.pressure(dir, "cpu.pressure"), g.pressure(dir, "memory.pressure"), g.pressure(dir, "io.pressure")
	return nil
}

// disks reads lines «MAJOR:MINOR rbytes=1 wbytes=2 rios=3 wios=4 …».
func (l v2) disks(dir string, d *Detail, g *glass) {
	text, err := g.file(dir, "io.stat")
	if err != nil {
		return // the controller is not handed down here
	}
	for line := range bytes.Lines(text) {
		device, rest, _ := bytes.Cut(line, []byte{' '})
		io := d.disk(device)
		if io == nil {
			continue
		}
		for word := range bytes.FieldsSeq(rest) {
			key, count, _ := bytes.Cut(word, []byte{'='})
			n, _ := unsigned(count)
			switch string(key) {
			case "rbytes":
				io.ReadBytes = n
			case "wbytes":
				io.WriteBytes = n
			case "rios":
				io.Reads = n
			case "wios":
				io.Writes = n
			}
		}
	}
}
