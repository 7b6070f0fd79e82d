package placement

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestHuge: amounts that no node has fit nowhere, and leave no room for others, however they are counted.
func TestHuge(t *testing.T) {
	node := FromList(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("10")})
	sum := resource.MustParse("4Ei")
	sum.Add(resource.MustParse("4Ei"))
	for name, list := range map[string]corev1.ResourceList{
		"cpu":            {corev1.ResourceCPU: resource.MustParse("100Ei")},
		"cpu, wrapped":   {corev1.ResourceCPU: resource.MustParse("18014398509481984")},
		"memory, summed": {corev1.ResourceMemory: sum},
		"extended":       {"example.com/thing": sum},
	} {
		want := FromList(list)
		if len(Fits(want, Resources{}, node, 0)) != 1 {
			t.Errorf("%s fits: %+v", name, want)
		}
		var used Resources
		for range 500 {
			used.Add(want)
		}
		one := FromList(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1"), "example.com/thing": resource.MustParse("1")})
		if len(Fits(one, used, FromList(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
			corev1.ResourcePods: resource.MustParse("10"), "example.com/thing": resource.MustParse("4")}), 0)) != 1 {
			t.Errorf("beside many pods with much %s there is room for another: %+v", name, used)
		}
	}
}
