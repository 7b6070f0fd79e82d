package announce

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	four = "198.18.9.230"
	six  = "fd00:18::e0e6"
)

// start has everything run on all nodes.
func (l *lab) start() {
	for _, m := range l.nodes {
		m.beat()
		m.proxy()
	}
}

// lossesOf counts how often a node loses one of its addresses.
func (m *member) lossesOf(a string) *atomic.Int32 {
	lost, done, ended := &atomic.Int32{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		err := m.kernel.follow(done, func(ip netip.Addr) {
			if ip.String() == a {
				lost.Add(1)
			}
		}, func(err error) { m.lab.t.Logf("following: %v", err) }) // its own end is one
		if err != nil {
			m.lab.t.Error(err)
		}
	}()
	m.lab.t.Cleanup(func() { close(done); <-ended })
	return lost
}

// An address's life: it is answered by one node, moves when that dies, and back, and goes with its Service.
func TestOneNodeAnswers(t *testing.T) {
	l := newLab(t)
	l.start()
	l.service("web", false, four, six)
	for _, a := range []string{four, six} {
		l.eventually("a service comes", a, l.order(a)[0].name)
		l.meet(a)
		l.remembers("the client has called", a, l.order(a)[0].name)
	}

	// A node loses its power.
	for _, a := range []string{four, six} {
		dead, heir := l.order(a)[0], l.order(a)[1]
		began := time.Now()
		dead.cut(true)
		dead.stopBeats()
		dead.stopProxy()
		l.remembers("the first node died", a, heir.name) // by the announcement alone: the client asks nobody
		t.Logf("%s: the client knows the new node %v after the death of the old", a, time.Since(began).Round(time.Millisecond))
		l.eventually("the second alone answers", a, heir.name) // a new address of IPv6 is deaf for a moment
		dead.ready(false)
		l.eventually("the controller manager has noticed, too", a, heir.name)

		// It comes back as after a cut: with what it had.
		dead.cut(false)
		dead.beat()
		dead.proxy()
		dead.ready(true)
		l.remembers("the first node is back", a, dead.name)
		l.eventually("the first node is back", a, dead.name)
	}

	if err := l.api.Kube.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{four, six} {
		l.eventually("the service is gone", a, "")
	}
	told, err := l.api.Kube.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=nodeAssigned"})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("announcing from node %q with protocol %q", l.order(four)[0].name, "layer2")
	found := false
	for _, e := range told.Items {
		found = found || e.Message == want && e.InvolvedObject.Name == "web" && e.Source.Component == "kube-proxy"
	}
	if !found {
		t.Errorf("no event says %q: %v", want, told.Items)
	}
}

// A restart of kube-proxy takes nothing away, and what a run long ago left is put right.
func TestRestart(t *testing.T) {
	l := newLab(t)
	owner, other := l.order(four)[0], l.order(four)[1]
	// Left by a run long ago: an address of no service, and one that another node is to have.
	const stale = "198.18.9.240"
	l.in(other.ns, func() error {
		for _, a := range []string{stale, four} {
			if err := other.kernel.add(netip.MustParseAddr(a), 2); err != nil {
				return err
			}
		}
		return nil
	})
	l.eventually("left over", stale, other.name)
	l.service("web", false, four)
	l.start()
	l.eventually("an address of no service is removed", stale, "")
	l.eventually("one of another node is left to it", four, owner.name)

	lost := owner.lossesOf(four)
	owner.stopProxy()
	l.eventually("while kube-proxy is away", four, owner.name)
	owner.proxy()
	l.eventually("kube-proxy is back", four, owner.name)
	if n := lost.Load(); n != 0 {
		t.Errorf("the address was away %d times", n)
	}

	// Somebody takes it from the link: it is given back.
	if err := owner.kernel.remove(netip.MustParseAddr(four), 2); err != nil {
		t.Fatal(err)
	}
	l.eventually("somebody removed the address", four, owner.name)
}

// Who is excluded hands its addresses over: at every moment somebody answers.
func TestHandOver(t *testing.T) {
	l := newLab(t)
	l.start()
	l.service("web", false, four)
	owner, heir := l.order(four)[0], l.order(four)[1]
	l.eventually("a service comes", four, owner.name)

	ctx, stop := context.WithCancel(t.Context())
	silences, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if l.whoAnswers(four, 20*time.Millisecond) == "" {
				silences++
			}
		}
	}()
	owner.patch(`{"metadata":{"labels":{"node.kubernetes.io/exclude-from-external-load-balancers":""}}}`)
	l.eventually("the owner is excluded", four, heir.name)
	owner.patch(`{"metadata":{"labels":{"node.kubernetes.io/exclude-from-external-load-balancers":null}}}`)
	l.eventually("the owner is not excluded any more", four, owner.name)

	// The one it is to go to has no kube-proxy: whoever has it keeps it until there is one.
	heir.stopProxy()
	owner.ready(false)
	owner.stopBeats()
	l.eventually("nobody takes it", four, owner.name)
	heir.proxy()
	l.eventually("somebody takes it", four, heir.name)
	stop()
	<-done
	if silences > 0 {
		t.Errorf("nobody answered %d times", silences)
	}
}

