package announce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/testcluster"
)

// lab is three nodes and a client on one bridge, each in a network namespace of its own, and a real API server.
//
//	client 198.18.9.2 ──┬── n1 198.18.9.11
//	                    ├── n2 198.18.9.12
//	                    └── n3 198.18.9.13
type lab struct {
	t      *testing.T
	api    *testcluster.Cluster
	bridge netns.NsHandle
	client netns.NsHandle
	nodes  []*member
}

// member is a node: what its kernel is, and what runs on it.
type member struct {
	lab    *lab
	name   string
	ns     netns.NsHandle
	mac    net.HardwareAddr
	kernel kernel

	announcer *Announcer
	stopProxy func()
	stopBeats func()
}

var pool = []netip.Prefix{netip.MustParsePrefix("198.18.9.224/27"), netip.MustParsePrefix("fd00:18::e000/120")}

func newLab(t *testing.T) *lab {
	if os.Geteuid() != 0 {
		t.Fatal("building network namespaces: this test must run as root")
	}
	l := &lab{t: t, api: testcluster.Start(t)}
	l.bridge, l.client = l.namespace(), l.namespace()
	l.in(l.bridge, func() error {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
			return err
		}
		return up("br0")
	})
	l.join("client", l.client, 2)
	for i := range 3 {
		m := &member{lab: l, name: fmt.Sprintf("n%d", i+1), ns: l.namespace(), stopProxy: func() {}, stopBeats: func() {}}
		m.kernel = kernel{int(m.ns)}
		m.mac = l.join(m.name, m.ns, 11+i)
		l.nodes = append(l.nodes, m)
		m.register(fmt.Sprintf("198.18.9.%d", 11+i))
	}
	t.Cleanup(func() {
		for _, m := range l.nodes {
			m.stopProxy()
			m.stopBeats()
		}
	})
	return l
}

func (l *lab) in(ns netns.NsHandle, f func() error) {
	l.t.Helper()
	if err := (kernel{int(ns)}).do(f); err != nil {
		l.t.Fatal(err)
	}
}

// namespace makes one that vanishes with the test.
func (l *lab) namespace() netns.NsHandle {
	made := make(chan netns.NsHandle)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err != nil {
			l.t.Errorf("making a namespace: %v", err)
		}
		made <- ns
	}()
	ns := <-made
	l.t.Cleanup(func() { _ = ns.Close() })
	l.in(ns, func() error { return up("lo") })
	return ns
}

func up(link string) error {
	found, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(found)
}

// join connects a namespace with the bridge by a cable of that name, and gives it addresses with that number.
func (l *lab) join(cable string, ns netns.NsHandle, number int) net.HardwareAddr {
	l.in(l.bridge, func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: cable}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		port, err := netlink.LinkByName(cable)
		if err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(port, bridge), netlink.LinkSetUp(port))
	})
	var mac net.HardwareAddr
	l.in(ns, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		mac = eth0.Attrs().HardwareAddr
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		for _, p := range []string{fmt.Sprintf("198.18.9.%d/24", number), fmt.Sprintf("fd00:18::%d/64", number)} {
			a, err := netlink.ParseAddr(p)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(eth0, a); err != nil {
				return err
			}
		}
		return nil
	})
	return mac
}

// cut pulls a node's cable, or puts it back.
func (m *member) cut(cut bool) {
	m.lab.in(m.lab.bridge, func() error {
		port, err := netlink.LinkByName(m.name)
		if err != nil {
			return err
		}
		if cut {
			return netlink.LinkSetDown(port)
		}
		return netlink.LinkSetUp(port)
	})
}

// register makes the Node object, ready.
func (m *member) register(ip string) {
	t, nodes := m.lab.t, m.lab.api.Kube.CoreV1().Nodes()
	t.Helper()
	n, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}
	if _, err := nodes.UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.ready(true)
}

// ready reports that the node is, or is not.
func (m *member) ready(yes bool) {
	m.lab.t.Helper()
	status := map[bool]string{true: "True", false: "Unknown"}[yes]
	m.patch(`{"status":{"conditions":[{"type":"Ready","status":"`+status+`"}]}}`, "status")
}

func (m *member) patch(patch string, sub ...string) {
	m.lab.t.Helper()
	t := m.lab.t
	if _, err := m.lab.api.Kube.CoreV1().Nodes().Patch(t.Context(), m.name, "application/strategic-merge-patch+json", []byte(patch), metav1.PatchOptions{}, sub...); err != nil {
		t.Fatal(err)
	}
}

// beat begins to renew the node's Lease each second, as its kubelet does.
func (m *member) beat() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	leases := m.lab.api.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	renew := func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: m.name}, Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &m.name, LeaseDurationSeconds: ptr[int32](4), RenewTime: &metav1.MicroTime{Time: time.Now()}}}
		have, err := leases.Get(ctx, m.name, metav1.GetOptions{})
		if err != nil {
			_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
			return err
		}
		lease.ResourceVersion = have.ResourceVersion
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
		return err
	}
	if err := renew(); err != nil {
		m.lab.t.Fatalf("renewing the lease of %s: %v", m.name, err)
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := renew(); err != nil && ctx.Err() == nil {
					m.lab.t.Logf("renewing the lease of %s: %v", m.name, err) // the API server is away
				}
			}
		}
	}()
	m.stopBeats = func() { stop(); <-done; m.stopBeats = func() {} }
}

