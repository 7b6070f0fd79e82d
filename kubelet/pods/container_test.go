package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestOOMScore(t *testing.T) {
	resources := func(request, limit string) corev1.Container {
		c := corev1.Container{}
		c.Resources.Requests = corev1.ResourceList{"memory": resource.MustParse(request), "cpu": resource.MustParse("1")}
		if limit != "" {
			c.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse(limit), "cpu": resource.MustParse("1")}
		}
		return c
	}
	for _, tc := range []struct {
		name     string
		c        corev1.Container
		priority int32
		want     int
	}{
		{"asks for nothing", corev1.Container{}, 0, 1000},
		{"guaranteed", resources("1Gi", "1Gi"), 0, -997},
		{"a quarter of the node", resources("2Gi", ""), 0, 750},
		{"more than the node", resources("20Gi", ""), 0, 3},
		{"next to nothing", resources("1", ""), 0, 999},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{tc.c}, Priority: &tc.priority}}
		if got := oomScore(p, &tc.c, 8<<30); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}
