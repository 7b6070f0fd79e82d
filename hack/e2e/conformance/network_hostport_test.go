package conformance

import (
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NET-020: one number is the host port of three pods of one node, for different addresses and protocols, and each is reached by its own. A fourth pod
// that wants what one of them holds gets no place there.
func hostPorts(r *row) {
	const number, text = 54323, "54323"
	loopback := map[bool]string{false: "127.0.0.1", true: "::1"}
	ns, here := r.namespace(), r.places()[0]
	v6 := strings.Contains(here.ip, ":")
	on := func(name, ip string, protocol corev1.Protocol) *corev1.Pod {
		pod := at(here, answering(name, "hostport", "8080", "udp:8080"))
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: number, ContainerPort: 8080, Protocol: protocol, HostIP: ip}}
		return pod
	}
	r.several(ns, on("one", loopback[v6], corev1.ProtocolTCP), on("two", here.ip, corev1.ProtocolTCP), on("three", here.ip, corev1.ProtocolUDP))

	node := r.makeCaller(ns, "node", &here, 18433)
	if !v6 { // the kernel has no way from ::1 to a pod
		node.answered("the loopback address", []string{"http://127.0.0.1:" + text}, "one")
	}
	address := net.JoinHostPort(here.ip, text)
	callers := []*caller{node, r.makeCaller(ns, "neighbour", &here, 0)}
	if i := slices.IndexFunc(r.places(), func(p place) bool { return p != here }); i >= 0 {
		callers = append(callers, r.makeCaller(ns, "elsewhere", &r.places()[i], 0), r.makeCaller(ns, "other-node", &r.places()[i], 18434))
	}
	for _, c := range callers {
		c.answered("the node's address", []string{"http://" + address}, "two")
		c.answered("the node's address by UDP", []string{"udp://" + address}, "three")
	}

	_, err := r.kube.CoreV1().Pods(ns).Create(r.ctx, on("four", "", corev1.ProtocolUDP), metav1.CreateOptions{})
	r.must(err, "creating a pod for a port that is taken")
	r.becomes(ns, "four", "cannot be placed", func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable &&
				strings.Contains(c.Message, "1 node(s) didn't have free ports for the requested pod ports")
		})
	})
	r.removed(ns, "three")
	r.becomes(ns, "four", "has the port once it is free", ready)
	for _, c := range callers {
		c.answered("the port's next holder", []string{"udp://" + address}, "four")
	}
}
