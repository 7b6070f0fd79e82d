package cgroups

import (
	"math"
	"math/bits"
)

// Resources are the limits of one group, in the kernel's v1 units; zero means «say nothing» everywhere.
type Resources struct {
	// CPUShares is the v1 weight, 2 … 262144; on v2 it becomes a weight.
	CPUShares uint64
	// CPUQuota is how many µs of processor time a period may use; -1 means without limit.
	CPUQuota int64
	// CPUPeriod is the length of a period in µs.
	CPUPeriod uint64
	// Memory is the hard limit in bytes; -1 means without limit. Swap is never given beyond it where the kernel counts swap.
	Memory int64
	// MemoryMin and MemoryLow are bytes that the kernel does not take away, or not before others'; MemoryHigh is where it slows allocations
	// down. Only v2 has them, elsewhere they are not said. -1 means none of it.
	MemoryMin, MemoryLow, MemoryHigh int64
	// NoSwap forbids swap on v2 whatever the memory limit is; on v1 the memory limit does that.
	NoSwap bool
	// CPUSet are the processors, as 0-1,4; empty: those of the group above when the group is made.
	CPUSet string
	// PIDs is the most processes and threads; -1 means without limit.
	PIDs int64
	// HugePages are the most bytes in huge pages, by the page's size in bytes; 0 means none at all. Sizes that this machine cannot limit
	// are passed over: it has none of them to give.
	HugePages map[int64]int64
}

const (
	minShares     = 2
	maxShares     = 262144
	defaultPeriod = 100_000   // µs
	minQuota      = 1_000     // µs, the kernel refuses less
	maxQuota      = 1<<44 - 1 // µs, the kernel refuses more
)

// SharesFromMilli turns a CPU request into v1 shares: 1000 m are 1024 shares, never below 2, never above 262144.
func SharesFromMilli(milli int64) uint64 {
	if milli <= 0 {
		return minShares
	}
	milli = min(milli, maxShares) // beyond that it is the most anyway
	return min(max(uint64(milli)*1024/1000, minShares), maxShares)
}

// milliFromShares is the other way, rounded up, so that it gives back every request from 2 m on.
func milliFromShares(shares uint64) int64 {
	return int64((shares*1000 + 1023) / 1024)
}

// QuotaFromMilli turns a CPU limit into quota and period, both in µs. A limit of zero or less means none: quota -1.
func QuotaFromMilli(milli int64) (quota int64, period uint64) {
	return quotaOf(milli, defaultPeriod)
}

func quotaOf(milli int64, period uint64) (int64, uint64) {
	if milli <= 0 {
		return -1, period
	}
	return part(milli, int64(period), 1000), period
}

// part is a quota of a·b/c, as far as the kernel takes it; all are above zero.
func part(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return maxQuota
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(min(max(q, minQuota), maxQuota))
}

// Limits makes Resources of a request and a limit. Units: CPU in thousandths, memory in bytes; zero means not set: no CPU limit, no
// memory limit. A set limit without a request counts as the request too.
func Limits(cpuRequestMilli, cpuLimitMilli, memoryLimit int64) Resources {
	if cpuRequestMilli == 0 {
		cpuRequestMilli = cpuLimitMilli
	}
	r := Resources{CPUShares: SharesFromMilli(cpuRequestMilli)}
	r.CPUQuota, r.CPUPeriod = QuotaFromMilli(cpuLimitMilli)
	if memoryLimit > 0 {
		r.Memory = memoryLimit
	}
	return r
}

// WithPeriod is r with its CPU limit counted over another period; r itself has none of it without a limit.
func (r Resources) WithPeriod(micros uint64) Resources {
	if micros == 0 || r.CPUPeriod == 0 || micros == r.CPUPeriod {
		return r
	}
	if r.CPUQuota > 0 {
		r.CPUQuota = part(r.CPUQuota, int64(micros), int64(r.CPUPeriod))
	}
	r.CPUPeriod = micros
	return r
}

// MemoryHigh is where allocations of a container are slowed down: its request and, of what lies between that and its limit (the node's
// allocatable memory if it has none), the part factor; whole pages. 0 means nowhere: request and limit are equal, or too close. The
// formula is that of https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/#memory-qos-with-cgroup-v2.
func MemoryHigh(request, limit, allocatable int64, factor float64, page int64) int64 {
	if factor <= 0 || request == limit && limit > 0 {
		return 0
	}
	if limit == 0 {
		limit = allocatable
	}
	if limit <= request {
		return 0
	}
	high := int64(math.Floor((float64(request)+factor*float64(limit-request))/float64(page))) * page
	if high <= request {
		return 0
	}
	return high
}

// weightFromShares maps v1's 2 … 262144 to v2's 1 … 10000, in a straight line, as runc did for containers up to 1.3.
func weightFromShares(shares uint64) uint64 {
	if shares == 0 {
		return 0
	}
	shares = min(max(shares, minShares), maxShares)
	return 1 + (shares-minShares)*9999/(maxShares-minShares)
}

// bentWeight is the map of newer OCI runtimes, which gives 100 for 1024 shares: a parabola over the logarithm through (2, 1), (1024, 100) and
// (262144, 10000). See https://github.com/opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value.
func bentWeight(shares uint64) uint64 {
	if shares <= minShares {
		return 1
	}
	if shares >= maxShares {
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// sharesFromWeight undoes weightFromShares as well as that can be undone.
func sharesFromWeight(weight uint64) uint64 {
	if weight == 0 {
		return 0
	}
	hi, lo := bits.Mul64(min(max(weight, 1), 10000)-1, maxShares-minShares)
	q, _ := bits.Div64(hi, lo, 9999)
	return minShares + q
}
