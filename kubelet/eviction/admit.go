package eviction

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/placement"
	"pilothouse.dev/pkg/pod"
)

// Admit refuses pods while the node is under pressure; see pods.Guard.
func (m *Manager) Admit(p *corev1.Pod) (string, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return refuse(p, m.pressure)
}

// refuse: under pressure only critical pods come in, and where nothing but memory is short also those that asked for some, and those that tolerate it.
func refuse(p *corev1.Pod, pressure map[corev1.NodeConditionType]bool) (string, string) {
	var kinds []corev1.NodeConditionType
	for kind, is := range pressure {
		if is {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 || pod.Critical(p) {
		return "", ""
	}
	if len(kinds) == 1 && kinds[0] == corev1.NodeMemoryPressure {
		taint := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		if pod.QoS(p) != corev1.PodQOSBestEffort || placement.Tolerates(p.Spec.Tolerations, &taint) {
			return "", ""
		}
	}
	slices.Sort(kinds)
	return reason, fmt.Sprintf("Pod was rejected: The node had condition: %v. ", kinds)
}
