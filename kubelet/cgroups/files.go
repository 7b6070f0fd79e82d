package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const procsFile = "cgroup.procs"

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// subdirs are the children of a group; none if it is gone.
func subdirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// processes of a group and all below it; a group that vanishes meanwhile has none.
func processes(dir string) ([]int, error) {
	names, err := subdirs(dir)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		below, err := processes(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		pids = append(pids, below...)
	}
	raw, err := os.ReadFile(filepath.Join(dir, procsFile))
	if err != nil {
		if errors.Is(gone(err), ErrNotFound) {
			return pids, nil
		}
		return nil, err
	}
	for field := range strings.FieldsSeq(string(raw)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", procsFile, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// killAll sends KILL to every process of a group. Process 0 is one of another PID namespace, and no number to signal.
func killAll(dir string) error {
	pids, err := processes(dir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if pid <= 0 {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("killing process %d: %w", pid, err)
		}
	}
	return nil
}

// removeTree removes a group and all below it, the deepest first. The files in it are the kernel's and go with the folder.
func removeTree(dir string) error {
	names, err := subdirs(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeTree(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	return nil
}

func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s to %s: %w", value, file, err)
	}
	return nil
}

// readNumber reads a file of one number; «max» is 0, without limit.
func readNumber(dir, file string) (uint64, error) {
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(raw))
	if text == "max" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", file, err)
	}
	return n, nil
}

// readSigned reads a file of one number that may be negative.
func readSigned(dir, file string) (int64, error) {
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", file, err)
	}
	return n, nil
}

// setHugePages limits huge pages of each size that the machine knows: files hugetlb.2MB<end>, where the kernel means powers of two by MB. Where
// it counts reservations (rsvd) they are limited too: then a mapping is refused when it is asked for, not its use ended by SIGBUS.
func setHugePages(dir string, limits map[int64]int64, end string) error {
	for _, size := range slices.Sorted(maps.Keys(limits)) {
		for _, kind := range []string{"", ".rsvd"} {
			err := write(dir, "hugetlb."+PageName(size)+kind+end, strconv.FormatInt(limits[size], 10))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// hugePages reads folders hugepages-2048kB with a file nr_hugepages; a machine without the folder has none.
func hugePages(root string) (map[int64]int64, error) {
	names, err := subdirs(root)
	if err != nil {
		return nil, fmt.Errorf("listing huge pages: %w", err)
	}
	sizes := map[int64]int64{}
	for _, name := range names {
		var kib int64
		if _, err := fmt.Sscanf(name, "hugepages-%dkB", &kib); err != nil {
			continue
		}
		count, err := readNumber(filepath.Join(root, name), "nr_hugepages")
		if err != nil {
			return nil, fmt.Errorf("counting huge pages: %w", err)
		}
		sizes[kib<<10] = int64(count)
	}
	return sizes, nil
}

// PageName is how the kernel writes the size of a huge page: 64KB, 2MB, 1GB.
func PageName(size int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}} {
		if size >= unit.size {
			return strconv.FormatInt(size/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(size, 10) + "B"
}

// readTable reads a file of lines «name number».
func readTable(dir, file string) (map[string]uint64, error) {
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	return parseTable(string(raw)), nil
}

// parseTable leaves out lines of another form, which newer kernels may add.
func parseTable(text string) map[string]uint64 {
	table := make(map[string]uint64)
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		if n, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
			table[fields[0]] = n
		}
	}
	return table
}

// levels are the folders from below root down to path: /a, /a/b, /a/b/c.
func levels(root, path string) []string {
	var list []string
	at := root
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if part == "" {
			continue
		}
		at = filepath.Join(at, part)
		list = append(list, at)
	}
	return list
}
