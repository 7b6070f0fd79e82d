package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// What an operator wrote into the node's capacity stays, and can be had; what the machine says itself is said anew.
func TestExtendedResourcesStay(t *testing.T) {
	n := &Node{cfg: Config{Root: t.TempDir(), MaxPods: 10}}
	st := &corev1.NodeStatus{Capacity: corev1.ResourceList{
		"vendor.example/dongle": resource.MustParse("4"), "kubernetes.io/batch": resource.MustParse("1"), "pods": resource.MustParse("99"), "hugepages-3Mi": resource.MustParse("3Mi"),
	}}
	n.capacity(st)
	for name, want := range map[corev1.ResourceName]string{"vendor.example/dongle": "4", "kubernetes.io/batch": "0", "pods": "10", "hugepages-3Mi": "0"} {
		for what, list := range map[string]corev1.ResourceList{"capacity": st.Capacity, "allocatable": st.Allocatable} {
			if q := list[name]; q.String() != want {
				t.Errorf("%s of %s is %s, want %s", what, name, q.String(), want)
			}
		}
	}
}
