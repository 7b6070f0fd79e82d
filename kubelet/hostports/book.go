package hostports

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/network"
)

// front is where callers knock: an unspecified address means all of the node's, of that family.
type front struct {
	addr     netip.Addr
	protocol byte
	port     uint16
}

// target is where a front leads, and whose it is.
type target struct {
	to    netip.AddrPort
	owner owner
}

// owner is a pod. Only the key counts; namespace and name are for people.
type owner struct{ key, name string }

// book says who holds which front. Two pods never hold fronts that a packet could take for one another.
type book map[front]target

// The numbers of protocols in packets.
var protocols = map[corev1.Protocol]byte{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}

const udp = 17

func protocolName(number byte) string {
	for name, n := range protocols {
		if n == number {
			return string(name)
		}
	}
	return fmt.Sprint(number)
}

func (f front) String() string {
	if f.addr.IsUnspecified() {
		return fmt.Sprintf("%d/%s", f.port, protocolName(f.protocol))
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(f.addr, f.port), protocolName(f.protocol))
}

// HeldError says that another pod has the port.
type HeldError struct {
	Port   string // as 8080/TCP or 127.0.0.1:8080/TCP
	Holder string // the pod's namespace/name
	Key    string // its UID
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("host port %s is held by pod %s (UID %s)", e.Port, e.Holder, e.Key)
}

// fronts are what a pod with these addresses asks for. A port without an address is asked for in each family that the pod has an address of,
// one with 0.0.0.0 or :: on all addresses of that family, as CNI's portmap does.
func fronts(pod network.Pod, at network.Attachment) (book, error) {
	out := book{}
	for _, h := range pod.HostPorts {
		number, known := protocols[h.Protocol]
		if !known {
			return nil, fmt.Errorf("host port %d: unknown protocol %q", h.Port, h.Protocol)
		}
		host := h.HostIP.Unmap().WithZone("")
		for _, ip := range at.Addresses() {
			at := host
			if !host.IsValid() {
				at = unspecified(ip)
			}
			if at.Is4() == ip.Is4() {
				out[front{at, number, h.Port}] = target{netip.AddrPortFrom(ip, h.ContainerPort), owner{pod.Key, pod.Namespace + "/" + pod.Name}}
			}
		}
	}
	return out, nil
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// with is the book once the pod holds these fronts and no others; the book itself stays as it is.
func (b book) with(key string, want book) (book, error) {
	next := b.without(func(o owner) bool { return o.key == key })
	for f := range want {
		for held, by := range next {
			if held.meets(f) {
				return nil, &HeldError{Port: held.String(), Holder: by.owner.name, Key: by.owner.key}
			}
		}
	}
	maps.Copy(next, want)
	return next, nil
}

// meets: a packet may be for both.
func (f front) meets(g front) bool {
	return f.protocol == g.protocol && f.port == g.port && f.addr.Is4() == g.addr.Is4() &&
		(f.addr == g.addr || f.addr.IsUnspecified() || g.addr.IsUnspecified())
}

// without is the book without what some pods hold.
func (b book) without(gone func(owner) bool) book {
	next := make(book, len(b))
	for f, t := range b {
		if !gone(t.owner) {
			next[f] = t
		}
	}
	return next
}

// holds says whether the pod has a port.
func (b book) holds(key string) bool {
	for _, t := range b {
		if t.owner.key == key {
			return true
		}
	}
	return false
}

// of is the part of one family.
func (b book) of(v6 bool) book {
	out := book{}
	for f, t := range b {
		if f.addr.Is6() == v6 {
			out[f] = t
		}
	}
	return out
}

// commentLimit is what an element's comment may hold, with the byte that ends it and two that say what it is below the kernel's 256.
const commentLimit = 250

// comment is how the kernel remembers an owner: key first, so that a long name may be cut.
func (o owner) comment() string {
	text := o.key + " " + o.name
	return text[:min(len(text), commentLimit)]
}

func ownerOf(comment string) owner {
	key, name, _ := strings.Cut(comment, " ")
	return owner{key, name}
}
