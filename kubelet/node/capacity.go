package node

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Reserve is what a node keeps for itself: CPU in thousandths, memory and storage in bytes, processes and threads.
type Reserve struct{ CPU, Memory, Storage, PIDs int64 }

// ReadReserve adds up what is written as cpu=200m,memory=500Mi,ephemeral-storage=1Gi,pid=1000 for the daemons of Kubernetes and for all others; cpus,
// a list as 0-1,4, replaces the processor time of both. The rules are those of
// https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/.
func ReadReserve(kube, system, cpus string) (Reserve, error) {
	var sum Reserve
	for flag, text := range map[string]string{"kube-reserved": kube, "system-reserved": system} {
		if err := sum.add(text); err != nil {
			return Reserve{}, fmt.Errorf("--%s value failed to parse: %w", flag, err)
		}
	}
	if cpus == "" {
		return sum, nil
	}
	count, err := countCPUs(cpus)
	if err != nil {
		return Reserve{}, fmt.Errorf("--reserved-cpus %q: %w", cpus, err)
	}
	sum.CPU = count * 1000
	return sum, nil
}

func (r *Reserve) add(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("%q: want NAME=AMOUNT", part)
		}
		q, err := resource.ParseQuantity(value)
		if err != nil {
			return fmt.Errorf("failed to parse quantity %q for %q resource: %w", value, name, err)
		}
		if q.Sign() < 0 {
			return fmt.Errorf("resource quantity for %q cannot be negative: %v", name, value)
		}
		switch name {
		case "cpu":
			r.CPU += q.MilliValue()
		case "memory":
			r.Memory += q.Value()
		case "ephemeral-storage":
			r.Storage += q.Value()
		case "pid":
			r.PIDs += q.Value()
		default:
			return fmt.Errorf("cannot reserve %q resource", name)
		}
	}
	return nil
}

func countCPUs(list string) (int64, error) {
	seen := map[int]bool{}
	for part := range strings.SplitSeq(list, ",") {
		from, to, ranged := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(from)
		b := a
		if err == nil && ranged {
			b, err = strconv.Atoi(to)
		}
		if err != nil || a < 0 || b < a || b > 8192 {
			return 0, fmt.Errorf("%q is no processor, nor a range of them", part)
		}
		for ; a <= b; a++ {
			seen[a] = true
		}
	}
	return int64(len(seen)), nil
}

// Left is what the machine has beyond the reserve, storage left out: what all pods together may use. PIDs is 0 where nothing is kept of them.
func (r Reserve) Left() (Reserve, error) {
	memory := memTotal()
	if memory == 0 {
		return Reserve{}, errors.New("/proc/meminfo does not tell how much memory there is")
	}
	left := Reserve{CPU: int64(runtime.NumCPU())*1000 - r.CPU, Memory: memory - r.Memory}
	if left.CPU <= 0 || left.Memory <= 0 {
		return Reserve{}, fmt.Errorf("nothing would be left for pods: %dm CPU and %d bytes of memory are reserved", r.CPU, r.Memory)
	}
	if r.PIDs > 0 {
		if left.PIDs = maxPIDs() - r.PIDs; left.PIDs <= 0 {
			return Reserve{}, fmt.Errorf("nothing would be left for pods: %d processes are reserved", r.PIDs)
		}
	}
	return left, nil
}

// maxPIDs is how many processes and threads the kernel lets be.
func maxPIDs() int64 {
	most := int64(math.MaxInt64)
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			most = min(most, n)
		}
	}
	return most
}

// machine is what there is to share.
type machine struct {
	cpus, memory int64
	storage      int64           // 0: not known
	pages        map[int64]int64 // huge pages by size
}

// capacity is what the machine has, and what of it pods may use.
func (n *Node) capacity(st *corev1.NodeStatus) {
	m := machine{cpus: int64(runtime.NumCPU()), memory: memTotal()}
	var fs unix.Statfs_t
	if err := unix.Statfs(n.cfg.Root, &fs); err == nil {
		m.storage = int64(fs.Blocks) * fs.Bsize
	}
	if n.cfg.HugePages != nil {
		m.pages = n.cfg.HugePages()
	}
	before := st.Capacity
	st.Capacity, st.Allocatable = m.share(&n.cfg)
	for name, q := range before {
		if extended(name) {
			st.Capacity[name], st.Allocatable[name] = q, q
		}
	}
}

// extended: the resource is one that a cluster's operator may write into the node's capacity by hand
// (https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/); device plugins bring such ones, too.
func extended(name corev1.ResourceName) bool {
	domain, _, ok := strings.Cut(string(name), "/")
	return ok && !strings.HasSuffix(domain, "kubernetes.io")
}

// share says what the machine has and what of it is for pods: all but what is reserved, what the hard thresholds of eviction keep free, and, of memory,
// what stands in huge pages.
func (m machine) share(cfg *Config) (capacity, allocatable corev1.ResourceList) {
	number := func(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.DecimalSI) }
	bytes := func(n int64) resource.Quantity { return *resource.NewQuantity(max(n, 0), resource.BinarySI) }
	capacity = corev1.ResourceList{
		corev1.ResourceCPU: number(m.cpus), corev1.ResourceMemory: bytes(m.memory), corev1.ResourcePods: number(int64(cfg.MaxPods)),
	}
	if m.storage > 0 {
		capacity[corev1.ResourceEphemeralStorage] = bytes(m.storage)
	}
	memory := m.memory - cfg.Reserve.Memory - cfg.ReservedMemory
	for size, count := range m.pages {
		page := resource.NewQuantity(size, resource.BinarySI)
		capacity[corev1.ResourceName(corev1.ResourceHugePagesPrefix+page.String())] = bytes(size * count)
		memory -= size * count
	}
	allocatable = capacity.DeepCopy()
	if cfg.Reserve.CPU > 0 {
		allocatable[corev1.ResourceCPU] = *resource.NewMilliQuantity(max(m.cpus*1000-cfg.Reserve.CPU, 0), resource.DecimalSI)
	}
	allocatable[corev1.ResourceMemory] = bytes(memory)
	if m.storage > 0 {
		kept := cfg.Reserve.Storage
		if cfg.ReservedStorage != nil {
			kept += cfg.ReservedStorage(uint64(m.storage))
		}
		allocatable[corev1.ResourceEphemeralStorage] = bytes(m.storage - kept)
	}
	return capacity, allocatable
}

func memTotal() int64 { return meminfo("MemTotal:") }

// meminfo is a line of /proc/meminfo in bytes, 0 where there is none.
func meminfo(name string) int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) >= 2 && words[0] == name {
			kib, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib * 1024
		}
	}
	return 0
}
