package loadbalancer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/controller-manager/loop"
)

func mustPool(t *testing.T, text string) Pool {
	t.Helper()
	p, err := ParsePool(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePool(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"198.51.100.0/24":                "198.51.100.0/24",
		"198.51.100.0/30, fd00:1::/112 ": "198.51.100.0/30,fd00:1::/112",
		"198.51.100.1/24":                "error: \"198.51.100.1/24\" is no range of addresses, 198.51.100.0/24 would be",
		"198.51.100.0/24,198.51.0.0/16":  "error: 198.51.100.0/24 and 198.51.0.0/16 overlap",
		"198.51.100.7":                   "error: \"198.51.100.7\" is no range",
	} {
		p, err := ParsePool(text)
		if msg, fails := strings.CutPrefix(want, "error: "); fails {
			if err == nil || !strings.Contains(err.Error(), msg) {
				t.Errorf("%q: %v, want %s", text, err, msg)
			}
		} else if err != nil || p.String() != want {
			t.Errorf("%q: %s %v", text, p, err)
		}
	}
	p := mustPool(t, "198.51.100.0/24")
	if p.Apart("cluster-cidr", []netip.Prefix{netip.MustParsePrefix("198.51.100.128/25")}) == nil || p.Apart("cluster-cidr", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}) != nil {
		t.Error("overlaps what it does not, or not what it does")
	}
}

func TestPoolGives(t *testing.T) {
	for text, want := range map[string]string{
		"198.51.100.0/30":                 "198.51.100.1 198.51.100.2",
		"198.51.100.0/31":                 "198.51.100.0 198.51.100.1",
		"198.51.100.9/32":                 "198.51.100.9",
		"198.51.100.9/32,198.51.100.4/30": "198.51.100.9 198.51.100.5 198.51.100.6",
	} {
		p, got := mustPool(t, text), []string{}
		taken := func(a netip.Addr) bool { return slices.Contains(got, a.String()) }
		for a, ok := p.free(corev1.IPv4Protocol, taken); ok; a, ok = p.free(corev1.IPv4Protocol, taken) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s gives %v, want %s", text, got, want)
		}
	}
	if a, ok := mustPool(t, "fd00::/64").free(corev1.IPv6Protocol, func(netip.Addr) bool { return false }); !ok || a.String() != "fd00::" {
		t.Errorf("first of IPv6: %s %v", a, ok)
	}
}

func balanced(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", ResourceVersion: "1"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func dual(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, &policy
	}
}

func asks(ip string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerIP = ip }
}
func has(ips ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for _, ip := range ips {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip, IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
		}
	}
}

func TestDecide(t *testing.T) {
	const four, both = "198.51.100.0/30", "198.51.100.0/30,fd00::/126"
	for name, tc := range map[string]struct {
		s                   *corev1.Service
		pool, taken         string
		want, reason, moved string
	}{
		"first free":                    {balanced(), four, "", "198.51.100.1", "", ""},
		"next free":                     {balanced(), four, "198.51.100.1", "198.51.100.2", "", ""},
		"keeps what it has":             {balanced(has("198.51.100.2")), four, "", "198.51.100.2", "", ""},
		"asked for":                     {balanced(asks("198.51.100.2")), four, "", "198.51.100.2", "", ""},
		"asked for anew":                {balanced(asks("198.51.100.2"), has("198.51.100.1")), four, "", "198.51.100.2", "", "198.51.100.2 was asked for instead of 198.51.100.1: moved to 198.51.100.2"},
		"asked for and taken":           {balanced(asks("198.51.100.2")), four, "198.51.100.2", "", "AddressTaken", ""},
		"taken, keeps what it has":      {balanced(asks("198.51.100.2"), has("198.51.100.1")), four, "198.51.100.2", "198.51.100.1", "AddressTaken", ""},
		"asked for from elsewhere":      {balanced(asks("203.0.113.1")), four, "", "", "AddressNotInPool", ""},
		"asked for the broadcast":       {balanced(asks("198.51.100.3")), four, "", "", "AddressNotInPool", ""},
		"asked for no address":          {balanced(asks("x")), four, "", "", "InvalidAddress", ""},
		"asked for the other family":    {balanced(asks("fd00::1")), both, "", "", "InvalidAddress", ""},
		"exhausted":                     {balanced(), four, "198.51.100.1 198.51.100.2", "", "PoolExhausted", ""},
		"the pool moved":                {balanced(has("203.0.113.7")), four, "", "198.51.100.1", "", "203.0.113.7 is not in the pool 198.51.100.0/30: moved to 198.51.100.1"},
		"an elder has it":               {balanced(has("198.51.100.1")), four, "198.51.100.1", "198.51.100.2", "", "198.51.100.1 is another service's: moved to 198.51.100.2"},
		"moved into a full pool":        {balanced(has("203.0.113.7")), four, "198.51.100.1 198.51.100.2", "", "PoolExhausted", "203.0.113.7 is not in the pool 198.51.100.0/30: given up"},
		"two families":                  {balanced(dual("RequireDualStack")), both, "", "198.51.100.1 fd00::", "", ""},
		"two families, one there":       {balanced(dual("RequireDualStack")), four, "", "198.51.100.1", "NoSuchFamily", ""},
		"two preferred, one there":      {balanced(dual("PreferDualStack")), four, "", "198.51.100.1", "", ""},
		"two families, one asked":       {balanced(dual("RequireDualStack"), asks("fd00::2")), both, "", "198.51.100.1 fd00::2", "", ""},
		"a second family comes":         {balanced(dual("RequireDualStack"), has("198.51.100.2")), both, "", "198.51.100.2 fd00::", "", ""},
		"a second family goes":          {balanced(has("198.51.100.2", "fd00::")), both, "", "198.51.100.2", "", ""},
		"one family full, one not":      {balanced(dual("RequireDualStack")), both, "198.51.100.1 198.51.100.2", "fd00::", "PoolExhausted", ""},
		"the family that is not pooled": {balanced(), "fd00::/126", "", "", "NoSuchFamily", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := decide(tc.s, mustPool(t, tc.pool), func(a netip.Addr) bool { return slices.Contains(strings.Fields(tc.taken), a.String()) })
			var got []string
			for _, a := range d.addresses {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != tc.want || d.reason != tc.reason || strings.Join(d.moved, "; ") != tc.moved {
				t.Errorf("got  %v %q %v\nwant %s %q %s", got, d.reason, d.moved, tc.want, tc.reason, tc.moved)
			}
			if (d.reason == "") != (d.message == "") {
				t.Errorf("reason %q, message %q", d.reason, d.message)
			}
		})
	}
}