// With traffic policy Local only nodes with a ready pod answer.
func TestLocal(t *testing.T) {
	l := newLab(t)
	l.start()
	l.service("web", true, four)
	l.service("other", false, "198.18.9.231")
	l.eventually("the other service", "198.18.9.231", l.order("198.18.9.231")[0].name)
	l.eventually("without pods nobody answers", four, "")
	last, middle := l.order(four)[2], l.order(four)[1]
	endpoint := func(m *member, ready bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{"10.244.0." + strings.TrimPrefix(m.name, "n")}, NodeName: &m.name, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	}
	slices := l.api.Kube.DiscoveryV1().EndpointSlices("default")
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr[int32](80), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{endpoint(last, true), endpoint(middle, false)},
	}
	s, err := slices.Create(t.Context(), s, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l.eventually("a pod on the last node", four, last.name)
	s.Endpoints[1] = endpoint(middle, true)
	if s, err = slices.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.eventually("one on the node before", four, middle.name)
	if err := slices.Delete(t.Context(), s.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.eventually("no pods any more", four, "")
}

// While the API server is away everything stays as it is; and of two nodes that then both answer one gives up, as does one that was
// cut off while another took its place.
func TestWithoutTheAPIServer(t *testing.T) {
	l := newLab(t)
	l.start()
	l.service("web", false, four, six)
	owner, heir := l.order(four)[0], l.order(four)[1]
	l.eventually("a service comes", four, owner.name)
	l.eventually("a service comes", six, l.order(six)[0].name)
	deaf := func(m *member) bool {
		m.announcer.mu.Lock()
		defer m.announcer.mu.Unlock()
		return m.announcer.pulses.deaf
	}
	lost := owner.lossesOf(four)

	l.api.KillAPIServer()
	for end := time.Now().Add(20 * time.Second); !deaf(owner) || !deaf(heir); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody notices that the API server is away")
		}
	}
	l.eventually("without an API server", four, owner.name)
	l.eventually("without an API server", six, l.order(six)[0].name)
	if lost.Load() != 0 {
		t.Error("the owner gave its address up")
	}

	// Another node has taken it while the owner could not hear.
	if err := heir.kernel.add(netip.MustParseAddr(four), 2); err != nil {
		t.Fatal(err)
	}
	l.eventually("the owner hears the other", four, heir.name)

	if err := l.api.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	heir.stopProxy() // what it did not take itself, it finds when it starts
	heir.proxy()
	l.eventually("the API server is back", four, owner.name)
	l.eventually("the API server is back", six, l.order(six)[0].name)
}

// An address of a node's own is that node's, whatever services say: no other takes it away, and the node itself keeps it as it is.
func TestNodesKeepTheirOwn(t *testing.T) {
	l := newLab(t)
	own := map[string]*member{four: l.order(four)[1], six: l.order(six)[0]}
	for a, m := range own { // as their administrator gave them
		l.in(m.ns, func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", a, netip.MustParseAddr(a).BitLen()))
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			return netlink.AddrAdd(eth0, addr)
		})
		m.patch(`{"status":{"addresses":[{"type":"ExternalIP","address":"`+a+`"}]}}`, "status")
	}
	l.service("web", false, four, six)
	l.start()
	for i := range 20 { // who would have taken those has decided when he takes one of these
		a := fmt.Sprintf("198.18.9.%d", 232+i)
		l.service(fmt.Sprintf("other-%d", i), false, a)
		l.eventually("another address", a, l.order(a)[0].name)
	}
	for a, m := range own {
		l.eventually("a node's own address", a, m.name)
		for _, n := range l.nodes {
			all, err := n.kernel.addresses()
			if err != nil {
				t.Fatal(err)
			}
			for _, have := range all {
				if have.prefix.Addr().String() == a && (have.ours || n != m) {
					t.Errorf("%s has %+v", n.name, have)
				}
			}
		}
	}
	for _, name := range []string{"web", "other-0"} {
		if err := l.api.Kube.CoreV1().Services("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	l.eventually("another address, without its service", "198.18.9.232", "")
	for a, m := range own {
		l.eventually("a node's own address, when no service has it any more", a, m.name)
	}
}
