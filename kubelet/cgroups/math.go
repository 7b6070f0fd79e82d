package cgroups

// Resources are the limits of one group, in the kernel's v1 units; zero means «say nothing» everywhere.
type Resources struct {
	// CPUShares is the v1 weight, 2 … 262144; on v2 it becomes a weight.
	CPUShares uint64
	// CPUQuota is how many µs of processor time a period may use; -1 means without limit.
	CPUQuota int64
	// CPUPeriod is the length of a period in µs.
	CPUPeriod uint64
	// Memory is the hard limit in bytes; -1 means without limit.
	Memory int64
	// PIDs is the most processes and threads; -1 means without limit.
	PIDs int64
}

const (
	minShares     = 2
	maxShares     = 262144
	defaultPeriod = 100_000 // µs
	minQuota      = 1_000   // µs, the kernel refuses less
)

// SharesFromMilli turns a CPU request into v1 shares: 1000 m are 1024 shares, never below 2, never above 262144.
func SharesFromMilli(milli int64) uint64 {
	if milli <= 0 {
		return minShares
	}
	return min(max(uint64(milli)*1024/1000, minShares), maxShares)
}

// QuotaFromMilli turns a CPU limit into quota and period, both in µs. A limit of zero or less means none: quota -1.
func QuotaFromMilli(milli int64) (quota int64, period uint64) {
	if milli <= 0 {
		return -1, defaultPeriod
	}
	return max(milli*defaultPeriod/1000, minQuota), defaultPeriod
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

// weightFromShares maps v1's 2 … 262144 to v2's 1 … 10000, in a straight line, as runc does for containers.
func weightFromShares(shares uint64) uint64 {
	if shares == 0 {
		return 0
	}
	shares = min(max(shares, minShares), maxShares)
	return 1 + (shares-minShares)*9999/(maxShares-minShares)
}
