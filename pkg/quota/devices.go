package quota

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func coversDevices(name corev1.ResourceName) bool {
	return strings.HasSuffix(string(name), corev1.ResourceClaimsPerClass)
}

// deviceUsage counts the devices of each class that a claim may get: of alternatives the most, and of all that fit as many as a
// claim can hold.
func deviceUsage(o metav1.Object, _ time.Time, list corev1.ResourceList) {
	add := func(class string, devices int64) {
		name := corev1.ResourceName(class + corev1.ResourceClaimsPerClass)
		sum := list[name]
		sum.Add(number(int(devices)))
		list[name] = sum
	}
	for _, r := range o.(*resourcev1.ResourceClaim).Spec.Devices.Requests {
		if r.Exactly != nil {
			add(r.Exactly.DeviceClassName, devicesOf(r.Exactly.AllocationMode, r.Exactly.Count))
			continue
		}
		most := map[string]int64{}
		for _, s := range r.FirstAvailable {
			most[s.DeviceClassName] = max(most[s.DeviceClassName], devicesOf(s.AllocationMode, s.Count))
		}
		for class, n := range most {
			add(class, n)
		}
	}
}

func devicesOf(mode resourcev1.DeviceAllocationMode, count int64) int64 {
	switch mode {
	case resourcev1.DeviceAllocationModeExactCount:
		return count
	case resourcev1.DeviceAllocationModeAll:
		return resourcev1.AllocationResultsMaxSize
	}
	return 0
}
