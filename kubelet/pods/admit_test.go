package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// A port of the node goes to one pod at a time, until that has ended.
func TestHostPortsAreTaken(t *testing.T) {
	with := func(uid string, port int32, protocol corev1.Protocol, phase corev1.PodPhase) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c",
			Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: port, Protocol: protocol}}}}}}
		p.UID, p.Status.Phase = types.UID(uid), phase
		return p
	}
	node := &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{}}}
	node.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("10")
	comes := with("new", 8080, corev1.ProtocolTCP, corev1.PodPending)
	for name, tc := range map[string]struct {
		other *corev1.Pod
		taken bool
	}{
		"taken":            {with("a", 8080, corev1.ProtocolTCP, corev1.PodRunning), true},
		"another port":     {with("a", 8081, corev1.ProtocolTCP, corev1.PodRunning), false},
		"another protocol": {with("a", 8080, corev1.ProtocolUDP, corev1.PodRunning), false},
		"it has ended":     {with("a", 8080, corev1.ProtocolTCP, corev1.PodFailed), false},
		"itself":           {with("new", 8080, corev1.ProtocolTCP, corev1.PodRunning), false},
	} {
		t.Run(name, func(t *testing.T) {
			no := admit(&Config{}, comes, node, []*corev1.Pod{tc.other}, nil)
			if (no != nil) != tc.taken || no != nil && no.reason != "NodePorts" {
				t.Errorf("rejected: %+v", no)
			}
		})
	}
}
