package cpus

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/utils/cpuset"
)

// machine is the processors that are online, and which of them share a core.
type machine struct {
	all   cpuset.CPUSet
	cores []cpuset.CPUSet
}

// readMachine looks at what the kernel says below root, which is /sys/devices/system/cpu
// (https://docs.kernel.org/admin-guide/cputopology.html).
func readMachine(root string) (machine, error) {
	online, err := readSet(filepath.Join(root, "online"))
	if err != nil {
		return machine{}, err
	}
	m := machine{all: online}
	var seen cpuset.CPUSet
	for _, id := range online.List() {
		if seen.Contains(id) {
			continue
		}
		core, err := readSet(filepath.Join(root, fmt.Sprintf("cpu%d", id), "topology", "thread_siblings_list"))
		if err != nil {
			return machine{}, err
		}
		core = core.Intersection(online)
		m.cores = append(m.cores, core)
		seen = seen.Union(core)
	}
	return m, nil
}

func readSet(file string) (cpuset.CPUSet, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return cpuset.CPUSet{}, fmt.Errorf("reading the machine's processors: %w", err)
	}
	set, err := cpuset.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return cpuset.CPUSet{}, fmt.Errorf("reading %s: %w", file, err)
	}
	return set, nil
}

// choose takes n processors of those that are free: whole cores as far as they fit, then single ones, of cores that are broken already if there are
// any, so that whole cores stay for others. It says false where there are too few.
func (m machine) choose(free cpuset.CPUSet, n int) (cpuset.CPUSet, bool) {
	if free.Size() < n {
		return cpuset.CPUSet{}, false
	}
	var taken cpuset.CPUSet
	for _, core := range m.cores {
		if core.IsSubsetOf(free) && core.Size() <= n-taken.Size() {
			taken = taken.Union(core)
		}
	}
	cores := slices.Clone(m.cores)
	slices.SortStableFunc(cores, func(a, b cpuset.CPUSet) int {
		left := func(c cpuset.CPUSet) int { return c.Intersection(free).Difference(taken).Size() }
		return cmp.Compare(left(a), left(b))
	})
	for _, core := range cores {
		for _, id := range core.Intersection(free).Difference(taken).List() {
			if taken.Size() < n {
				taken = taken.Union(cpuset.New(id))
			}
		}
	}
	return taken, true
}
