package placement

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources is a list of resources as plain numbers, so that adding and comparing allocates nothing.
type Resources struct {
	MilliCPU         int64
	Memory           int64 // bytes
	EphemeralStorage int64 // bytes
	Pods             int64 // how many pods a node takes; 0 in requests
	// Others by name: huge pages, extended resources. INVARIANT: no value is zero; nil when there are none.
	Others map[corev1.ResourceName]int64
}

// FromList reads a list as the API writes it. Fractions are rounded up.
func FromList(list corev1.ResourceList) Resources {
	var r Resources
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			if r.MilliCPU = most; q.CmpInt64(most/1000) < 0 {
				r.MilliCPU = q.MilliValue()
			}
		case corev1.ResourceMemory:
			r.Memory = value(&q)
		case corev1.ResourceEphemeralStorage:
			r.EphemeralStorage = value(&q)
		case corev1.ResourcePods:
			r.Pods = q.Value()
		default:
			if v := value(&q); v != 0 {
				if r.Others == nil {
					r.Others = make(map[corev1.ResourceName]int64)
				}
				r.Others[name] = v
			}
		}
	}
	return r
}

// most is what a larger amount counts as: more than any node has, and so little that amounts of many pods can be added up.
const most = 1 << 53

func value(q *resource.Quantity) int64 {
	if q.CmpInt64(most) >= 0 {
		return most
	}
	return q.Value()
}

// Add adds o to r.
func (r *Resources) Add(o Resources) { r.add(o, 1) }

// Sub takes o from r.
func (r *Resources) Sub(o Resources) { r.add(o, -1) }

func (r *Resources) add(o Resources, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.Memory += sign * o.Memory
	r.EphemeralStorage += sign * o.EphemeralStorage
	r.Pods += sign * o.Pods
	for name, v := range o.Others {
		if r.Others == nil {
			r.Others = make(map[corev1.ResourceName]int64)
		}
		if r.Others[name] += sign * v; r.Others[name] == 0 {
			delete(r.Others, name)
		}
	}
}

// Clone is a copy that shares nothing with r.
func (r Resources) Clone() Resources {
	r.Others = maps.Clone(r.Others)
	return r
}

// Of is the number for a resource by name.
func (r Resources) Of(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourceCPU:
		return r.MilliCPU
	case corev1.ResourceMemory:
		return r.Memory
	case corev1.ResourceEphemeralStorage:
		return r.EphemeralStorage
	case corev1.ResourcePods:
		return r.Pods
	}
	return r.Others[name]
}

// Insufficient is one resource of which a node has too little left for a pod. CPU is in thousandths.
type Insufficient struct {
	Resource                  corev1.ResourceName
	Requested, Used, Capacity int64
}

// Reason is the text users know: `Insufficient cpu`, `Too many pods`.
func (i Insufficient) Reason() string {
	if i.Resource == corev1.ResourcePods {
		return "Too many pods"
	}
	return "Insufficient " + string(i.Resource)
}

// Error makes an Insufficient an error with the numbers.
func (i Insufficient) Error() string {
	return fmt.Sprintf("%s: requested %d, used %d, capacity %d", i.Reason(), i.Requested, i.Used, i.Capacity)
}

// Never says whether the pod would not fit on the node even if it were empty.
func (i Insufficient) Never() bool { return i.Requested > i.Capacity }

// Fits tells of which resources a node that offers allocatable, on which pods pods already use used, has too little for one
// more that requests want; empty when it fits. A resource of which nothing is requested always fits, also on a node that is
// overcommitted. The order is pods, cpu, memory, ephemeral-storage, then the others by name.
func Fits(want, used, allocatable Resources, pods int) []Insufficient {
	var short []Insufficient
	if int64(pods)+1 > allocatable.Pods {
		short = append(short, Insufficient{corev1.ResourcePods, 1, int64(pods), allocatable.Pods})
	}
	check := func(name corev1.ResourceName, want, used, have int64) {
		if want > 0 && want > have-used {
			short = append(short, Insufficient{name, want, used, have})
		}
	}
	check(corev1.ResourceCPU, want.MilliCPU, used.MilliCPU, allocatable.MilliCPU)
	check(corev1.ResourceMemory, want.Memory, used.Memory, allocatable.Memory)
	check(corev1.ResourceEphemeralStorage, want.EphemeralStorage, used.EphemeralStorage, allocatable.EphemeralStorage)
	if len(want.Others) > 0 {
		for _, name := range slices.Sorted(maps.Keys(want.Others)) {
			check(name, want.Others[name], used.Others[name], allocatable.Others[name])
		}
	}
	return short
}
