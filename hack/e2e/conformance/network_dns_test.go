package conformance

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Rows about names that pods look up. Each looks them up in a pod, along the pod's own search path, over UDP and over TCP.

// querier is a pod that looks up names when it is asked to.
type querier struct {
	*row
	ns, pod string
}

// querier starts one. With a subdomain it has names below a service of that name, under its label.
func (r *row) querier(ns, label, hostname, subdomain string) *querier {
	r.Helper()
	pod := application("querier", "serve")
	pod.Labels = map[string]string{rowLabel: label}
	pod.Spec.Hostname, pod.Spec.Subdomain = hostname, subdomain
	r.podIs(ns, pod, "is ready", ready)
	return &querier{row: r, ns: ns, pod: "querier"}
}

// says is what a question, KIND:NAME, is answered with.
func (q *querier) says(ask string) (string, error) {
	b, err := q.kube.CoreV1().Pods(q.ns).ProxyGet("http", q.pod, "8080", "resolve", map[string]string{"ask": ask}).DoRaw(q.ctx)
	if err != nil {
		return "", fmt.Errorf("asking for %s: %w", ask, err)
	}
	_, said, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	return said, nil
}

// finds waits until a question is answered so. Questions to a name server, not to a file, are asked over UDP and over TCP.
func (q *querier) finds(ask, want string) {
	q.Helper()
	asks := []string{ask}
	if kind, name, _ := strings.Cut(ask, ":"); kind != "host" {
		asks = append(asks, kind+"+tcp:"+name)
	}
	for _, a := range asks {
		q.settles(a+" is "+want, func() (bool, error) {
			said, err := q.says(a)
			if err == nil && said != want {
				err = fmt.Errorf("it is %s", said)
			}
			return err == nil, err
		})
	}
}

// address is the querier's own.
func (q *querier) address() string {
	q.Helper()
	p, err := q.kube.CoreV1().Pods(q.ns).Get(q.ctx, q.pod, metav1.GetOptions{})
	q.must(err, "getting the querier")
	return p.Status.PodIP
}

// apiServer is the address of the service of the API server.
func (r *row) apiServer() string {
	r.Helper()
	s, err := r.kube.CoreV1().Services(metav1.NamespaceDefault).Get(r.ctx, "kubernetes", metav1.GetOptions{})
	r.must(err, "getting the service of the API server")
	return s.Spec.ClusterIP
}

// namedService makes a service of one port, http, of the pods with the label; without an address of its own it has theirs.
func (r *row) namedService(ns, name, label string, headless bool) *corev1.Service {
	r.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{rowLabel: label},
		Ports:    []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}},
	}}
	if headless {
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}
	made, err := r.kube.CoreV1().Services(ns).Create(r.ctx, s, metav1.CreateOptions{})
	r.must(err, "creating service "+name)
	return made
}

// addressKind is the kind of record that an address is in.
func addressKind(ip string) string {
	if strings.Contains(ip, ":") {
		return "aaaa:"
	}
	return "a:"
}

// NET-008: the API server's service has a name.
func dnsOfCluster(r *row) {
	q := r.querier(r.namespace(), r.unique(), "", "")
	ip := r.apiServer()
	q.finds(addressKind(ip)+"kubernetes.default.svc."+domain, ip)
	q.finds(addressKind(ip)+"kubernetes.default.svc."+domain+".", ip)
}

// NET-003: a pod with a hostname and a subdomain knows itself by both of its names.
func dnsHostsEntries(r *row) {
	ns, label := r.namespace(), r.unique()
	r.namedService(ns, "dns-test-service", label, true)
	q := r.querier(ns, label, "dns-querier-1", "dns-test-service")
	ip := q.address()
	for _, name := range []string{"dns-querier-1.dns-test-service." + ns + ".svc." + domain, "dns-querier-1"} {
		q.finds("host:"+name, ip)
	}
	if hosts := r.file(ns, q.pod, "/etc/hosts"); !strings.Contains(hosts, ip+"\tdns-querier-1.dns-test-service."+ns+".svc."+domain+"\tdns-querier-1\n") {
		r.Fatalf("/etc/hosts has no names of the pod: %s", hosts)
	}
}

// NET-007: services have names and their ports too, with an address of theirs and without one, and the address leads back to the name.
func dnsOfServices(r *row) {
	ns, label := r.namespace(), r.unique()
	below := "." + ns + ".svc." + domain
	r.namedService(ns, "headless", label, true)
	regular := r.namedService(ns, "regular", label, false)
	q := r.querier(ns, label, "", "")
	ip := q.address()
	dashed := strings.NewReplacer(".", "-", ":", "-").Replace(ip)
	for _, dot := range []string{"", "."} {
		q.finds(addressKind(ip)+"headless"+below+dot, ip)
		q.finds(addressKind(ip)+"regular"+below+dot, regular.Spec.ClusterIP)
		q.finds("srv:_http._tcp.headless"+below+dot, dashed+".headless"+below+".:8080")
		q.finds("srv:_http._tcp.regular"+below+dot, "regular"+below+".:80")
	}
	q.finds("ptr:"+regular.Spec.ClusterIP, "regular"+below+".")
	q.finds(addressKind(ip)+dashed+".headless"+below, ip)
}

