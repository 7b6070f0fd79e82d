package nftables_test

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
	"pilothouse.dev/kube-proxy/testnet"
)

const thisNode = "n1"

// api is what the API has: Services and EndpointSlices, offered to the node.
type api struct {
	*world
	objects *changes.Tracker
}

func newAPI(t *testing.T, v6 bool, pods int) *api {
	return &api{newWorldOf(t, v6, pods), changes.New(thisNode, v6)}
}

// object is a Service with one port; edit changes it.
func (a *api) object(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{a.cluster.String()},
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
	}}
	for _, e := range edit {
		e(s)
	}
	return s
}

func loadBalancer(ip netip.Addr, edit ...func(*corev1.LoadBalancerIngress)) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		in := corev1.LoadBalancerIngress{IP: ip.String()}
		for _, e := range edit {
			e(&in)
		}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{in}
	}
}

// endpoint is a pod that is ready on this node; edit changes that.
func (a *api) endpoint(p testnet.Place, edit ...func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
	yes, node := true, thisNode
	e := discoveryv1.Endpoint{Addresses: []string{p.Of(a.v6).String()}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes}}
	for _, f := range edit {
		f(&e)
	}
	return e
}

func elsewhere(e *discoveryv1.Endpoint) { other := "n2"; e.NodeName = &other }
func notReady(e *discoveryv1.Endpoint) {
	no := false
	e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &no}
}
func terminates(e *discoveryv1.Endpoint) {
	yes, no := true, false
	e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
}
func hintedTo(zone string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
	}
}
func hintedToNode(node string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: node}}}
	}
}

// slice has the endpoints at a port, named http.
func (a *api) slice(name string, port int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	kind, http := discoveryv1.AddressTypeIPv4, "http"
	if a.v6 {
		kind = discoveryv1.AddressTypeIPv6
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: kind, Ports: []discoveryv1.EndpointPort{{Name: &http, Port: &port}}, Endpoints: endpoints,
	}
}

// offer has the node's rules follow.
func (a *api) offer(t *testing.T, s *corev1.Service, slices ...*discoveryv1.EndpointSlice) {
	t.Helper()
	a.objects.SetService(s)
	for _, s := range slices {
		a.objects.SetSlice(s)
	}
	table, _ := a.objects.Take()
	a.set(t, table.Services()...)
}

// answeredBy wants calls to be answered by these places, each of them and nobody else.
func answeredBy(t *testing.T, from testnet.Place, to netip.AddrPort, want ...testnet.Place) {
	t.Helper()
	got := answers(t, from, "tcp", to, 20*len(want))
	for _, p := range want {
		if got[p.Name] == 0 {
			t.Errorf("%s did not answer %s at %s: %v", p.Name, from.Name, to, got)
		}
		delete(got, p.Name)
	}
	if len(got) > 0 {
		t.Errorf("others answered %s at %s: %v", from.Name, to, got)
	}
}

