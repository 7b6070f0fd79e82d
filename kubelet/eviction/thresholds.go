package eviction

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that may run short, by the name that flags use.
type Signal string

// The signals (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals).
const (
	memoryAvailable      Signal = "memory.available"
	allocatableAvailable Signal = "allocatableMemory.available"
	nodefsAvailable      Signal = "nodefs.available"
	nodefsInodesFree     Signal = "nodefs.inodesFree"
	imagefsAvailable     Signal = "imagefs.available"
	imagefsInodesFree    Signal = "imagefs.inodesFree"
	containerfsAvailable Signal = "containerfs.available"
	containerfsInodes    Signal = "containerfs.inodesFree"
	pidAvailable         Signal = "pid.available"
)

// DefaultHard are the hard thresholds of a kubelet that was told none.
const DefaultHard = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"

const inodes, pids corev1.ResourceName = "inodes", "pids"

// signals is what each signal is about. Their order is that of mending: memory first, since it kills first.
var signals = []struct {
	signal    Signal
	condition corev1.NodeConditionType
	resource  corev1.ResourceName
}{
	{memoryAvailable, corev1.NodeMemoryPressure, corev1.ResourceMemory},
	{allocatableAvailable, corev1.NodeMemoryPressure, corev1.ResourceMemory},
	{nodefsAvailable, corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	{nodefsInodesFree, corev1.NodeDiskPressure, inodes},
	{imagefsAvailable, corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	{imagefsInodesFree, corev1.NodeDiskPressure, inodes},
	{containerfsAvailable, corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	{containerfsInodes, corev1.NodeDiskPressure, inodes},
	{pidAvailable, corev1.NodePIDPressure, pids},
}

func place(s Signal) int {
	for i := range signals {
		if signals[i].signal == s {
			return i
		}
	}
	return -1
}

func (s Signal) condition() corev1.NodeConditionType { return signals[place(s)].condition }
func (s Signal) resource() corev1.ResourceName       { return signals[place(s)].resource }

// Amount is a number, or a part of all there is.
type Amount struct {
	Quantity int64
	Part     float64 // 0 … 1; used when not 0
}

func (a Amount) of(all uint64) int64 {
	if a.Part != 0 {
		return int64(float64(all) * a.Part)
	}
	return a.Quantity
}

// Threshold says when too little is left of something.
type Threshold struct {
	Signal Signal
	Value  Amount
	// Hard: pods end at once. Otherwise after Grace, and they get their own time to end.
	Hard  bool
	Grace time.Duration
	// Reclaim is how much more must be free before it is over.
	Reclaim Amount
}

// Thresholds reads what the flags --eviction-hard, --eviction-soft, --eviction-soft-grace-period and --eviction-minimum-reclaim say: lists as
// «memory.available<100Mi,nodefs.available<10%», «memory.available=30s», «nodefs.available=500Mi». A part of 0% or 100% is no threshold.
func Thresholds(hard, soft, graces, reclaims string) ([]Threshold, error) {
	list, err := statements(hard, true)
	if err != nil {
		return nil, err
	}
	softer, err := statements(soft, false)
	if err != nil {
		return nil, err
	}
	periods := map[Signal]time.Duration{}
	err = pairs(graces, "=", "eviction grace period", func(s Signal, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil {
			return err
		}
		if d < 0 {
			return fmt.Errorf("invalid eviction grace period specified: %s, must be a positive value", value)
		}
		periods[s] = d
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range softer {
		d, ok := periods[softer[i].Signal]
		if !ok {
			return nil, fmt.Errorf("grace period must be specified for the soft eviction threshold %s", softer[i].Signal)
		}
		softer[i].Grace = d
	}
	list = append(list, softer...)
	err = pairs(reclaims, "=", "eviction minimum reclaim", func(s Signal, value string) error {
		a, err := amount(value)
		if err != nil {
			return err
		}
		for i := range list {
			if list[i].Signal == s {
				list[i].Reclaim = a
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, t := range list { // what all pods may use is guarded as the machine's memory is
		if t.Signal == memoryAvailable && t.Hard {
			t.Signal = allocatableAvailable
			if !slices.ContainsFunc(list, func(o Threshold) bool { return o.Signal == allocatableAvailable }) {
				list = append(list, t)
			}
			break
		}
	}
	return list, nil
}

// Reserved is how much memory, in bytes, the hard thresholds keep from pods on a machine that has all of it.
func Reserved(list []Threshold, signal Signal, all uint64) int64 {
	for _, t := range list {
		if t.Signal == signal && t.Hard {
			return t.Value.of(all)
		}
	}
	return 0
}

// MemoryReserved is Reserved of memory.available.
func MemoryReserved(list []Threshold, all uint64) int64 { return Reserved(list, memoryAvailable, all) }

func statements(text string, hard bool) ([]Threshold, error) {
	var list []Threshold
	seen := map[Signal]bool{}
	err := pairs(text, "<", "eviction threshold", func(s Signal, value string) error {
		if seen[s] {
			return fmt.Errorf("found duplicate eviction threshold for signal %s", s)
		}
		seen[s] = true
		a, err := amount(value)
		if err != nil {
			return err
		}
		if strings.HasSuffix(value, "%") && (a.Part == 0 || a.Part == 1) {
			return nil
		}
		list = append(list, Threshold{Signal: s, Value: a, Hard: hard})
		return nil
	})
	return list, err
}

// pairs reads a list of signal, sign and value.
func pairs(text, sign, what string, take func(Signal, string) error) error {
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		name, value, ok := strings.Cut(word, sign)
		if !ok || value == "" {
			return fmt.Errorf("invalid %s syntax %q, expected <signal>%s<value>", what, word, sign)
		}
		if place(Signal(name)) < 0 {
			return fmt.Errorf("unsupported eviction signal %q", name)
		}
		if err := take(Signal(name), value); err != nil {
			return fmt.Errorf("%s %q: %w", what, word, err)
		}
	}
	return nil
}

func amount(text string) (Amount, error) {
	if number, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return Amount{}, err
		}
		if !(p >= 0 && p <= 100) { // what is no number neither
			return Amount{}, errors.New("a percentage must be 0 or more and 100 or less")
		}
		return Amount{Part: p / 100}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return Amount{}, err
	}
	if q.Sign() < 0 {
		return Amount{}, errors.New("must not be negative")
	}
	return Amount{Quantity: q.Value()}, nil
}
