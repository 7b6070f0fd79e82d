package cgroups

import (
	"fmt"
	"os"
)

// Actual is what a group has, as the kernel says.
type Actual struct {
	// Shares on v1, Weight on v2; the other is 0.
	Shares, Weight uint64
	// CPUQuota of CPUPeriod in µs; -1 means without limit.
	CPUQuota  int64
	CPUPeriod uint64
	// Memory is the hard limit in bytes; -1 means without limit.
	Memory int64
}

// Actual reads what the group at path has, or says ErrNotFound.
func (t *Tree) Actual(p string) (Actual, error) {
	l, err := t.layout()
	if err != nil {
		return Actual{}, err
	}
	a, err := l.actual(p)
	if err != nil {
		return Actual{}, fmt.Errorf("reading limits of %s: %w", p, gone(err))
	}
	return a, nil
}

// CPURequest is the request in thousandths that the group has: told, where told comes to the same weight, or what the weight comes to.
func (a Actual) CPURequest(told int64) int64 {
	shares := SharesFromMilli(told)
	if a.Weight > 0 {
		if a.Weight == weightFromShares(shares) || a.Weight == bentWeight(shares) {
			return told
		}
		return milliFromShares(sharesFromWeight(a.Weight))
	}
	if a.Shares == shares {
		return told
	}
	return milliFromShares(a.Shares)
}

// CPULimit is the limit in thousandths that the group has, 0 without one: told, where told comes to the same quota.
func (a Actual) CPULimit(told int64) int64 {
	if quota, _ := quotaOf(told, a.CPUPeriod); quota == a.CPUQuota {
		return max(told, 0)
	}
	if a.CPUQuota <= 0 || a.CPUPeriod == 0 {
		return 0
	}
	return a.CPUQuota * 1000 / int64(a.CPUPeriod)
}

// MemoryLimit is the limit in bytes that the group has, 0 without one: told, where told comes to the same number of pages.
func (a Actual) MemoryLimit(told int64) int64 {
	if a.Memory < 0 && told >= noLimitFrom { // so large that the kernel calls it none
		return told
	}
	if a.Memory < 0 {
		return 0
	}
	if told > 0 && pages(told) == pages(a.Memory) {
		return told
	}
	return a.Memory
}

// Has says whether the group has what res says of CPU and memory; what it does not say does not count.
func (a Actual) Has(res Resources) bool {
	if res.CPUShares > 0 && a.Shares != res.CPUShares && (a.Weight == 0 || a.Weight != weightFromShares(res.CPUShares) && a.Weight != bentWeight(res.CPUShares)) {
		return false
	}
	if res.CPUPeriod > 0 && (a.CPUQuota != res.CPUQuota || a.CPUPeriod != res.CPUPeriod) {
		return false
	}
	switch {
	case res.Memory > 0:
		return a.Memory >= 0 && pages(a.Memory) == pages(res.Memory)
	case res.Memory < 0:
		return a.Memory < 0
	}
	return true
}

func pages(bytes int64) int64 { return bytes / int64(os.Getpagesize()) }
