package conformance

import (
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
)

// granular is a row of a pod on every node, each of which is called from every node: by pods, or by processes on the nodes' own network.
func granular(protocol string, fromNodes bool, hostPort int) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		places := r.places()
		if len(places) < 2 {
			r.Fatalf("only %d nodes can have pods: between which should they call?", len(places))
		}
		var pods []*corev1.Pod
		for i, p := range places {
			pods = append(pods, at(p, answering(fmt.Sprintf("netserver-%d", i), "netserver", "8083", "udp:8081")))
		}
		pods = r.several(ns, pods...)
		for i, p := range places {
			on := hostPort
			if !fromNodes {
				on = 0
			}
			c := r.makeCaller(ns, fmt.Sprintf("caller-%d", i), &p, on)
			if fromNodes {
				r.equal("address of a pod on the node's network", c.ip, p.ip)
			}
			for _, to := range pods {
				url := "http://" + net.JoinHostPort(to.Status.PodIP, "8083") + "/hostname"
				if protocol == "udp" {
					url = "udp://" + net.JoinHostPort(to.Status.PodIP, "8081")
				}
				c.answered("the pod network", []string{url}, to.Name)
			}
		}
	}
}
