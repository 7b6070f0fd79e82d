package changes_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kube-proxy/changes"
)

const thisNode = "n1"

func ptr[T any](v T) *T { return &v }

func svc(name string, edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

// slice makes an EndpointSlice; each endpoint is «address node state», where
// state is ready, notready, terminating (serving) or gone (terminating).
func slice(name, service string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "d", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr[int32](8080)}},
	}
	for _, e := range endpoints {
		f := strings.Fields(e)
		x := discoveryv1.Endpoint{Addresses: []string{f[0]}, NodeName: &f[1]}
		switch f[2] {
		case "ready":
			x.Conditions = discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)}
		case "unset":
		case "notready":
			x.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(false), Terminating: ptr(false)}
		case "terminating":
			x.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
		case "gone":
			x.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(false), Terminating: ptr(true)}
		}
		for _, h := range f[3:] {
			kind, at, _ := strings.Cut(h, "=")
			if x.Hints == nil {
				x.Hints = &discoveryv1.EndpointHints{}
			}
			if kind == "zone" {
				x.Hints.ForZones = append(x.Hints.ForZones, discoveryv1.ForZone{Name: at})
			} else {
				x.Hints.ForNodes = append(x.Hints.ForNodes, discoveryv1.ForNode{Name: at})
			}
		}
		s.Endpoints = append(s.Endpoints, x)
	}
	return s
}

