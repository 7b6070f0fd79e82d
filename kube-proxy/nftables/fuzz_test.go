package nftables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/binaryutil"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kube-proxy/changes"
)

// FuzzChanges plays random changes of Services and EndpointSlices, some of them
// written to the kernel and others coalesced, and wants the same rule set as one
// full build of the last state has.
func FuzzChanges(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed, seed%2 == 1)
	}
	f.Fuzz(func(t *testing.T, seed uint64, v6 bool) {
		w := newPlay(seed, v6)
		for range 200 {
			w.step(t)
		}
		w.write(t)
		stepping(w.rules, hairpinRest)
		w.rules.advance(w.rules.wish()) // what rested goes

		tracker := changes.New(thisNode, v6)
		tracker.SetZone(w.zone)
		for _, s := range w.slices {
			tracker.SetSlice(s)
		}
		for _, s := range w.services {
			tracker.SetService(s)
		}
		table, _ := tracker.Take()
		fresh := newRuleset(familyOf(v6))
		fresh.begin(Wish{Table: table, NodeAddresses: w.nodes})
		if a, b := unnumbered(w.rules.family, w.rules), unnumbered(fresh.family, fresh); !slices.Equal(a, b) {
			t.Fatalf("after many changes only:\n%s\nat once only:\n%s", strings.Join(without(a, b), "\n"), strings.Join(without(b, a), "\n"))
		}
	})
}

const thisNode = "n1"

// without is a less b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// wish is the ruleset's last wish.
func (r *ruleset) wish() Wish { return Wish{Table: r.table, NodeAddresses: r.nodes} }

// play is what the API has, and what the node has made of it.
type play struct {
	rnd      *rand.Rand
	v6       bool
	tracker  *changes.Tracker
	rules    *ruleset
	kernel   map[frontKey]string // what the transactions add up to
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	nodes    []netip.Addr
	zone     string
}

func newPlay(seed uint64, v6 bool) *play {
	p := &play{
		rnd: rand.New(rand.NewPCG(seed, 7)), v6: v6, tracker: changes.New(thisNode, v6), rules: newRuleset(familyOf(v6)),
		kernel: map[frontKey]string{}, services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{},
	}
	stepping(p.rules, hairpinRest/3)
	return p
}

// addr is an address of the play's family.
func (p *play) addr(net, host int) string {
	if p.v6 {
		return fmt.Sprintf("fd00:%d::%x", net, host)
	}
	return fmt.Sprintf("10.%d.0.%d", net, host)
}

// step changes something, and sometimes has it written.
func (p *play) step(t *testing.T) {
	name := fmt.Sprintf("s%d", p.rnd.IntN(6))
	slice := fmt.Sprintf("%s-%d", name, p.rnd.IntN(2))
	switch p.rnd.IntN(12) {
	case 0, 1, 2:
		p.services[name] = p.service(name)
		p.tracker.SetService(p.services[name])
	case 3:
		delete(p.services, name)
		p.tracker.DeleteService("d", name)
	case 4, 5, 6, 7:
		p.slices[slice] = p.slice(slice, fmt.Sprintf("s%d", p.rnd.IntN(6)))
		p.tracker.SetSlice(p.slices[slice])
	case 8:
		delete(p.slices, slice)
		p.tracker.DeleteSlice("d", slice)
	case 9:
		p.zone = fmt.Sprintf("z%d", p.rnd.IntN(3))
		p.tracker.SetZone(p.zone)
	case 10:
		p.nodes = []netip.Addr{netip.MustParseAddr(p.addr(198, p.rnd.IntN(3)))}
	case 11: // the watch broke, and all is told again
		names := map[types.NamespacedName]bool{}
		for n, s := range p.services {
			names[types.NamespacedName{Namespace: "d", Name: n}] = true
			p.tracker.SetService(s)
		}
		p.tracker.KeepServices(names)
	}
	if p.rnd.IntN(2) == 0 {
		p.write(t)
	}
}

// write has the rules follow, and adds the transaction up.
func (p *play) write(t *testing.T) {
	table, _ := p.tracker.Take()
	tx := p.rules.advance(Wish{Table: table, NodeAddresses: p.nodes}).transaction()
	for _, e := range tx.del {
		if v, ok := p.kernel[frontKey{e.set, e.key}]; !ok || v != e.value {
			t.Fatalf("deleted what was not there: %s", e.describe(p.rules.family))
		}
		delete(p.kernel, frontKey{e.set, e.key})
	}
	for _, e := range tx.add {
		if _, there := p.kernel[frontKey{e.set, e.key}]; there {
			t.Fatalf("added twice: %s", e.describe(p.rules.family))
		}
		p.kernel[frontKey{e.set, e.key}] = e.value
	}
	if want := content(p.rules); len(want) != len(p.kernel) {
		t.Fatalf("transactions add up to %d elements, the rule set has %d", len(p.kernel), len(want))
	}
}

func (p *play) chance(n int) bool { return p.rnd.IntN(n) == 0 }