func TestNextIsQuiet(t *testing.T) {
	pool, nobody := mustPool(t, "198.51.100.0/30"), func(netip.Addr) bool { return false }
	everybody := func(netip.Addr) bool { return true }
	s := balanced()
	full := next(s, decide(s, pool, everybody), metav1.Now())
	if c := full.Status.Conditions; len(c) != 1 || c[0].Reason != "PoolExhausted" || c[0].Status != metav1.ConditionFalse {
		t.Errorf("conditions %+v", c)
	}
	if again := next(full, decide(full, pool, everybody), metav1.NewTime(time.Now().Add(time.Hour))); !equality.Semantic.DeepEqual(full, again) {
		t.Errorf("writes though nothing changed but the time: %+v", again.Status)
	}
	done := next(full, decide(full, pool, nobody), metav1.Now())
	if len(done.Status.Conditions) > 0 || len(done.Status.LoadBalancer.Ingress) != 1 || *done.Status.LoadBalancer.Ingress[0].IPMode != "VIP" || !slices.Contains(done.Finalizers, finalizer) {
		t.Errorf("%+v %v", done.Status, done.Finalizers)
	}
	if !equality.Semantic.DeepEqual(next(done, decide(done, pool, nobody), metav1.Now()), done) {
		t.Error("writes though nothing changed")
	}
	if r := released(done); len(r.Finalizers) > 0 || len(r.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("released: %+v", r)
	}
}

func named(name, version string, made int, ips ...string) *corev1.Service {
	s := balanced(has(ips...))
	s.Name, s.ResourceVersion, s.CreationTimestamp = name, version, metav1.Unix(int64(made), 0)
	return s
}

