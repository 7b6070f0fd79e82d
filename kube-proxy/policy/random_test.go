package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kube-proxy/changes"
)

// story is a random cluster that changes, followed by a ruleset and by a
// pretended kernel that takes its transactions.
type story struct {
	*rand.Rand
	cluster
	rules  *ruleset
	now    time.Time
	kernel map[slot]string
	spans  map[string][]placed
	chains map[string]bool
	asked  map[string]bool // maps of spans that the chains ask
	serial int64
}

func newStory(seed uint64) *story {
	s := &story{
		Rand: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1e9, 0), rules: newRuleset(),
		cluster: cluster{namespaces: map[string]*corev1.Namespace{}, pods: map[string]*corev1.Pod{}, policies: map[string]*networkingv1.NetworkPolicy{}, node: "n1"},
		kernel:  map[slot]string{}, spans: map[string][]placed{}, chains: map[string]bool{}, asked: map[string]bool{},
	}
	for _, c := range s.rules.fixedChains() {
		s.chains[c.name] = true
	}
	s.rules.clock = func() time.Time { return s.now }
	if s.IntN(4) > 0 {
		s.local = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")}
	}
	return s
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (s *story) labels() map[string]string {
	out := map[string]string{}
	for _, k := range []string{"app", "tier"} {
		if v := pick(s.Rand, "", "a", "b", "c"); v != "" {
			out[k] = v
		}
	}
	return out
}

func (s *story) selector() metav1.LabelSelector {
	var out metav1.LabelSelector
	if s.IntN(2) == 0 {
		out.MatchLabels = map[string]string{pick(s.Rand, "app", "tier"): pick(s.Rand, "a", "b", "c")}
	}
	if s.IntN(3) == 0 {
		e := metav1.LabelSelectorRequirement{
			Key:      pick(s.Rand, "app", "tier"),
			Operator: pick(s.Rand, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist),
		}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = []string{pick(s.Rand, "a", "b"), "c"}[:1+s.IntN(2)]
		}
		out.MatchExpressions = append(out.MatchExpressions, e)
	}
	return out
}

func (s *story) peers() (out []networkingv1.NetworkPolicyPeer) {
	for range s.IntN(4) {
		p := networkingv1.NetworkPolicyPeer{}
		switch s.IntN(4) {
		case 0:
			b := pick(s.Rand,
				&networkingv1.IPBlock{CIDR: "0.0.0.0/0"},
				&networkingv1.IPBlock{CIDR: "10.1.0.0/24", Except: []string{"10.1.0.2/31", "10.1.0.6/32"}},
				&networkingv1.IPBlock{CIDR: "10.1.0.4/30"},
				&networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8"}},
				&networkingv1.IPBlock{CIDR: "255.255.255.0/24"},
				&networkingv1.IPBlock{CIDR: "::/0", Except: []string{"fd00:1::4/127"}},
				&networkingv1.IPBlock{CIDR: "fd00:2::/64"})
			p.IPBlock = b
		case 1:
			x := s.selector()
			p.PodSelector = &x
		case 2:
			x := s.selector()
			p.NamespaceSelector = &x
		case 3:
			x, y := s.selector(), s.selector()
			p.PodSelector, p.NamespaceSelector = &x, &y
		}
		out = append(out, p)
	}
	return out
}