func (p *play) service(name string) *corev1.Service {
	n := int(name[1] - '0')
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}}
	s.Spec.ClusterIPs = []string{p.addr(96, n+1)}
	if p.chance(8) {
		s.Spec.ClusterIPs = []string{"None"}
	}
	if p.chance(8) {
		s.Spec.ClusterIPs = []string{p.addr(96, 1)} // another's
	}
	s.Spec.Type = []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}[p.rnd.IntN(3)]
	for i := range 1 + p.rnd.IntN(2) {
		port := corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(80 + i), Protocol: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}[p.rnd.IntN(3)]}
		if s.Spec.Type != corev1.ServiceTypeClusterIP {
			port.NodePort = int32(30000 + 2*n + i)
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	}
	if p.chance(3) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if p.chance(3) {
		s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if p.chance(3) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if p.chance(3) {
		s.Spec.ExternalIPs = []string{p.addr(192, p.rnd.IntN(3))}
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: p.addr(193, n)}}
		bits := 24
		if p.v6 {
			bits = 64
		}
		for range p.rnd.IntN(3) {
			s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, fmt.Sprintf("%s/%d", p.addr(198, p.rnd.IntN(3)), bits+p.rnd.IntN(9)))
		}
	}
	return s
}

func (p *play) slice(name, owner string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "d", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: owner}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if p.v6 {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	for i := range 2 {
		name, port := fmt.Sprintf("p%d", i), int32(8080+i+p.rnd.IntN(2))
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port})
	}
	for range p.rnd.IntN(6) {
		e := discoveryv1.Endpoint{Addresses: []string{p.addr(244, p.rnd.IntN(12))}, NodeName: new(fmt.Sprintf("n%d", 1+p.rnd.IntN(2)))}
		e.Conditions = discoveryv1.EndpointConditions{Ready: new(!p.chance(3)), Serving: new(!p.chance(4)), Terminating: new(p.chance(3))}
		if p.chance(2) {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: fmt.Sprintf("z%d", p.rnd.IntN(3))}}}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// A whole rule set of each family, as a person reads it.
func TestWholeRuleSets(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := newPlay(0, v6)
		port := func(name string, number, nodePort int32, protocol corev1.Protocol) corev1.ServicePort {
			return corev1.ServicePort{Name: name, Port: number, NodePort: nodePort, Protocol: protocol}
		}
		offer := func(name, ip string, spec corev1.ServiceSpec, ingress ...corev1.LoadBalancerIngress) {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Spec: spec}
			s.Spec.ClusterIPs, s.Status.LoadBalancer.Ingress = []string{ip}, ingress
			p.tracker.SetService(s)
			slice := p.slice(name+"-1", name)
			slice.Endpoints = nil
			for i, node := range []string{thisNode, "n2", "n3"} {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{p.addr(244, i+1)}, NodeName: &node})
			}
			slice.Ports = nil
			for i, sp := range s.Spec.Ports {
				slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &sp.Name, Port: new(int32(8080 + i))})
			}
			p.tracker.SetSlice(slice)
		}
		offer("dns", p.addr(96, 10), corev1.ServiceSpec{Ports: []corev1.ServicePort{port("dns", 53, 0, corev1.ProtocolUDP), port("dns-tcp", 53, 0, corev1.ProtocolTCP)}})
		offer("shop", p.addr(96, 11), corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: 30999,
			Ports:                    []corev1.ServicePort{port("https", 443, 30443, corev1.ProtocolTCP)},
			LoadBalancerSourceRanges: []string{p.addr(198, 0) + map[bool]string{false: "/24", true: "/64"}[v6]},
			ExternalIPs:              []string{p.addr(192, 1)},
		}, corev1.LoadBalancerIngress{IP: p.addr(193, 1)})
		offer("session", p.addr(96, 12), corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, SessionAffinity: corev1.ServiceAffinityClientIP, Ports: []corev1.ServicePort{port("", 80, 30080, corev1.ProtocolTCP)},
		})
		offer("agent", p.addr(96, 13), corev1.ServiceSpec{
			InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyLocal), Ports: []corev1.ServicePort{port("sctp", 9, 0, corev1.ProtocolSCTP)},
		})
		p.tracker.SetService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "empty"}, Spec: corev1.ServiceSpec{
			ClusterIPs: []string{p.addr(96, 14)}, Ports: []corev1.ServicePort{port("", 80, 0, corev1.ProtocolTCP)},
		}})
		p.nodes = []netip.Addr{netip.MustParseAddr(p.addr(198, 1))}
		table, _ := p.tracker.Take()
		p.rules.begin(Wish{Table: table, NodeAddresses: p.nodes})

		c := Config{V6: v6, PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), MasqueradeEgress: true, MasqueradeBit: 14}
		if v6 {
			c.PodCIDR = netip.MustParsePrefix("fd00:244::/32")
		}
		var b strings.Builder
		show := func(name string, rules []rule) {
			fmt.Fprintf(&b, "chain %s\n", name)
			for _, r := range rules {
				fmt.Fprintf(&b, "  %s\n", r.comment)
			}
		}
		for _, ch := range fixedChains(c, p.rules.family) {
			show(ch.name, ch.rules)
		}
		unused := map[string]bool{} // made at the start, whoever needs them
		for _, pick := range usualPicks() {
			unused[pick.chain()] = true
		}
		var all []string
		for e := range p.rules.elements() {
			if e.set == setServices || e.set == setNodePorts {
				delete(unused, wayName(binaryutil.NativeEndian.Uint32([]byte(e.value))))
			}
		}
		for e := range p.rules.elements() {
			if e.set != setWays || !unused[e.value] {
				all = append(all, e.describe(p.rules.family))
			}
		}
		for _, pick := range p.rules.chains() {
			if !unused[pick.chain()] {
				show(pick.chain(), pick.rules(c, p.rules.family))
			}
		}
		slices.Sort(all)
		golden(t, map[bool]string{false: "table-ip.txt", true: "table-ip6.txt"}[v6], b.String()+strings.Join(all, "\n")+"\n")
	}
}