func TestBook(t *testing.T) {
	one, two := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	key := func(name string) loop.Key { return loop.Key{Namespace: "ns", Name: name} }
	woken := func(keys []loop.Key) string {
		var all []string
		for _, k := range keys {
			all = append(all, k.Name)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	b := newBook()
	a := named("a", "1", 1)
	b.changed(loop.Event{New: a})
	b.claim(a, []netip.Addr{one})
	if !b.taken(key("b"), share{}, one) || b.taken(key("a"), share{}, one) {
		t.Error("a claim does not count, or against its owner")
	}
	b.wrote(named("a", "5", 1, "198.51.100.1"))
	b.changed(loop.Event{New: named("a", "3", 1)}) // seen late
	if !b.taken(key("b"), share{}, one) {
		t.Error("an old event takes back what was written")
	}
	b.changed(loop.Event{New: named("a", "5", 1, "198.51.100.1")})
	b.waits(key("b"), true)
	if got := woken(b.changed(loop.Event{New: named("a", "6", 1, "198.51.100.2")})); got != "a b" {
		t.Errorf("an address that becomes free wakes %q", got)
	}
	if b.taken(key("b"), share{}, one) || !b.taken(key("b"), share{}, two) {
		t.Error("the book keeps what was given up, or does not see the new")
	}
	// A person gives a younger service the same address.
	if got := woken(b.changed(loop.Event{New: named("y", "7", 9, "198.51.100.2")})); got != "a y" {
		t.Errorf("who shares an address: %q", got)
	}
	if !b.taken(key("y"), share{}, two) || b.taken(key("a"), share{}, two) {
		t.Error("not the older one keeps the address")
	}
	c := named("c", "8", 3)
	b.claim(c, []netip.Addr{one})
	b.disclaim(c)
	if b.taken(key("b"), share{}, one) {
		t.Error("a claim taken back still counts")
	}
	b.changed(loop.Event{Old: a})
	b.changed(loop.Event{Old: named("y", "7", 9)})
	b.changed(loop.Event{Old: c})
	if len(b.entries)+len(b.holders) > 0 {
		t.Errorf("the book keeps %v %v", b.entries, b.holders)
	}
}

func TestSharing(t *testing.T) {
	say := func(key string, local bool, app string, ports ...string) share {
		return share{key: key, local: local, selector: map[string]string{"app": app}, ports: ports}
	}
	in := func(namespace string, s share) share {
		s.namespace = namespace
		return s
	}
	for name, tc := range map[string]struct {
		a, b share
		want bool
	}{
		"nobody asked":                {share{}, share{}, false},
		"one asked":                   {say("x", false, "a", "TCP/80"), share{}, false},
		"other words":                 {say("x", false, "a", "TCP/80"), say("y", false, "a", "TCP/81"), false},
		"other ports":                 {say("x", false, "a", "TCP/80"), say("x", false, "b", "TCP/81"), true},
		"other protocol":              {say("x", false, "a", "TCP/53"), say("x", false, "b", "UDP/53"), true},
		"a port of both":              {say("x", false, "a", "TCP/80", "TCP/81"), say("x", false, "b", "TCP/81"), false},
		"one is local":                {say("x", true, "a", "TCP/80"), say("x", false, "a", "TCP/81"), false},
		"both are, on the same pods":  {say("x", true, "a", "TCP/80"), say("x", true, "a", "TCP/81"), true},
		"both are, on different pods": {say("x", true, "a", "TCP/80"), say("x", true, "b", "TCP/81"), false},
		"the same words elsewhere":    {in("x", say("z", true, "a", "TCP/80")), in("y", say("z", true, "a", "TCP/81")), false},
		"elsewhere, and not local":    {in("x", say("z", false, "a", "TCP/80")), in("y", say("z", false, "a", "TCP/81")), true},
	} {
		if tc.a.with(tc.b) != tc.want || tc.b.with(tc.a) != tc.want {
			t.Errorf("%s: %v %v, want %v", name, tc.a.with(tc.b), tc.b.with(tc.a), tc.want)
		}
	}

	elsewhere := func(namespace string) share {
		s := balanced(func(s *corev1.Service) {
			s.Namespace, s.Annotations, s.Spec.Selector = namespace, map[string]string{shareAnnotation: "x"}, map[string]string{"app": "a"}
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		})
		return shareOf(s)
	}
	if elsewhere("a").with(elsewhere("b")) || !elsewhere("a").with(elsewhere("a")) {
		t.Error("pods of two namespaces count as the same, or those of one do not")
	}

	// In the book: one of the same word with another port has the address, too; when its port becomes the same, the younger has to go.
	shares := func(s *corev1.Service, port int32) *corev1.Service {
		s.Annotations = map[string]string{shareAnnotation: "x"}
		s.Spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: port}}
		return s
	}
	one := netip.MustParseAddr("198.51.100.1")
	b := newBook()
	old, young := shares(named("old", "1", 1, "198.51.100.1"), 80), shares(named("young", "2", 2), 81)
	b.changed(loop.Event{New: old})
	b.waits(loop.KeyOf(young), true)
	if b.taken(loop.KeyOf(young), shareOf(young), one) || !b.taken(loop.KeyOf(young), share{}, one) {
		t.Error("what may share does not, or what may not does")
	}
	if woken := b.changed(loop.Event{Old: old, New: shares(named("old", "3", 1, "198.51.100.1"), 81)}); len(woken) != 2 {
		t.Errorf("who waits for a share is not woken when one changes: %v", woken)
	}
	if !b.taken(loop.KeyOf(young), shareOf(young), one) || b.taken(loop.KeyOf(old), shareOf(old), one) {
		t.Error("they share a port now: the older has it")
	}
}

// Whose address was taken away is looked at before those who wait for one.
func TestItselfIsWokenFirst(t *testing.T) {
	for range 20 { // of a map's many orders
		b := newBook()
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "two", ResourceVersion: "1"},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "198.51.100.2"}}}}}
		b.changed(loop.Event{New: svc})
		for _, name := range []string{"a", "b", "three", "z"} {
			b.waits(loop.Key{Namespace: "ns", Name: name}, true)
		}
		now := svc.DeepCopy()
		now.ResourceVersion, now.Status.LoadBalancer.Ingress[0].IP = "2", "203.0.113.9"
		woken := b.changed(loop.Event{Old: svc, New: now})
		if len(woken) != 5 || woken[0].Name != "two" {
			t.Fatalf("woken in the order %v", woken)
		}
	}
}
