package pods

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/network"
	"pilothouse.dev/pkg/pod"
)

// Annotations that bound a pod's traffic, in bits a second
// (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/network-plugins/#support-traffic-shaping), and what they may say.
const (
	annotationIngress = "kubernetes.io/ingress-bandwidth"
	annotationEgress  = "kubernetes.io/egress-bandwidth"
)

var leastBandwidth, mostBandwidth = resource.MustParse("1k"), resource.MustParse("1P")

// joined is what the network is told of the pod. A bandwidth that makes no sense is an error: the sandbox then cannot be made, and the event
// FailedCreatePodSandBox says why.
func joined(p *corev1.Pod, netns string) (network.Pod, error) {
	out := network.Pod{Key: string(p.UID), Namespace: p.Namespace, Name: p.Name, NetNS: netns}
	if p.Spec.HostNetwork {
		return out, nil // its ports are the node's own
	}
	var err error
	if out.HostPorts, err = portsOf(p); err != nil {
		return network.Pod{}, err
	}
	if out.Bandwidth.Ingress, err = bandwidth(p, annotationIngress); err == nil {
		out.Bandwidth.Egress, err = bandwidth(p, annotationEgress)
	}
	if err != nil {
		return network.Pod{}, fmt.Errorf("reading pod bandwidth annotations: %w", err)
	}
	return out, nil
}

// portsOf are the ports of the node that the pod's containers and sidecars ask for, each once.
func portsOf(p *corev1.Pod) (out []network.HostPort, err error) {
	for kind, c := range pod.Containers(p) {
		if kind == pod.Ephemeral || kind == pod.Init && !pod.Sidecar(c) {
			continue
		}
		for _, port := range c.Ports {
			if port.HostPort <= 0 {
				continue
			}
			h := network.HostPort{Protocol: port.Protocol, Port: uint16(port.HostPort), ContainerPort: uint16(port.ContainerPort)}
			if h.Protocol == "" {
				h.Protocol = corev1.ProtocolTCP
			}
			if port.HostIP != "" {
				if h.HostIP, err = netip.ParseAddr(port.HostIP); err != nil {
					return nil, fmt.Errorf("reading hostIP of container %s: %w", c.Name, err)
				}
			}
			if !slices.Contains(out, h) {
				out = append(out, h)
			}
		}
	}
	return out, nil
}

// bandwidth is what an annotation says, 0 without it.
func bandwidth(p *corev1.Pod, annotation string) (uint64, error) {
	text, given := p.Annotations[annotation]
	if !given {
		return 0, nil
	}
	q, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
		return 0, err
	case q.Cmp(leastBandwidth) < 0:
		return 0, errors.New("resource is unreasonably small (< 1kbit)")
	case q.Cmp(mostBandwidth) > 0:
		return 0, errors.New("resource is unreasonably large (> 1Pbit)")
	}
	return uint64(q.Value()), nil
}