// What a Service says, as its callers see it: from objects of the API to packets.
func TestServices(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		for _, c := range []struct {
			name string
			test func(t *testing.T, a *api)
		}{
			{"named target ports that differ between pods", func(t *testing.T, a *api) {
				a.Pods[1].Serve(t, 9090)
				a.offer(t, a.object(), a.slice("a", servePort, a.endpoint(a.Pods[0])), a.slice("b", 9090, a.endpoint(a.Pods[1])))
				answeredBy(t, a.Host, a.clusterAt, a.Pods[0], a.Pods[1])
			}},
			{"several ports", func(t *testing.T, a *api) {
				a.Pods[0].Serve(t, 9090)
				s := a.slice("a", servePort, a.endpoint(a.Pods[0]), a.endpoint(a.Pods[1]))
				metrics, port := "metrics", int32(9090)
				s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &metrics, Port: &port})
				s.Endpoints = s.Endpoints[:1]
				a.offer(t, a.object(func(s *corev1.Service) {
					s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 90, Protocol: corev1.ProtocolTCP}, corev1.ServicePort{Name: "http-udp", Port: 80, Protocol: corev1.ProtocolUDP})
				}), s)
				answeredBy(t, a.Host, a.clusterAt, a.Pods[0])
				answeredBy(t, a.Host, netip.AddrPortFrom(a.cluster, 90), a.Pods[0])
				if _, err := a.Host.Call("udp", a.clusterAt); !testnet.Refused(err) {
					t.Errorf("the same number over UDP is another port, without endpoints: %v", err)
				}
			}},
			{"headless: nothing is rendered", func(t *testing.T, a *api) {
				a.offer(t, a.object(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }), a.slice("a", servePort, a.endpoint(a.Pods[0])))
				if table, _ := a.objects.Take(); table.Len() != 0 {
					t.Errorf("got %v", table.Services())
				}
			}},
			{"external name: nothing is rendered", func(t *testing.T, a *api) {
				a.offer(t, a.object(func(s *corev1.Service) {
					s.Spec.Type, s.Spec.ExternalName, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, "example.org", nil
				}))
				if table, _ := a.objects.Take(); table.Len() != 0 {
					t.Errorf("got %v", table.Services())
				}
			}},
			{"another proxy's: nothing is rendered", func(t *testing.T, a *api) {
				a.offer(t, a.object(func(s *corev1.Service) {
					s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "mesh"}
				}), a.slice("a", servePort, a.endpoint(a.Pods[0])))
				if table, _ := a.objects.Take(); table.Len() != 0 {
					t.Errorf("got %v", table.Services())
				}
			}},
			{"external and load balancer addresses, from everywhere", func(t *testing.T, a *api) {
				a.offer(t, a.object(loadBalancer(a.balancer), func(s *corev1.Service) { s.Spec.ExternalIPs = []string{a.external.String()} }), a.slice("a", servePort, a.endpoint(a.Pods[0]), a.endpoint(a.Pods[1])))
				for _, from := range []testnet.Place{a.Host, a.Node, a.Pods[2], a.Pods[0]} {
					answeredBy(t, from, netip.AddrPortFrom(a.external, 80), a.Pods[0], a.Pods[1])
					answeredBy(t, from, netip.AddrPortFrom(a.balancer, 80), a.Pods[0], a.Pods[1])
				}
			}},
			{"a balancer that proxies is not short-circuited", func(t *testing.T, a *api) {
				proxies := func(in *corev1.LoadBalancerIngress) { in.IPMode = new(corev1.LoadBalancerIPModeProxy) }
				a.Host.Serve(t, 80) // the balancer
				a.Host.Address(t, "lo", a.balancer)
				at := netip.AddrPortFrom(a.balancer, 80)
				a.offer(t, a.object(loadBalancer(a.balancer, proxies)), a.slice("a", servePort, a.endpoint(a.Pods[0])))
				answeredBy(t, a.Pods[1], at, a.Host)
				a.offer(t, a.object(loadBalancer(a.balancer)))
				answeredBy(t, a.Pods[1], at, a.Pods[0])
			}},
			{"an endpoint that is no pod", func(t *testing.T, a *api) { // a Service without selector
				a.Host.Serve(t, servePort)
				a.offer(t, a.object(), a.slice("mine", servePort, discoveryv1.Endpoint{Addresses: []string{a.hostIP.String()}}))
				answeredBy(t, a.Pods[0], a.clusterAt, a.Host)
				answeredBy(t, a.Node, a.clusterAt, a.Host)
			}},
			{"an endpoint in the node's network", func(t *testing.T, a *api) {
				a.Node.Serve(t, servePort)
				a.offer(t, a.object(func(s *corev1.Service) {
					s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
				}), a.slice("a", servePort, discoveryv1.Endpoint{Addresses: []string{a.nodeIP.String()}, NodeName: new(thisNode)}))
				for _, from := range []testnet.Place{a.Pods[0], a.Host, a.Node} {
					answeredBy(t, from, a.clusterAt, a.Node)
					answeredBy(t, from, a.nodeAt, a.Node)
				}
			}},
			{"not ready, terminating, and the last resort", func(t *testing.T, a *api) {
				a.offer(t, a.object(), a.slice("a", servePort, a.endpoint(a.Pods[0]), a.endpoint(a.Pods[1], notReady), a.endpoint(a.Pods[2], terminates)))
				answeredBy(t, a.Host, a.clusterAt, a.Pods[0])
				a.offer(t, a.object(), a.slice("a", servePort, a.endpoint(a.Pods[0], notReady), a.endpoint(a.Pods[1], notReady), a.endpoint(a.Pods[2], terminates)))
				answeredBy(t, a.Host, a.clusterAt, a.Pods[2])
				a.offer(t, a.object(), a.slice("a", servePort, a.endpoint(a.Pods[0], notReady)))
				if _, err := a.Host.Call("tcp", a.clusterAt); !testnet.Refused(err) {
					t.Errorf("nobody is left: %v", err)
				}
			}},
			{"published before they are ready", func(t *testing.T, a *api) { // the controller then says that they are
				a.offer(t, a.object(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), a.slice("a", servePort, a.endpoint(a.Pods[0]), a.endpoint(a.Pods[1], func(e *discoveryv1.Endpoint) {
					e.Conditions.Terminating = new(true)
				})))
				answeredBy(t, a.Host, a.clusterAt, a.Pods[0], a.Pods[1])
			}},
			{"hints", func(t *testing.T, a *api) {
				a.objects.SetZone("z1")
				near, far := a.endpoint(a.Pods[0], hintedTo("z1")), a.endpoint(a.Pods[1], hintedTo("z2"))
				a.offer(t, a.object(), a.slice("a", servePort, near, far))
				answeredBy(t, a.Host, a.clusterAt, a.Pods[0])
				a.offer(t, a.object(), a.slice("a", servePort, a.endpoint(a.Pods[0], hintedToNode("n2")), a.endpoint(a.Pods[1], hintedToNode(thisNode))))
				answeredBy(t, a.Host, a.clusterAt, a.Pods[1])
				a.offer(t, a.object(), a.slice("a", servePort, near, far, a.endpoint(a.Pods[2]))) // one has none: all are ignored
				answeredBy(t, a.Host, a.clusterAt, a.Pods[0], a.Pods[1], a.Pods[2])
				a.objects.SetZone("z9")
				a.offer(t, a.object(), a.slice("a", servePort, near, far))
				answeredBy(t, a.Host, a.clusterAt, a.Pods[0], a.Pods[1])
			}},
			{"external policy Local", func(t *testing.T, a *api) {
				local := func(s *corev1.Service) {
					s.Spec.Ports[0].NodePort, s.Spec.ExternalTrafficPolicy = 30080, corev1.ServiceExternalTrafficPolicyLocal
				}
				a.offer(t, a.object(loadBalancer(a.balancer), local), a.slice("a", servePort, a.endpoint(a.Pods[0]), a.endpoint(a.Pods[1], elsewhere)))
				for _, at := range []netip.AddrPort{a.nodeAt, netip.AddrPortFrom(a.balancer, 80)} {
					answeredBy(t, a.Host, at, a.Pods[0])
					if got, err := a.Host.Call("tcp", at); err != nil || got.Caller != a.hostIP {
						t.Errorf("the caller is seen as %+v, %v", got, err)
					}
					answeredBy(t, a.Pods[2], at, a.Pods[0], a.Pods[1])
					answeredBy(t, a.Node, at, a.Pods[0], a.Pods[1])
				}
				answeredBy(t, a.Host, a.clusterAt, a.Pods[0], a.Pods[1])
				a.offer(t, a.object(loadBalancer(a.balancer), local), a.slice("a", servePort, a.endpoint(a.Pods[0], terminates), a.endpoint(a.Pods[1], elsewhere)))
				answeredBy(t, a.Host, a.nodeAt, a.Pods[0])
				a.offer(t, a.object(loadBalancer(a.balancer), local), a.slice("a", servePort, a.endpoint(a.Pods[1], elsewhere)))
				if err := a.Host.HearsNothing(a.nodeAt); err != nil {
					t.Errorf("nobody is here: %v", err)
				}
				answeredBy(t, a.Node, a.nodeAt, a.Pods[1])
			}},
			{"internal policy Local", func(t *testing.T, a *api) {
				local := func(s *corev1.Service) {
					s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
					s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
				}
				a.offer(t, a.object(local), a.slice("a", servePort, a.endpoint(a.Pods[0]), a.endpoint(a.Pods[1], elsewhere)))
				for _, from := range []testnet.Place{a.Pods[0], a.Pods[2], a.Node} {
					answeredBy(t, from, a.clusterAt, a.Pods[0])
				}
				answeredBy(t, a.Host, a.nodeAt, a.Pods[0], a.Pods[1])
				a.offer(t, a.object(local), a.slice("a", servePort, a.endpoint(a.Pods[1], elsewhere)))
				if err := a.Pods[2].HearsNothing(a.clusterAt); err != nil {
					t.Errorf("nobody is here: %v", err)
				}
			}},
			{"affinity, at all its addresses", func(t *testing.T, a *api) {
				sticky := func(s *corev1.Service) {
					s.Spec.SessionAffinity, s.Spec.Ports[0].NodePort = corev1.ServiceAffinityClientIP, 30080
					s.Spec.ExternalIPs = []string{a.external.String()}
				}
				a.offer(t, a.object(loadBalancer(a.balancer), sticky), a.slice("a", servePort, a.endpoint(a.Pods[0]), a.endpoint(a.Pods[1]), a.endpoint(a.Pods[2])))
				for _, at := range []netip.AddrPort{a.clusterAt, a.nodeAt, netip.AddrPortFrom(a.external, 80), netip.AddrPortFrom(a.balancer, 80)} {
					if got := answers(t, a.Host, "tcp", at, 20); len(got) != 1 {
						t.Errorf("%s: one client, several endpoints: %v", at, got)
					}
				}
			}},
			{"SCTP", func(t *testing.T, a *api) { // no sockets for it here: the rules
				a.offer(t, a.object(func(s *corev1.Service) {
					s.Spec.Type, s.Spec.Ports[0].NodePort, s.Spec.Ports[0].Protocol = corev1.ServiceTypeNodePort, 30080, corev1.ProtocolSCTP
				}), a.slice("a", servePort, a.endpoint(a.Pods[0])))
				out := a.nft(t, "list", "table", a.world.table, "kube-proxy")
				for _, want := range []string{fmt.Sprintf("%s . sctp . 80 :", a.cluster), "sctp . 30080 :"} {
					if !strings.Contains(out, want) {
						t.Errorf("%q is not in\n%s", want, out)
					}
				}
			}},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, newAPI(t, v6, 3)) })
		}
	})
}

