package pods

import (
	"math"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/probes"
)

func TestOperatingSystem(t *testing.T) {
	node := &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")}}}
	for name, tc := range map[string]struct {
		os      *corev1.PodOS
		refused bool
	}{
		"nothing said": {nil, false},
		"ours":         {&corev1.PodOS{Name: corev1.Linux}, false},
		"another":      {&corev1.PodOS{Name: corev1.Windows}, true},
	} {
		no := admit(&Config{}, &corev1.Pod{Spec: corev1.PodSpec{OS: tc.os}}, node, nil, nil)
		if (no != nil) != tc.refused || no != nil && no.reason != "PodOSNotSupported" {
			t.Errorf("%s: %+v", name, no)
		}
	}
}

// TestLongGrace: a pod that may take for ever to end is not ended at once.
func TestLongGrace(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(math.MaxInt64))}}
	c := &corev1.Container{LivenessProbe: &corev1.Probe{TerminationGracePeriodSeconds: new(int64(math.MaxInt64))}}
	for _, got := range []int64{int64(grace(p)), int64(graceOf(p, c, probes.Liveness)), int64(graceOf(p, &corev1.Container{}, ""))} {
		if got <= 0 {
			t.Errorf("a huge grace period became %d", got)
		}
	}
}