// NET-009: the same by parts of their names, along the pod's search path.
func dnsOfPartialNames(r *row) {
	ns, label := r.namespace(), r.unique()
	r.namedService(ns, "headless", label, true)
	regular := r.namedService(ns, "regular", label, false)
	q := r.querier(ns, label, "", "")
	ip := q.address()
	full := "." + ns + ".svc." + domain
	dashed := strings.NewReplacer(".", "-", ":", "-").Replace(ip)
	for _, part := range []string{"", "." + ns, "." + ns + ".svc"} {
		q.finds(addressKind(ip)+"headless"+part, ip)
		q.finds(addressKind(ip)+"regular"+part, regular.Spec.ClusterIP)
	}
	for _, part := range []string{"." + ns, "." + ns + ".svc"} {
		q.finds("srv:_http._tcp.headless"+part, dashed+".headless"+full+".:8080")
		q.finds("srv:_http._tcp.regular"+part, "regular"+full+".:80")
	}
	q.finds("ptr:"+regular.Spec.ClusterIP, "regular"+full+".")
}

// NET-005: a pod with a hostname, below a headless service, is found by that name.
func dnsOfHostname(r *row) {
	ns, label := r.namespace(), r.unique()
	r.namedService(ns, "dns-test-service-2", label, true)
	q := r.querier(ns, label, "dns-querier-2", "dns-test-service-2")
	ip := q.address()
	full := "dns-querier-2.dns-test-service-2." + ns + ".svc." + domain
	for _, name := range []string{full, "dns-querier-2.dns-test-service-2", "dns-querier-2.dns-test-service-2." + ns} {
		q.finds(addressKind(ip)+name, ip)
	}
	q.finds("host:dns-querier-2", ip)
	q.finds("ptr:"+ip, full+".")
}

// NET-006: so it is by the service's name, which stands for all such pods.
func dnsOfSubdomain(r *row) {
	ns, label := r.namespace(), r.unique()
	r.namedService(ns, "dns-test-service-2", label, true)
	q := r.querier(ns, label, "dns-querier-2", "dns-test-service-2")
	ip := q.address()
	for _, name := range []string{"dns-querier-2.dns-test-service-2." + ns + ".svc." + domain, "dns-test-service-2." + ns + ".svc." + domain} {
		q.finds(addressKind(ip)+name, ip)
		q.finds("host:"+name, ip)
	}
}

// NET-004: the name of a service of type ExternalName stands for another name; for that one's successor when it changes, and for an address
// when the service gets one.
func dnsOfExternalName(r *row) {
	ns := r.namespace()
	services := r.kube.CoreV1().Services(ns)
	_, err := services.Create(r.ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "dns-test-service-3"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "foo.example.com"}}, metav1.CreateOptions{})
	r.must(err, "creating a service")
	q := r.querier(ns, r.unique(), "", "")
	name := "dns-test-service-3." + ns + ".svc." + domain
	q.finds("cname:"+name, "foo.example.com.")

	_, err = services.Patch(r.ctx, "dns-test-service-3", types.MergePatchType, []byte(`{"spec":{"externalName":"bar.example.com"}}`), metav1.PatchOptions{})
	r.must(err, "changing the name")
	q.finds("cname:"+name, "bar.example.com.")

	changed, err := services.Patch(r.ctx, "dns-test-service-3", types.MergePatchType,
		[]byte(`{"spec":{"type":"ClusterIP","externalName":null,"ports":[{"port":80,"name":"http","protocol":"TCP"}]}}`), metav1.PatchOptions{})
	r.must(err, "changing the type")
	if changed.Spec.ClusterIP == "" {
		r.Fatal("the service got no address")
	}
	q.finds(addressKind(changed.Spec.ClusterIP)+name, changed.Spec.ClusterIP)
	q.finds("cname:"+name, "(Success)")
}

// NET-010: a pod that asks for no name servers of the cluster has its own, and its own search path.
func dnsOfItsOwn(r *row) {
	ns := r.namespace()
	pod := application("own", "serve")
	pod.Spec.DNSPolicy = corev1.DNSNone
	pod.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"resolv.conf.local"}}
	r.podIs(ns, pod, "is ready", ready)
	r.equal("resolv.conf", r.file(ns, "own", "/etc/resolv.conf"), "search resolv.conf.local\nnameserver 1.1.1.1\n")
}