// proxy starts what kube-proxy runs of this room.
func (m *member) proxy() {
	t := m.lab.t
	cfg := client.Patient(m.lab.api.Config("system:kube-proxy", "system:node-proxier"))
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	recorder := events.New(kube, "kube-proxy", m.name)
	v4, v6 := changes.New(m.name, false), changes.New(m.name, true)
	homes := func(namespace, service string, six bool) map[string]bool {
		return []*changes.Tracker{v4, v6}[at(six)].Homes(namespace, service)
	}
	a := New(Config{Node: m.name, Ranges: pool, NetNS: int(m.ns)}, Parts{Kube: kube, Events: recorder, Homes: homes}, zaptest.NewLogger(t).Named(m.name))
	source := changes.NewSource(kube, v4, v6, a)
	var group sync.WaitGroup
	group.Go(func() { _ = source.Run(ctx) })   // they end with ctx
	group.Go(func() { _ = recorder.Run(ctx) }) // and have nothing to say
	group.Go(func() {
		if source.Synced(ctx) == nil {
			a.Written(false)
			a.Written(true)
		}
	})
	group.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	})
	m.announcer = a
	m.stopProxy = func() { stop(); group.Wait(); m.stopProxy = func() {} }
}

// service makes a Service of type LoadBalancer whose status shows addresses.
func (l *lab) service(name string, local bool, ips ...string) {
	l.t.Helper()
	s := service(func(s *corev1.Service) {
		s.Name, s.Namespace, s.UID, s.Spec.ClusterIP = name, "default", "", ""
		s.Spec.Ports = []corev1.ServicePort{{Port: 80}}
		s.Spec.AllocateLoadBalancerNodePorts = ptr(false)
		if local {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
	}, ips...)
	services := l.api.Kube.CoreV1().Services("default")
	made, err := services.Create(l.t.Context(), s, metav1.CreateOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	made.Status = s.Status
	if _, err := services.UpdateStatus(l.t.Context(), made, metav1.UpdateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}

// order is in which nodes come for an address when all are ready.
func (l *lab) order(a string) []*member {
	nodes := map[string]node{}
	for _, m := range l.nodes {
		nodes[m.name] = node{ready: true}
	}
	var out []*member
	for _, name := range all(netip.MustParseAddr(a), nodes, nil) {
		out = append(out, l.nodes[slices.IndexFunc(l.nodes, func(m *member) bool { return m.name == name })])
	}
	return out
}

// whoAnswers asks on the client's link who has an address, and waits for all answers, not the first.
func (l *lab) whoAnswers(a string, within time.Duration) string {
	l.t.Helper()
	var names []string
	l.in(l.client, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addr := netip.MustParseAddr(a)
		return withSocket(place{addr, eth0.Index}, true, func(s *packets) error {
			if err := s.send(probe(addr, s.mac, s.from)); err != nil {
				return err
			}
			frame := make([]byte, 2048)
			for end := time.Now().Add(within); time.Now().Before(end); {
				if n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, 5); n <= 0 || err != nil {
					continue
				}
				n, _, err := unix.Recvfrom(s.fd, frame, unix.MSG_DONTWAIT)
				if err != nil {
					continue
				}
				if of, mac, ok := answered(frame[:n]); ok && of == addr {
					for _, m := range l.nodes {
						if bytes.Equal(m.mac, mac) && !slices.Contains(names, m.name) {
							names = append(names, m.name)
						}
					}
				}
			}
			return nil
		})
	})
	slices.Sort(names)
	return strings.Join(names, " ")
}

// eventually waits until exactly these nodes answer for an address, "" for none.
func (l *lab) eventually(what, a, want string) {
	l.t.Helper()
	got := "?"
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if got = l.whoAnswers(a, 50*time.Millisecond); got == want {
			return
		}
	}
	l.t.Fatalf("%s: %q answer for %s, want %q", what, got, a, want)
}

// meet has the client learn where an address is by calling it.
func (l *lab) meet(a string) {
	l.t.Helper()
	l.in(l.client, func() error {
		c, err := net.Dial("udp", net.JoinHostPort(a, "9"))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("?"))
		return err
	})
	l.remembers("the client calls", a, "")
}

// remembers waits until the client's kernel believes an address to be at a node; "": at any. It sends nothing.
func (l *lab) remembers(what, a, want string) {
	l.t.Helper()
	got := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		l.in(l.client, func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			all, err := netlink.NeighList(eth0.Attrs().Index, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			got = ""
			for _, n := range all {
				for _, m := range l.nodes {
					if n.IP.Equal(net.ParseIP(a)) && bytes.Equal(n.HardwareAddr, m.mac) {
						got = m.name
					}
				}
			}
			return nil
		})
		if got == want || want == "" && got != "" {
			return
		}
	}
	l.t.Fatalf("%s: the client believes %s to be at %q, want %q", what, a, got, want)
}