func (s *story) ports() (out []networkingv1.NetworkPolicyPort) {
	for range max(0, s.IntN(4)-1) {
		proto := pick(s.Rand, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		p := networkingv1.NetworkPolicyPort{Protocol: pick(s.Rand, nil, &proto)}
		switch s.IntN(4) {
		case 0:
			p.Port = new(intstr.FromInt32(int32(80 + s.IntN(4))))
		case 1:
			p.Port = new(intstr.FromString(pick(s.Rand, "web", "dns")))
		case 2:
			p.Port, p.EndPort = new(intstr.FromInt32(int32(80+s.IntN(2)))), new(int32(82+s.IntN(2)))
		}
		out = append(out, p)
	}
	return out
}

// step changes something and tells of it.
func (s *story) step(n *News) {
	s.serial++
	meta := metav1.ObjectMeta{Namespace: pick(s.Rand, "x", "y", "z"), Labels: s.labels(), CreationTimestamp: metav1.Unix(s.serial, 0)}
	switch k := s.IntN(10); {
	case k == 0: // a namespace
		name := meta.Namespace
		fact := Name{Name: name}
		if s.IntN(4) == 0 {
			delete(s.namespaces, name)
			n.Namespaces[fact] = nil
			return
		}
		meta.Name, meta.Namespace = name, ""
		s.namespaces[name] = &corev1.Namespace{ObjectMeta: meta}
		n.Namespaces[fact] = namespaceOf(s.namespaces[name])
	case k < 4: // a policy
		meta.Name = fmt.Sprint("p", s.IntN(4))
		key, fact := meta.Namespace+"/"+meta.Name, Name{meta.Namespace, meta.Name}
		if s.IntN(3) == 0 {
			delete(s.policies, key)
			n.Policies[fact] = nil
			return
		}
		p := &networkingv1.NetworkPolicy{ObjectMeta: meta, Spec: networkingv1.NetworkPolicySpec{PodSelector: s.selector()}}
		p.Spec.PolicyTypes = pick(s.Rand, nil, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			[]networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, []networkingv1.PolicyType{networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress})
		for range s.IntN(3) {
			p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: s.peers(), Ports: s.ports()})
		}
		for range s.IntN(3) {
			p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: s.peers(), Ports: s.ports()})
		}
		s.policies[key] = p
		fresh, err := policyOf(p)
		if err != nil {
			panic(err)
		}
		n.Policies[fact] = fresh
	default: // a pod; its name says its address and its node
		i := s.IntN(10)
		meta.Name = fmt.Sprint("pod", i)
		if s.IntN(8) == 0 {
			meta.Name += "-twin" // of another, with the same address
		}
		key, fact := meta.Namespace+"/"+meta.Name, Name{meta.Namespace, meta.Name}
		if s.IntN(4) == 0 {
			delete(s.pods, key)
			n.Pods[fact] = nil
			return
		}
		p := &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{NodeName: "n1", HostNetwork: s.IntN(8) == 0}}
		net := 1
		if i >= 6 {
			net, p.Spec.NodeName = 2, "n2"
		}
		p.Status.Phase = pick(s.Rand, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed)
		if s.IntN(8) > 0 {
			p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.%d.0.%d", net, i)}, {IP: fmt.Sprintf("fd00:%d::%d", net, i)}}[:1+s.IntN(2)]
		}
		container := func() (c corev1.Container) {
			for _, name := range []string{"web", "dns"} {
				if s.IntN(2) == 0 {
					c.Ports = append(c.Ports, corev1.ContainerPort{Name: name, ContainerPort: int32(80 + s.IntN(3)), Protocol: pick(s.Rand, corev1.ProtocolTCP, corev1.ProtocolUDP)})
				}
			}
			return c
		}
		p.Spec.Containers = []corev1.Container{container()}
		if s.IntN(4) == 0 {
			side := container()
			side.RestartPolicy = pick(s.Rand, nil, new(corev1.ContainerRestartPolicyAlways))
			p.Spec.InitContainers = []corev1.Container{side}
		}
		s.pods[key] = p
		n.Pods[fact] = podOf(p, s.node)
	}
}

func emptyNews() News {
	return News{Policies: map[Name]*Policy{}, Namespaces: map[Name]*Namespace{}, Pods: map[Name]*Pod{}}
}

// everything is the news of somebody who hears of the cluster for the first time.
func (s *story) everything() News {
	n := emptyNews()
	n.Local = s.local
	for _, x := range s.namespaces {
		n.Namespaces[Name{Name: x.Name}] = namespaceOf(x)
	}
	for _, x := range s.pods {
		if p := podOf(x, s.node); p != nil {
			n.Pods[p.Name] = p
		}
	}
	for _, x := range s.policies {
		p, err := policyOf(x)
		if err != nil {
			panic(err)
		}
		n.Policies[p.Name] = p
	}
	return n
}

// take plays the kernel, which refuses to add what is there and to delete what
// is not, or what is still referred to.
func (s *story) take(t *testing.T, tr transaction) {
	t.Helper()
	s.unseen(t, tr)
	for _, f := range tr.fill {
		s.spans[f.set] = f.spans
	}
	for _, c := range tr.addChains {
		if s.chains[c] {
			t.Errorf("chain %s added twice", c)
		}
		s.chains[c] = true
	}
	for _, e := range tr.del {
		k := slot{e.set, e.key}
		if v, ok := s.kernel[k]; !ok || v != e.value {
			t.Errorf("deleting what is not there: %s", e.describe())
		}
		delete(s.kernel, k)
	}
	for _, e := range append(tr.ahead, tr.add...) {
		k := slot{e.set, e.key}
		if _, ok := s.kernel[k]; ok {
			t.Errorf("adding what is there: %s", e.describe())
		}
		s.kernel[k] = e.value
	}
	for _, c := range tr.delChains {
		if !s.chains[c] {
			t.Errorf("chain %s deleted twice", c)
		}
		delete(s.chains, c)
	}
	for k, v := range s.kernel {
		if _, ok := parseGate(v); ok && !s.chains[v] {
			t.Errorf("%s goes to %s, which is not there", element{k.set, k.key, v}.describe(), v)
		}
	}
}

// unseen checks what packets must not notice: the first step of a transaction
// writes only what nobody asks for yet, and no set of ports is deleted that a
// packet may ask for that read its number just before.
func (s *story) unseen(t *testing.T, tr transaction) {
	t.Helper()
	asked := map[string]bool{} // numbers of sets of ports
	for k, v := range s.kernel {
		if k.set == setRights {
			asked[v] = true
		}
	}
	for _, f := range tr.fill {
		if s.asked[f.set] {
			t.Errorf("%s is written while it is asked", f.set)
		}
	}
	for _, e := range tr.ahead {
		if asked[e.key[:4]] {
			t.Errorf("%s is added to what is asked for", e.describe())
		}
	}
	for _, e := range tr.del {
		if (e.set == setPorts || e.set == setPortRanges) && asked[e.key[:4]] {
			t.Errorf("%s is deleted from what is asked for", e.describe())
		}
	}
	for _, e := range tr.add {
		if e.set == setPortRanges {
			t.Errorf("%s is not written ahead", e.describe())
		}
	}
	for i, f := range families {
		for n, set := range spanSets {
			s.asked[f.name(set)] = n == s.rules.active[i]
		}
	}
}

