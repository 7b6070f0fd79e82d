package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Conditions have the reasons that users look for.
func TestPressureReasons(t *testing.T) {
	well, ill := conditions(health{}), conditions(health{memory: true, disk: true, pids: true})
	for i, want := range []struct {
		kind           corev1.NodeConditionType
		has, hasNot    string
		says, saysLess string
	}{
		{corev1.NodeMemoryPressure, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "kubelet has insufficient memory available", "kubelet has sufficient memory available"},
		{corev1.NodeDiskPressure, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "kubelet has disk pressure", "kubelet has no disk pressure"},
		{corev1.NodePIDPressure, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "kubelet has insufficient PID available", "kubelet has sufficient PID available"},
	} {
		if c := ill[i]; c.Type != want.kind || c.Status != corev1.ConditionTrue || c.Reason != want.has || c.Message != want.says {
			t.Errorf("under pressure: %+v", c)
		}
		if c := well[i]; c.Type != want.kind || c.Status != corev1.ConditionFalse || c.Reason != want.hasNot || c.Message != want.saysLess {
			t.Errorf("without pressure: %+v", c)
		}
	}
}
