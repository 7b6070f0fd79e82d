package conformance

import (
	"net"

	corev1 "k8s.io/api/core/v1"
)

// Rows of services that change between having an address and being another name.

// renamed are two services: one that is changed, and one with pods behind it, whose name the first takes or had.
type renamed struct {
	*row
	ns    string
	c     *caller
	other string   // the name of the second
	names []string // of its pods
}

func (r *row) renamed() *renamed {
	r.Helper()
	ns := r.namespace()
	n := &renamed{row: r, ns: ns, other: "externalsvc." + ns + ".svc." + domain, names: r.replicas(ns, "external", "external", 2, "9376")}
	r.service(ns, "externalsvc", "external", nil, port("", 80, 9376, corev1.ProtocolTCP))
	r.endpointsAre(ns, "externalsvc", n.names[0]+":9376", n.names[1]+":9376")
	n.c = r.makeCaller(ns, "caller", nil, 0).resolves()
	return n
}

// NET-026, NET-029: a service that had an address, and node ports, is another name: its own name leads to the other's pods, and where it
// was reached nobody answers.
func toExternalName(kind corev1.ServiceType) func(*row) {
	return func(r *row) {
		n := r.renamed()
		names := r.replicas(n.ns, "own", "own", 1, "9376")
		s := r.service(n.ns, "changing", "own", func(s *corev1.ServiceSpec) { s.Type = kind }, port("http", 80, 9376, corev1.ProtocolTCP))
		r.endpointsAre(n.ns, "changing", names[0]+":9376")
		before := r.addresses(s)
		n.c.answered("the service before its change", before, names...)
		s = r.changed(s, func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, n.other })
		r.equal("address after the change", s.Spec.ClusterIP, "")
		r.equal("addresses after the change", len(s.Spec.ClusterIPs), 0)
		for _, p := range s.Spec.Ports {
			r.equal("node port after the change", p.NodePort, int32(0))
		}
		n.c.answered("the name after the change", []string{"http://changing:80", "http://changing." + n.ns + ".svc." + domain + ":80"}, n.names...)
		n.c.unanswered("where the service was", before[1:]...)
	}
}

// NET-027, NET-028: a service that was another name gets an address, and node ports, and pods of its own.
func fromExternalName(kind corev1.ServiceType) func(*row) {
	return func(r *row) {
		n := r.renamed()
		s := r.service(n.ns, "changing", "", func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName, s.Selector = corev1.ServiceTypeExternalName, n.other, nil
		})
		r.equal("address of a name", s.Spec.ClusterIP, "")
		n.c.answered("the name before the change", []string{"http://changing:80"}, n.names...)
		names := r.replicas(n.ns, "own", "own", 2, "9377")
		s = r.changed(s, func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName, s.Selector = kind, "", map[string]string{rowLabel: "own"}
			s.Ports = []corev1.ServicePort{port("http", 80, 9377, corev1.ProtocolTCP)}
		})
		if net.ParseIP(s.Spec.ClusterIP) == nil {
			r.Fatalf("the service has the address %q", s.Spec.ClusterIP)
		}
		r.equal("it has a node port", s.Spec.Ports[0].NodePort != 0, kind == corev1.ServiceTypeNodePort)
		r.endpointsAre(n.ns, "changing", names[0]+":9377", names[1]+":9377")
		n.c.answered("the service after the change", r.addresses(s), names...)
	}
}
