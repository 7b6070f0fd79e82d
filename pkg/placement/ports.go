package placement

import (
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// HostPort is a port of the node that a container takes. Address empty or 0.0.0.0 means all addresses.
type HostPort struct {
	Address  string
	Protocol corev1.Protocol
	Port     int32
}

const anyAddress = "0.0.0.0"

// HostPorts are the ports of the node that a pod takes, those of its containers and sidecars. Nil when there are none.
func HostPorts(p *corev1.Pod) []HostPort {
	var ports []HostPort
	for kind, c := range pod.Containers(p) {
		if kind == pod.Ephemeral || kind == pod.Init && !pod.Sidecar(c) {
			continue
		}
		for _, port := range c.Ports {
			if port.HostPort > 0 {
				ports = append(ports, HostPort{port.HostIP, port.Protocol, port.HostPort}.clean())
			}
		}
	}
	return ports
}

func (h HostPort) clean() HostPort {
	if h.Address == "" || h.Address == "::" {
		h.Address = anyAddress
	}
	if h.Protocol == "" {
		h.Protocol = corev1.ProtocolTCP
	}
	return h
}

// Ports are the host ports in use on a node, each with the number of its users. The zero value is empty; a copy shares the
// ports: use Clone.
type Ports struct {
	users map[HostPort]int
}

// Add notes that one more pod uses the ports.
func (p *Ports) Add(ports []HostPort) {
	if len(ports) > 0 && p.users == nil {
		p.users = make(map[HostPort]int)
	}
	for _, h := range ports {
		p.users[h.clean()]++
	}
}

// Remove undoes one Add.
func (p *Ports) Remove(ports []HostPort) {
	for _, h := range ports {
		h = h.clean()
		if p.users[h]--; p.users[h] <= 0 {
			delete(p.users, h)
		}
	}
}

// Conflict says whether one of the wanted ports is taken: same protocol and port, and the same address or one side on all.
func (p Ports) Conflict(want []HostPort) bool {
	if len(p.users) == 0 {
		return false
	}
	for _, w := range want {
		w = w.clean()
		if w.Address != anyAddress {
			if p.users[w] > 0 {
				return true
			}
			w.Address = anyAddress
			if p.users[w] > 0 {
				return true
			}
			continue
		}
		for h := range p.users {
			if h.Protocol == w.Protocol && h.Port == w.Port {
				return true
			}
		}
	}
	return false
}

// Clone is a copy that shares nothing with p.
func (p Ports) Clone() Ports {
	c := Ports{}
	for h, n := range p.users {
		if c.users == nil {
			c.users = make(map[HostPort]int, len(p.users))
		}
		c.users[h] = n
	}
	return c
}