// packets are random, between addresses that matter and their neighbours.
func (s *story) packet() packet {
	one := func(v6 bool) netip.Addr {
		net, i := pick(s.Rand, 1, 1, 2), s.IntN(12)
		switch x := s.IntN(10); {
		case x == 0 && v6:
			return netip.MustParseAddr("2001:db8::1")
		case x == 0:
			return netip.MustParseAddr(pick(s.Rand, "192.0.2.1", "255.255.255.255", "0.0.0.0", "10.255.255.255"))
		case v6:
			return netip.MustParseAddr(fmt.Sprintf("fd00:%d::%d", net, i))
		}
		return netip.MustParseAddr(fmt.Sprintf("10.%d.0.%d", net, i))
	}
	v6 := s.IntN(3) == 0
	return packet{from: one(v6), to: one(v6), proto: pick(s.Rand, changes.TCP, changes.TCP, changes.UDP, changes.SCTP, 1), port: uint16(79 + s.IntN(6)), input: s.IntN(5) == 0}
}

// tell runs a story and checks after every turn.
func tell(t *testing.T, seed uint64, turns int) {
	s := newStory(seed)
	for turn := range turns {
		n := emptyNews()
		n.Local = s.local
		for range pick(s.Rand, 1, 1, 1, 5, 30) {
			s.step(&n)
		}
		s.now = s.now.Add(pick(s.Rand, 0, time.Second, time.Minute))
		d := s.rules.advance(n)
		s.take(t, d.transaction())
		if want := s.rules.content(); !maps.Equal(want, s.kernel) {
			t.Errorf("the transactions lead elsewhere: %d elements, want %d", len(s.kernel), len(want))
		}
		m := machineOf(s.rules)
		for i, f := range families {
			set := f.name(spanSets[s.rules.active[i]])
			if !maps.Equal(spanElements(s.rules.spans[i]), spanElements(s.spans[set])) {
				t.Errorf("%s is not what the chains ask", set)
			}
		}
		for range 60 {
			k := s.packet()
			if got, want := m.accepts(k), s.allowed(k); got != want {
				t.Errorf("seed %d turn %d: %s: accepted %v, want %v", seed, turn, k, got, want)
			}
		}
		if t.Failed() {
			return
		}
	}
	// What was left is gone in time, and the way there does not matter.
	for range 2 {
		s.now = s.now.Add(time.Hour)
		n := emptyNews()
		n.Local = s.local
		s.take(t, s.rules.advance(n).transaction())
	}
	full := newRuleset()
	n := s.everything()
	full.advance(n)
	if got, want := plain(s.rules), plain(full); got != want {
		t.Errorf("seed %d: changes came to\n%s\nand a full build is\n%s", seed, got, want)
	}
}

// plain writes a ruleset down with numbers in the order of their first use.
func plain(r *ruleset) string {
	var b strings.Builder
	ids, groups := map[uint32]int{}, map[uint32]int{}
	number := func(of map[uint32]int, n uint32) int {
		if _, ok := of[n]; !ok {
			of[n] = len(of)
		}
		return of[n]
	}
	for _, at := range slices.SortedFunc(maps.Keys(r.addresses), netip.Addr.Compare) {
		a := r.addresses[at]
		fmt.Fprint(&b, at, " ", a.owner.Name, a.owner.Local)
		if a.identity != nil {
			fmt.Fprint(&b, " who ", number(ids, a.identity.number))
		}
		for d, g := range a.sides {
			if g != nil {
				fmt.Fprint(&b, " side ", d, " ", number(groups, g.number))
			}
		}
		b.WriteByte('\n')
	}
	for i := range families {
		for _, s := range r.spans[i] {
			fmt.Fprintln(&b, s.lo, s.hi, number(ids, s.identity.number))
		}
	}
	var lines []string
	for k, right := range r.pairs {
		g, i := k>>identityBits, k&identityMask
		if _, ok := ids[i]; !ok && i != 0 {
			ids[i] = -1
		}
		lines = append(lines, fmt.Sprintf("%d and %v %d: %+v", number(groups, g), i == 0, ids[i], right.content))
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, "\n"))
	fmt.Fprintf(&b, "\n%d identities %d groups %d rights %d chains %d peers %d names\n", len(r.identities.byKey), len(r.groups.byKey), len(r.rights.byKey), len(r.chains), len(r.peers), len(r.names))
	return b.String()
}

func TestStories(t *testing.T) {
	for seed := range uint64(50) {
		tell(t, seed, 25)
		if t.Failed() {
			return
		}
	}
}

func FuzzStories(f *testing.F) {
	f.Add(uint64(1), uint8(5))
	f.Fuzz(func(t *testing.T, seed uint64, turns uint8) { tell(t, seed, int(turns)) })
}
