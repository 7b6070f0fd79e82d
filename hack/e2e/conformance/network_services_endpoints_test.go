//lint:file-ignore SA1019 Endpoints are deprecated for users, and still served.

package conformance

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// matching are three services over two pods: one of them by a port's number, both by a port's name that has another number in each, and
// nobody.
type matching struct {
	*row
	ns         string
	one, two   *corev1.Pod
	first      *corev1.Service
	both, none *corev1.Service
}

func (r *row) matching() *matching {
	r.Helper()
	m := &matching{row: r, ns: r.namespace()}
	pod := func(name string, ports ...corev1.ContainerPort) *corev1.Pod {
		p := application(name, "pause")
		p.Labels = map[string]string{name: "on", "shared": "on"}
		p.Spec.Containers[0].Ports = ports
		return p
	}
	service := func(name, label, portName string, target intstr.IntOrString) *corev1.Service {
		s, err := r.kube.CoreV1().Services(m.ns).Create(r.ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.ServiceSpec{Selector: map[string]string{label: "on"}, PublishNotReadyAddresses: true,
				Ports: []corev1.ServicePort{{Name: portName, Port: 80, TargetPort: target, Protocol: corev1.ProtocolTCP}}},
		}, metav1.CreateOptions{})
		r.must(err, "creating service "+name)
		return s
	}
	m.first = service("by-number", "pod1", "example", intstr.FromInt32(3000))
	m.both = service("by-name", "shared", "http", intstr.FromString("example-name"))
	m.none = service("no-match", "pod3", "example-no-match", intstr.FromInt32(8080))
	pods := r.several(m.ns,
		pod("pod1", corev1.ContainerPort{Name: "example-name", ContainerPort: 3000}),
		pod("pod2", corev1.ContainerPort{Name: "example-name", ContainerPort: 3001}, corev1.ContainerPort{Name: "other-port", ContainerPort: 3002}))
	m.one, m.two = pods[0], pods[1]
	return m
}

// inEndpoints waits until a service's Endpoints are these subsets, each «PORT-NAME PORT: POD ADDRESS…».
func (m *matching) inEndpoints(service string, want ...string) {
	m.Helper()
	m.settles(fmt.Sprintf("the Endpoints of %s are %q", service, want), func() (bool, error) {
		got, err := m.kube.CoreV1().Endpoints(m.ns).Get(m.ctx, service, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		var have []string
		for _, s := range got.Subsets {
			line := portsOf(s.Ports, func(p corev1.EndpointPort) string { return fmt.Sprint(p.Name, " ", p.Port, " ", p.Protocol) })
			for _, a := range s.Addresses {
				if a.TargetRef == nil || a.TargetRef.Kind != "Pod" || a.TargetRef.Namespace != m.ns || a.TargetRef.UID == "" || a.NodeName == nil {
					return false, fmt.Errorf("the address %s does not say whose it is", asJSON(a))
				}
				line += " " + a.TargetRef.Name + " " + a.IP
			}
			have = append(have, line)
		}
		slices.Sort(have)
		return slices.Equal(have, want), fmt.Errorf("they are %q", have)
	})
}

// inSlices waits until a service's slices are these.
func (m *matching) inSlices(service *corev1.Service, want ...string) {
	m.Helper()
	m.settles(fmt.Sprintf("the slices of %s are %q", service.Name, want), func() (bool, error) {
		got, err := m.slicesOf(m.ns, service.Name)
		if err != nil {
			return false, err
		}
		var have []string
		for _, s := range got {
			if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 ||
				s.Labels[discoveryv1.LabelManagedBy] != "endpointslice-controller.k8s.io" || !metav1.IsControlledBy(&s, service) {
				return false, fmt.Errorf("slice %s is not as the controller makes them: %s", s.Name, asJSON(s.ObjectMeta))
			}
			line := portsOf(s.Ports, func(p discoveryv1.EndpointPort) string { return fmt.Sprint(*p.Name, " ", *p.Port, " ", *p.Protocol) })
			for _, e := range s.Endpoints {
				if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || e.TargetRef.Namespace != m.ns || e.TargetRef.UID == "" || e.NodeName == nil ||
					e.Conditions.Ready == nil || !*e.Conditions.Ready {
					return false, fmt.Errorf("the endpoint %s does not say whose it is, or not that it is ready", asJSON(e))
				}
				line += " " + e.TargetRef.Name + " " + strings.Join(e.Addresses, " ")
			}
			have = append(have, line)
		}
		slices.Sort(have)
		return slices.Equal(have, want), fmt.Errorf("they are %q", have)
	})
}

func portsOf[P any](ports []P, say func(P) string) string {
	var all []string
	for _, p := range ports {
		all = append(all, say(p))
	}
	return strings.Join(all, ", ") + ":"
}

// wanted are what both say of the three services.
func (m *matching) wanted() (first, both []string) {
	one, two := " pod1 "+m.one.Status.PodIP, " pod2 "+m.two.Status.PodIP
	return []string{"example 3000 TCP:" + one}, []string{"http 3000 TCP:" + one, "http 3001 TCP:" + two}
}

// NET-012: services that select pods have Endpoints with their addresses, a subset for each number that a port's name has; a service of
// nobody has none; those of a deleted pod go.
func endpointsOfPods(r *row) {
	m := r.matching()
	first, both := m.wanted()
	m.inEndpoints("by-number", first...)
	m.inEndpoints("by-name", both...)
	m.inEndpoints("no-match")
	r.must(r.kube.CoreV1().Endpoints(m.ns).Delete(r.ctx, "by-name", metav1.DeleteOptions{}), "deleting Endpoints")
	m.inEndpoints("by-name", both...)
	r.removed(m.ns, "pod2")
	m.inEndpoints("by-name", both[:1]...)
}

// NET-014: so do their slices, one for each number; the service of nobody has an empty one; deleted ones are made again.
func slicesOfPods(r *row) {
	m := r.matching()
	first, both := m.wanted()
	m.inEndpoints("by-number", first...)
	m.inSlices(m.first, first...)
	m.inEndpoints("by-name", both...)
	m.inSlices(m.both, both...)
	m.inEndpoints("no-match")
	m.settles("no-match has one empty slice", func() (bool, error) {
		got, err := m.slicesOf(m.ns, "no-match")
		return err == nil && len(got) == 1 && len(got[0].Endpoints) == 0, fmt.Errorf("it has %s, %v", asJSON(got), err)
	})
	r.must(r.kube.DiscoveryV1().EndpointSlices(m.ns).DeleteCollection(r.ctx, metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=by-name"}), "deleting slices")
	m.inSlices(m.both, both...)
	r.removed(m.ns, "pod2")
	m.inSlices(m.both, both[:1]...)
}