// A client is forgotten after its time.
func TestAffinityEnds(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 2)
		s := w.service(changes.TCP, w.Pods...)
		s.Affinity = time.Second
		w.set(t, s)
		remembered := func() bool {
			return strings.Contains(w.nft(t, "list", "map", w.table, "kube-proxy", "affinity"), "expires")
		}
		end := time.Now().Add(testnet.Patience)
		for answers(t, w.Host, "tcp", w.clusterAt, 1); !remembered(); answers(t, w.Host, "tcp", w.clusterAt, 1) {
			if time.Now().After(end) { // the tool may be slower than the time, now and then
				t.Fatal("the client is never remembered")
			}
		}
		for remembered() {
			if time.Now().After(end) {
				t.Fatal("the client is still remembered")
			}
		}
		answers(t, w.Host, "tcp", w.clusterAt, 1)
	})
}

// Endpoints go and come, and the daemon starts anew: clients stay with theirs for as
// long as it is there, and whose endpoint went finds another and stays with that.
func TestAffinityOutlivesOtherEndpoints(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 8)
		home := map[string]string{} // of each client
		offer := func(numbers ...int) {
			t.Helper()
			there := map[string]bool{}
			s := w.service(changes.TCP)
			s.Affinity = time.Hour
			for _, i := range numbers {
				s.Endpoints = append(s.Endpoints, w.service(changes.TCP, w.Pods[i]).Endpoints...)
				there[w.Pods[i].Name] = true
			}
			w.set(t, s)
			for _, client := range append([]testnet.Place{w.Host, w.Node}, w.Pods...) {
				for _, at := range []netip.AddrPort{w.clusterAt, w.nodeAt} {
					a, err := client.Call("tcp", at)
					if err != nil {
						t.Fatal(err)
					}
					who := client.Name + " at " + at.String()
					if was := home[who]; there[was] && a.From != was {
						t.Errorf("%s was with %s, which is there, and is now with %s", who, was, a.From)
					}
					home[who] = a.From
				}
			}
		}
		offer(0, 1, 2, 3, 4, 5)
		offer(1, 2, 3, 4, 5)
		offer(1, 2, 4, 5)
		w.writer = newWriterFor(t, w.Net, w.config())
		offer(1, 2, 4, 5)
		offer(0, 1, 4, 5)
		offer(1, 5, 6, 7)
		offer(1)
		offer(0, 1, 2, 3, 4, 5, 6, 7)
	})
}
