package cgroups

import "time"

// Stats are the numbers of one group, its children included.
type Stats struct {
	Time time.Time
	// CPU is all processor time used since the group was made.
	CPU time.Duration
	// MemoryUsage is all memory charged, bytes; WorkingSet is that without file cache the kernel can drop at once; RSS is anonymous memory.
	MemoryUsage, WorkingSet, RSS uint64
	// MemoryLimit is the hard limit in bytes, 0 without one.
	MemoryLimit uint64
	// PageFaults and MajorPageFaults count since the group was made.
	PageFaults, MajorPageFaults uint64
	// PIDs counts processes and threads.
	PIDs uint64
	// OOMKills counts processes that the kernel ended because the memory limit was hit.
	OOMKills uint64
}
