package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// v1 is a machine on which each controller has its own hierarchy, a hybrid one included: there the v2 hierarchy is one more, without
// controllers.
type v1 struct{ root string }

// noLimitFrom is about where v1 writes «no limit»: the largest page-aligned number.
const noLimitFrom = 1 << 62

func (l v1) hierarchies() ([]string, error) {
	entries, err := os.ReadDir(l.root)
	if err != nil {
		return nil, err
	}
	var roots []string
	for _, e := range entries {
		dir := filepath.Join(l.root, e.Name())
		// Joined controllers have links as second names; only real mounts count.
		if !e.IsDir() {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, procsFile)); err == nil {
			roots = append(roots, dir)
		}
	}
	return roots, nil
}

// controller finds the hierarchy of one controller, mounted alone or joined with others.
func (l v1) controller(name string) (string, error) {
	dir := filepath.Join(l.root, name)
	if _, err := os.Stat(filepath.Join(dir, procsFile)); err == nil {
		return dir, nil
	}
	roots, err := l.hierarchies()
	if err != nil {
		return "", err
	}
	for _, root := range roots {
		for part := range strings.SplitSeq(filepath.Base(root), ",") {
			if part == name {
				return root, nil
			}
		}
	}
	return "", fmt.Errorf("controller %s: %w", name, fs.ErrNotExist)
}

func (l v1) create(path string) error {
	roots, err := l.hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		parent := root
		for _, dir := range levels(root, path) {
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := inheritCPUs(parent, dir); err != nil {
				return err
			}
			parent = dir
		}
	}
	return nil
}

// inheritCPUs copies a parent's processors and memory nodes: a new cpuset has none, and nothing can run in it.
func inheritCPUs(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // not the cpuset hierarchy
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(have)) != "" {
			continue
		}
		from, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := write(dir, file, strings.TrimSpace(string(from))); err != nil {
			return err
		}
	}
	return nil
}

func (l v1) set(path string, res Resources) error {
	type setting struct {
		controller, file, value string
		on                      bool
	}
	for _, s := range []setting{
		{"cpu", "cpu.shares", strconv.FormatUint(res.CPUShares, 10), res.CPUShares > 0},
		{"cpu", "cpu.cfs_period_us", strconv.FormatUint(res.CPUPeriod, 10), res.CPUPeriod > 0},
		{"cpu", "cpu.cfs_quota_us", strconv.FormatInt(res.CPUQuota, 10), res.CPUQuota != 0},
		{"memory", "memory.limit_in_bytes", strconv.FormatInt(res.Memory, 10), res.Memory != 0},
		{"cpuset", "cpuset.cpus", res.CPUSet, res.CPUSet != ""},
		{"pids", "pids.max", limitOrMax(res.PIDs), res.PIDs != 0},
	} {
		if !s.on {
			continue
		}
		root, err := l.controller(s.controller)
		if err != nil {
			return err
		}
		if err := l.setOne(filepath.Join(root, path), s.file, s.value); err != nil {
			return err
		}
	}
	if len(res.HugePages) == 0 {
		return nil
	}
	root, err := l.controller("hugetlb")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // this machine cannot limit them
	}
	if err != nil {
		return err
	}
	return setHugePages(filepath.Join(root, path), res.HugePages, ".limit_in_bytes")
}

// setOne writes memory in the order the kernel accepts: the limit with swap (memsw) is never below the one without.
func (l v1) setOne(dir, file, value string) error {
	const withSwap = "memory.memsw.limit_in_bytes"
	err := write(dir, file, value)
	if file != "memory.limit_in_bytes" {
		return err
	}
	if _, statErr := os.Stat(filepath.Join(dir, withSwap)); statErr != nil {
		return err // no swap accounting on this machine
	}
	if swapErr := write(dir, withSwap, value); swapErr != nil {
		return errors.Join(err, swapErr)
	}
	if err != nil {
		return write(dir, file, value)
	}
	return nil
}

func (l v1) limitsHugePages() bool {
	_, err := l.controller("hugetlb")
	return err == nil
}

func (l v1) actual(path string) (Actual, error) {
	var a Actual
	cpu, err := l.controller("cpu")
	if err != nil {
		return a, err
	}
	dir := filepath.Join(cpu, path)
	if a.Shares, err = readNumber(dir, "cpu.shares"); err != nil {
		return a, err
	}
	if a.CPUQuota, err = readSigned(dir, "cpu.cfs_quota_us"); err != nil {
		return a, err
	}
	if a.CPUPeriod, err = readNumber(dir, "cpu.cfs_period_us"); err != nil {
		return a, err
	}
	memory, err := l.controller("memory")
	if err != nil {
		return a, err
	}
	limit, err := readNumber(filepath.Join(memory, path), "memory.limit_in_bytes")
	if a.Memory = int64(limit); limit >= noLimitFrom {
		a.Memory = -1
	}
	return a, err
}

func limitOrMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func (l v1) stats(path string) (Stats, error) {
	var s Stats
	cpu, err := l.controller("cpuacct")
	if err != nil {
		return s, err
	}
	ns, err := readNumber(filepath.Join(cpu, path), "cpuacct.usage")
	if err != nil {
		return s, err
	}
	s.CPU = time.Duration(ns)
	root, err := l.controller("memory")
	if err != nil {
		return s, err
	}
	dir := filepath.Join(root, path)
	if s.MemoryUsage, err = readNumber(dir, "memory.usage_in_bytes"); err != nil {
		return s, err
	}
	if s.MemoryLimit, err = readNumber(dir, "memory.limit_in_bytes"); err != nil {
		return s, err
	}
	if s.MemoryLimit >= noLimitFrom {
		s.MemoryLimit = 0
	}
	table, err := readTable(dir, "memory.stat")
	if err != nil {
		return s, err
	}
	s.WorkingSet = s.MemoryUsage - min(table["total_inactive_file"], s.MemoryUsage)
	s.RSS = table["total_rss"]
	s.PageFaults, s.MajorPageFaults = table["total_pgfault"], table["total_pgmajfault"]
	oom, err := readTable(dir, "memory.oom_control")
	if err != nil {
		return s, err
	}
	s.OOMKills = oom["oom_kill"]
	pids, err := l.controller("pids")
	if err != nil {
		return s, err
	}
	s.PIDs, err = readNumber(filepath.Join(pids, path), "pids.current")
	return s, err
}
