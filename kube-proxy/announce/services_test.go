package announce

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

// service is one of type LoadBalancer whose status shows addresses.
func service(edit func(*corev1.Service), ips ...string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "web", UID: "u"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.9", ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster},
	}
	for _, ip := range ips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip, IPMode: ptr(corev1.LoadBalancerIPModeVIP)})
	}
	if edit != nil {
		edit(s)
	}
	return s
}

func TestWhatIsAnnounced(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("198.18.0.224/27"), netip.MustParsePrefix("fd00:18::/112")}
	for _, c := range []struct {
		name string
		svc  *corev1.Service
		want string
	}{
		{"one of the pool", service(nil, "198.18.0.225"), "198.18.0.225"},
		{"both families", service(nil, "fd00:18::1", "198.18.0.225"), "198.18.0.225 fd00:18::1"},
		{"a cloud's", service(nil, "203.0.113.7"), ""},
		{"a cloud's and ours", service(nil, "203.0.113.7", "198.18.0.230"), "198.18.0.230"},
		{"none yet", service(nil), ""},
		{"a name", service(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}}
		}), ""},
		{"through a proxy", service(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress[0].IPMode = ptr(corev1.LoadBalancerIPModeProxy)
		}, "198.18.0.225"), ""},
		{"before there were modes", service(func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].IPMode = nil }, "198.18.0.225"), "198.18.0.225"},
		{"our class", service(func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr(class) }, "198.18.0.225"), "198.18.0.225"},
		{"another class", service(func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr("example.com/other") }, "198.18.0.225"), ""},
		{"another proxy", service(func(s *corev1.Service) { s.Labels = map[string]string{labelServiceProxyName: "mesh"} }, "198.18.0.225"), ""},
		{"headless", service(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }, "198.18.0.225"), ""},
		{"no longer balanced", service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, "198.18.0.225"), ""},
		{"said twice", service(nil, "198.18.0.225", "::ffff:198.18.0.225"), "198.18.0.225"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, ok := readService(c.svc, ranges)
			got := strings.Trim(fmt.Sprint(b.addresses), "[]")
			if got != c.want || ok != (c.want != "") {
				t.Errorf("got %q %v, want %q", got, ok, c.want)
			}
		})
	}
}

func TestWhichNodesMayAnswer(t *testing.T) {
	ready := corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
	for _, c := range []struct {
		name string
		n    corev1.Node
		want node
	}{
		{"ready", corev1.Node{Status: ready}, node{ready: true}},
		{"not ready", corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}}}, node{}},
		{"unknown", corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}}, node{}},
		{"new", corev1.Node{}, node{}},
		{"cordoned", corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}, Status: ready}, node{ready: true}},
		{"excluded", corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelNodeExcludeBalancers: ""}}, Status: ready}, node{ready: true, away: true}},
		{"going", corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}, Status: ready}, node{ready: true, away: true}},
		{"scaled down", corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taintToBeDeleted}}}, Status: ready}, node{ready: true, away: true}},
	} {
		if got := readNode(&c.n); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		stripped, err := New(Config{Node: "x"}, Parts{}, nil).strip(&c.n)
		if err != nil || readNode(stripped.(*corev1.Node)) != c.want {
			t.Errorf("%s: what is kept of it says something else: %+v, %v", c.name, stripped, err)
		}
	}
}

func TestLinkFor(t *testing.T) {
	at := func(link int, p string) own { return own{prefix: netip.MustParsePrefix(p), link: link} }
	ours := at(9, "198.18.0.0/24")
	ours.ours = true
	all := []own{ours, at(1, "127.0.0.1/8"), at(2, "198.18.0.11/24"), at(3, "10.9.0.11/16"), at(4, "10.9.8.11/24"), at(5, "fd00:18::11/64"), at(6, "203.0.113.9/32")}
	nodes := []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("fd00:18::11")}
	for text, want := range map[string]int{
		"198.18.0.225": 2,
		"10.9.1.1":     3,
		"10.9.8.1":     4, // the narrower network
		"fd00:18::e1":  5,
		"192.0.2.1":    6, // in none of them: where the node's address is
		"fd00:99::1":   5,
		"127.0.0.9":    6, // never the loopback
	} {
		if got, err := linkFor(netip.MustParseAddr(text), all, nodes); err != nil || got != want {
			t.Errorf("%s: link %d, %v, want %d", text, got, err, want)
		}
	}
	if _, err := linkFor(netip.MustParseAddr("192.0.2.1"), all, nil); err == nil {
		t.Error("a link was found for an address of no link")
	}
}
