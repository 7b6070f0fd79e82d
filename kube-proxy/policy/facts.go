package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/kube-proxy/changes"
)

// Name is the name of a namespaced object.
type Name struct{ Namespace, Name string }

// Pod is what policies need to know of a pod.
// INVARIANT: it is never changed. Texts that many pods share are kept once.
type Pod struct {
	Name      Name
	Addresses []netip.Addr // at most one a family; none: of this node, and has none yet
	Local     bool         // it runs on this node
	Created   int64        // of two that claim one address the younger has it

	labels unique.Handle[string] // as labelText writes them
	ports  unique.Handle[string] // named ports, as portText writes them
}

// podOf is the fact of a pod, or nil if policies have nothing to do with it: it
// has no address and is not of this node, or has the node's, or has ended.
func podOf(p *corev1.Pod, node string) *Pod {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	out := &Pod{
		Name:    Name{unique.Make(p.Namespace).Value(), strings.Clone(p.Name)},
		Local:   p.Spec.NodeName == node,
		Created: p.CreationTimestamp.Unix(),
		labels:  unique.Make(labelText(p.Labels)),
		ports:   unique.Make(portText(&p.Spec)),
	}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out.Addresses = append(out.Addresses, a.Unmap())
		}
	}
	if len(out.Addresses) == 0 && !out.Local {
		return nil
	}
	return out
}

// GetObjectMeta names the pod, for stores of client-go.
func (p *Pod) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: p.Name.Namespace, Name: p.Name.Name}
}

func (p *Pod) equal(o *Pod) bool {
	return p.Local == o.Local && p.Created == o.Created && p.labels == o.labels && p.ports == o.ports && slices.Equal(p.Addresses, o.Addresses)
}

// labelText writes labels as one text: sorted, and neither sign can be in a label.
func labelText(set map[string]string) string {
	keys := make([]string, 0, len(set))
	for k, v := range set {
		keys = append(keys, k+"="+v)
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}

func labelsOf(text string) labels.Set {
	out := labels.Set{}
	for pair := range strings.SplitSeq(text, ",") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			out[k] = v
		}
	}
	return out
}

// portName is a port that a policy names: the number is the pod's to say.
type portName struct {
	name  string
	proto changes.Protocol
}

// namedPort is a container port with a name.
type namedPort struct {
	portName
	port uint16
}

func (p namedPort) String() string {
	return p.name + "/" + p.proto.String() + "/" + strconv.Itoa(int(p.port))
}

// portText writes the named ports of a pod's containers and sidecars as one text.
func portText(spec *corev1.PodSpec) string {
	var all []namedPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.Name != "" {
				all = append(all, namedPort{portName{p.Name, protocolOf(p.Protocol)}, uint16(p.ContainerPort)})
			}
		}
	}
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range spec.Containers {
		add(&spec.Containers[i])
	}
	return joinPorts(all)
}

// joinPorts sorts named ports and writes them as one text.
func joinPorts(all []namedPort) string {
	slices.SortFunc(all, func(a, b namedPort) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port))
	})
	var b strings.Builder
	for i, p := range slices.Compact(all) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

func portsOf(text string) []namedPort {
	var out []namedPort
	for item := range strings.SplitSeq(text, ",") {
		if part := strings.Split(item, "/"); len(part) == 3 {
			n, _ := strconv.ParseUint(part[2], 10, 16) // we wrote it
			out = append(out, namedPort{portName{part[0], protocolOf(corev1.Protocol(strings.ToUpper(part[1])))}, uint16(n)})
		}
	}
	return out
}

func protocolOf(p corev1.Protocol) changes.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return changes.UDP
	case corev1.ProtocolSCTP:
		return changes.SCTP
	}
	return changes.TCP
}

// Namespace is what policies need to know of a namespace.
type Namespace struct {
	Name   string
	labels string // as labelText writes them
}

func namespaceOf(n *corev1.Namespace) *Namespace {
	return &Namespace{Name: n.Name, labels: labelText(n.Labels)}
}

// GetObjectMeta names the namespace, for stores of client-go.
func (n *Namespace) GetObjectMeta() metav1.Object { return &metav1.ObjectMeta{Name: n.Name} }
