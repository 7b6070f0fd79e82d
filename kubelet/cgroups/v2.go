package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// v2 is a machine with the one unified hierarchy.
type v2 struct{ root string }

func (l v2) hierarchies() ([]string, error) { return []string{l.root}, nil }

// wanted controllers; the first three must be there.
var wanted = []string{"cpu", "memory", "pids", "cpuset", "io", "hugetlb"}

const needed = 3

// create hands the controllers down at every level above the group. The group itself hands them to its children too, unless processes
// already live in it, which the kernel forbids.
func (l v2) create(path string) error {
	if err := handDown(l.root); err != nil {
		return err
	}
	all := levels(l.root, path)
	for i, dir := range all {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := handDown(dir); err != nil && i < len(all)-1 {
			return err
		}
	}
	return nil
}

func handDown(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	have := strings.Fields(string(raw))
	for i, c := range wanted {
		if !slices.Contains(have, c) {
			if i < needed {
				return fmt.Errorf("controller %s is not available in %s", c, dir)
			}
			continue
		}
		if err := write(dir, "cgroup.subtree_control", "+"+c); err != nil {
			return err
		}
	}
	return nil
}

func (l v2) set(path string, res Resources) error {
	dir := filepath.Join(l.root, path)
	if res.CPUShares > 0 {
		if err := write(dir, "cpu.weight", strconv.FormatUint(weightFromShares(res.CPUShares), 10)); err != nil {
			return err
		}
	}
	if res.CPUPeriod > 0 {
		if err := write(dir, "cpu.max", fmt.Sprintf("%s %d", limitOrMax(res.CPUQuota), res.CPUPeriod)); err != nil {
			return err
		}
	}
	if res.CPUSet != "" {
		if err := write(dir, "cpuset.cpus", res.CPUSet); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		file  string
		value int64
		text  string
	}{
		{"memory.max", res.Memory, limitOrMax(res.Memory)},
		{"memory.min", res.MemoryMin, strconv.FormatInt(max(res.MemoryMin, 0), 10)},
		{"memory.low", res.MemoryLow, strconv.FormatInt(max(res.MemoryLow, 0), 10)},
		{"memory.high", res.MemoryHigh, limitOrMax(res.MemoryHigh)},
		{"pids.max", res.PIDs, limitOrMax(res.PIDs)},
	} {
		if s.value == 0 {
			continue
		}
		if err := write(dir, s.file, s.text); err != nil {
			return err
		}
	}
	if res.NoSwap {
		if err := write(dir, "memory.swap.max", "0"); err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without swap has no such file
			return err
		}
	}
	return setHugePages(dir, res.HugePages, ".max")
}

func (l v2) limitsHugePages() bool {
	raw, err := os.ReadFile(filepath.Join(l.root, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(raw)), "hugetlb")
}

func (l v2) actual(path string) (Actual, error) {
	var a Actual
	dir := filepath.Join(l.root, path)
	var err error
	if a.Weight, err = readNumber(dir, "cpu.weight"); err != nil {
		return a, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cpu.max"))
	if err != nil {
		return a, err
	}
	a.CPUQuota = -1
	if _, err := fmt.Sscanf(string(raw), "max %d", &a.CPUPeriod); err != nil {
		if _, err := fmt.Sscanf(string(raw), "%d %d", &a.CPUQuota, &a.CPUPeriod); err != nil {
			return a, fmt.Errorf("reading cpu.max: %w", err)
		}
	}
	limit, err := readNumber(dir, "memory.max")
	if a.Memory = int64(limit); limit == 0 { // «max»
		a.Memory = -1
	}
	return a, err
}

func (l v2) stats(path string) (Stats, error) {
	var s Stats
	dir := filepath.Join(l.root, path)
	cpu, err := readTable(dir, "cpu.stat")
	if err != nil {
		return s, err
	}
	s.CPU = time.Duration(cpu["usage_usec"]) * time.Microsecond
	if s.MemoryUsage, err = readNumber(dir, "memory.current"); err != nil {
		return s, err
	}
	if s.MemoryLimit, err = readNumber(dir, "memory.max"); err != nil {
		return s, err
	}
	table, err := readTable(dir, "memory.stat")
	if err != nil {
		return s, err
	}
	s.WorkingSet = s.MemoryUsage - min(table["inactive_file"], s.MemoryUsage)
	s.RSS = table["anon"]
	s.PageFaults, s.MajorPageFaults = table["pgfault"], table["pgmajfault"]
	events, err := readTable(dir, "memory.events")
	if err != nil {
		return s, err
	}
	s.OOMKills = events["oom_kill"]
	s.PIDs, err = readNumber(dir, "pids.current")
	return s, err
}
