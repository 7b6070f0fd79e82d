package containers

import (
	"maps"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"pilothouse.dev/kubelet/cgroups"
)

// linuxResources turns limits into the spec's form; what is zero stays unsaid. What only v2 has, and sizes of huge pages, the caller names only
// where the machine knows them: the OCI runtime refuses them elsewhere.
func linuxResources(r cgroups.Resources) *specs.LinuxResources {
	res := &specs.LinuxResources{CPU: &specs.LinuxCPU{}}
	if r.CPUShares > 0 {
		res.CPU.Shares = &r.CPUShares
	}
	if r.CPUPeriod > 0 {
		res.CPU.Period, res.CPU.Quota = &r.CPUPeriod, &r.CPUQuota
	}
	res.CPU.Cpus = r.CPUSet
	if r.Memory != 0 {
		res.Memory = &specs.LinuxMemory{Limit: &r.Memory, Swap: &r.Memory} // no swap beyond memory
	}
	if r.PIDs != 0 {
		res.Pids = &specs.LinuxPids{Limit: r.PIDs}
	}
	for _, size := range slices.Sorted(maps.Keys(r.HugePages)) {
		res.HugepageLimits = append(res.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: cgroups.PageName(size), Limit: uint64(r.HugePages[size])})
	}
	unified := map[string]string{}
	for file, bytes := range map[string]int64{"memory.min": r.MemoryMin, "memory.low": r.MemoryLow, "memory.high": r.MemoryHigh} {
		if bytes > 0 {
			unified[file] = strconv.FormatInt(bytes, 10)
		}
	}
	if r.NoSwap {
		unified["memory.swap.max"] = "0"
	}
	if len(unified) > 0 {
		res.Unified = unified
	}
	return res
}