// show writes a table down, a line a service port.
func show(t *changes.Table) string {
	var b strings.Builder
	list := func(all []changes.Endpoint) string {
		var out []string
		for _, e := range all {
			text := e.Addr.String()
			if e.Local {
				text += "*"
			}
			out = append(out, text)
		}
		return strings.Join(out, " ")
	}
	for s := range t.All() {
		fmt.Fprintf(&b, "%s %s %s:%d", s.Name, s.Protocol, s.ClusterIP, s.Port)
		if s.NodePort != 0 {
			fmt.Fprintf(&b, " node:%d", s.NodePort)
		}
		if len(s.External) > 0 {
			fmt.Fprintf(&b, " external:%v", s.External)
		}
		if s.Affinity != 0 {
			fmt.Fprintf(&b, " sticky:%s", s.Affinity)
		}
		if s.HealthCheckNodePort != 0 {
			fmt.Fprintf(&b, " health:%d", s.HealthCheckNodePort)
		}
		fmt.Fprintf(&b, " -> %s", list(s.Endpoints))
		if s.InternalLocal || s.ExternalLocal {
			fmt.Fprintf(&b, " | local %s", list(s.LocalEndpoints))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestTable(t *testing.T) {
	nodePort := func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
	}
	for _, c := range []struct {
		name     string
		service  *corev1.Service
		slices   []*discoveryv1.EndpointSlice
		zone     string
		wantRest string // after «d/web:http tcp 10.96.0.1:80 »; "": no service at all
	}{
		{"no endpoints", svc("web"), nil, "", "-> "},
		{"ready ones answer", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.2 n2 ready", "10.1.0.1 n1 ready", "10.1.0.3 n2 notready")}, "", "-> 10.1.0.1:8080* 10.1.0.2:8080"},
		{"an unset condition is ready", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.2 n2 unset")}, "", "-> 10.1.0.2:8080"},
		{"two slices, one endpoint in both", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.2 n2 ready"), slice("b", "web", "10.1.0.2 n2 ready", "10.1.0.3 n2 ready")}, "", "-> 10.1.0.2:8080 10.1.0.3:8080"},
		{"terminating ones do not while another is ready", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 n1 terminating", "10.1.0.2 n2 ready")}, "", "-> 10.1.0.2:8080"},
		{"terminating ones are the last resort", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 n1 terminating", "10.1.0.2 n2 gone", "10.1.0.3 n2 notready")}, "", "-> 10.1.0.1:8080*"},
		{"another service's slice", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "other", "10.1.0.1 n1 ready")}, "", "-> "},
		{"hints of the zone", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 n2 ready zone=z1", "10.1.0.2 n3 ready zone=z2")}, "z2", "-> 10.1.0.2:8080"},
		{"hints of the node win", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 n1 ready zone=z1 node=n1", "10.1.0.2 n3 ready zone=z1 node=n3")}, "z1", "-> 10.1.0.1:8080*"},
		{"one without a hint spoils them", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 n2 ready zone=z1", "10.1.0.2 n3 ready")}, "z1", "-> 10.1.0.1:8080 10.1.0.2:8080"},
		{"no hint points here", svc("web"), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 n2 ready zone=z1")}, "z9", "-> 10.1.0.1:8080"},
		{"node port", svc("web", nodePort), nil, "", "node:30080 -> "},
		{"external policy Local", svc("web", nodePort, func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" }),
			[]*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 n1 ready", "10.1.0.2 n2 ready")}, "", "node:30080 -> 10.1.0.1:8080* 10.1.0.2:8080 | local 10.1.0.1:8080*"},
		{"Local, ours terminates", svc("web", nodePort, func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" }),
			[]*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.1 n1 terminating", "10.1.0.2 n2 ready")}, "", "node:30080 -> 10.1.0.2:8080 | local 10.1.0.1:8080*"},
		{"internal policy Local", svc("web", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
		}), []*discoveryv1.EndpointSlice{slice("a", "web", "10.1.0.2 n2 ready")}, "", "-> 10.1.0.2:8080 | local "},
		{"load balancer", svc("web", nodePort, func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, "Local", 30999
			s.Spec.ExternalIPs = []string{"192.0.2.9", "bad", "2001:db8::1"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.8"}, {IP: "192.0.2.7", IPMode: ptr(corev1.LoadBalancerIPModeProxy)}, {Hostname: "x"}}
		}), nil, "", "node:30080 external:[192.0.2.8 192.0.2.9] health:30999 ->  | local "},
		{"client affinity", svc("web", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), nil, "", "sticky:3h0m0s -> "},
		{"client affinity with a time", svc("web", func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr[int32](9)}}
		}), nil, "", "sticky:9s -> "},
		{"headless", svc("web", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }), nil, "", ""},
		{"external name", svc("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil, "", ""},
		{"no address yet", svc("web", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil }), nil, "", ""},
		{"IPv6 only", svc("web", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "fd00::1", []string{"fd00::1"} }), nil, "", ""},
		{"another proxy's", svc("web", func(s *corev1.Service) { s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "x"} }), nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := changes.New(thisNode, false)
			tr.SetZone(c.zone)
			for _, s := range c.slices { // before their service, as informers may
				tr.SetSlice(s)
			}
			tr.SetService(c.service)
			got, _ := tr.Take()
			want := ""
			if c.wantRest != "" {
				want = "d/web:http tcp 10.96.0.1:80 " + c.wantRest + "\n"
			}
			if show(got) != want {
				t.Errorf("got  %swant %s", show(got), want)
			}
		})
	}
}

// What did not change keeps its pointer, and a table once given stays as it was.
func TestTablesShareWhatDidNotChange(t *testing.T) {
	tr := changes.New(thisNode, false)
	for i := range 100 {
		name := fmt.Sprintf("s%02d", i)
		tr.SetService(svc(name))
		tr.SetSlice(slice(name, name, "10.1.0.1 n2 ready"))
	}
	first, news := tr.Take()
	if first.Len() != 100 || news.Services != 100 || news.Slices != 100 {
		t.Fatalf("got %d services, %+v", first.Len(), news)
	}
	text := show(first)

	if again, _ := tr.Take(); again != first {
		t.Error("nothing changed, but the table did")
	}
	tr.SetSlice(slice("s50", "s50", "10.1.0.1 n2 ready"))
	if again, _ := tr.Take(); again != first {
		t.Error("nothing that matters changed, but the table did")
	}

	tr.SetSlice(slice("s50", "s50", "10.1.0.9 n2 ready"))
	tr.DeleteService("d", "s51")
	tr.SetService(svc("s510"))
	second, _ := tr.Take()
	gone, came := changes.Compare(first, second)
	if len(gone) != 2 || len(came) != 2 || gone[0].Name.Service != "s50" || gone[1].Name.Service != "s51" || came[0].Name.Service != "s50" || came[1].Name.Service != "s510" {
		t.Errorf("gone %v, came %v", gone, came)
	}
	if show(first) != text {
		t.Error("the first table was changed")
	}
	all := second.Services()
	for i := 1; i < len(all); i++ {
		if all[i-1].Name.Compare(all[i].Name) >= 0 {
			t.Errorf("not sorted at %d: %v, %v", i, all[i-1].Name, all[i].Name)
		}
	}

	tr.DeleteSlice("d", "s50")
	third, _ := tr.Take()
	if _, came := changes.Compare(second, third); len(came) != 1 || len(came[0].Endpoints) != 0 {
		t.Errorf("after its slice went, s50 is %v", came)
	}
}

// Many changes at once go another way than few; both must come to the same.
func TestManyChangesAtOnce(t *testing.T) {
	one, many := changes.New(thisNode, false), changes.New(thisNode, false)
	for i := range 200 {
		name := fmt.Sprintf("s%d", i)
		one.SetService(svc(name))
		one.Take()
		many.SetService(svc(name))
	}
	for i := 0; i < 200; i += 2 {
		one.DeleteService("d", fmt.Sprintf("s%d", i))
		one.Take()
	}
	many.Take()
	for i := 0; i < 200; i += 2 {
		many.DeleteService("d", fmt.Sprintf("s%d", i))
	}
	a, _ := one.Take()
	b, _ := many.Take()
	if show(a) != show(b) || a.Len() != 100 {
		t.Errorf("one by one:\n%s\nat once:\n%s", show(a), show(b))
	}
}

func TestWakesAndNews(t *testing.T) {
	tr := changes.New(thisNode, false)
	woken := func() bool {
		select {
		case <-tr.Woken():
			return true
		default:
			return false
		}
	}
	s := slice("a", "web", "10.1.0.1 n1 ready")
	at := time.Now().Add(time.Minute)
	s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at.Format(time.RFC3339Nano)}
	tr.SetSlice(s)
	if !woken() || woken() {
		t.Error("want one token")
	}
	if _, news := tr.Take(); len(news.Since) != 1 || !news.Since[0].Equal(at) {
		t.Errorf("got %+v", news)
	}
	tr.DeleteService("d", "unheard of")
	headless := slice("b", "web", "10.1.0.2 n1 ready")
	headless.Labels[corev1.IsHeadlessService] = ""
	tr.SetSlice(headless)
	if woken() {
		t.Error("woken for nothing")
	}
}

func TestIPv6(t *testing.T) {
	tr := changes.New(thisNode, true)
	tr.SetService(svc("web", func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"} }))
	s := slice("a", "web", "fd01::2 n1 ready")
	s.AddressType = discoveryv1.AddressTypeIPv6
	tr.SetSlice(s)
	tr.SetSlice(slice("b", "web", "10.1.0.1 n1 ready"))
	got, _ := tr.Take()
	if all := got.Services(); len(all) != 1 || all[0].ClusterIP != netip.MustParseAddr("fd00::1") || len(all[0].Endpoints) != 1 {
		t.Errorf("got %s", show(got))
	}
}
