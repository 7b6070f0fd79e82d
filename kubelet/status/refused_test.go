package status

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestRefused: a pod that its node did not take in shows why, and not containers that are being created; one that got further keeps what it showed.
func TestRefused(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}, InitContainers: []corev1.Container{{Name: "i"}}}}
	st := Compute(Facts{Pod: p, Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "too little"})
	if len(st.ContainerStatuses)+len(st.InitContainerStatuses) != 0 || st.Reason != "OutOfcpu" {
		t.Errorf("refused: %+v", st)
	}
	if st := Compute(Facts{Pod: p, Phase: corev1.PodPending}); len(st.ContainerStatuses) != 1 || len(st.InitContainerStatuses) != 1 {
		t.Errorf("taken in: %+v", st)
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c"}}
	if st := Compute(Facts{Pod: p, Phase: corev1.PodFailed, Reason: "Evicted"}); len(st.ContainerStatuses) != 1 {
		t.Errorf("evicted before it ran: %+v", st)
	}
}
