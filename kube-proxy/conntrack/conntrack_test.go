package conntrack_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/conntrack"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/testnet"
)

// node is a node with rules and a connection table, of one family.
type node struct {
	*testnet.Net
	t     *testing.T
	v6    bool
	rules *nftables.Writer
	flows *conntrack.Table
	wish  nftables.Wish // the last

	cluster, external, balancer, node netip.Addr
}

func eachFamily(t *testing.T, test func(t *testing.T, n *node)) {
	for _, v6 := range []bool{false, true} {
		name := "IPv4"
		if v6 {
			name = "IPv6"
		}
		t.Run(name, func(t *testing.T) {
			n := &node{Net: testnet.New(t, 3), t: t, v6: v6}
			c := nftables.Config{V6: v6, PodCIDR: testnet.PodCIDR, MasqueradeBit: 14}
			n.cluster, n.external, n.balancer, n.node = netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.20"), testnet.NodeIP
			if v6 {
				c.PodCIDR = testnet.PodCIDR6
				n.cluster, n.external, n.balancer, n.node = netip.MustParseAddr("fd00:10:96::a"), netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("2001:db8::20"), testnet.NodeIP6
			}
			for _, p := range n.Pods {
				p.Serve(t, 8053)
			}
			n.External(t, n.external)
			n.External(t, n.balancer)
			conn := nfconn.New(int(n.Node.NS))
			t.Cleanup(conn.Close)
			n.rules, n.flows = nftables.New(c, conn, zaptest.NewLogger(t)), conntrack.New(v6, int(n.Node.NS))
			test(t, n)
		})
	}
}

// service is reached at all kinds of addresses.
func (n *node) service(p changes.Protocol, pods ...testnet.Place) *changes.Service {
	s := &changes.Service{
		Name: changes.Name{Namespace: "d", Service: "dns"}, Protocol: p, ClusterIP: n.cluster, Port: 53, NodePort: 30053,
		External: []netip.Addr{n.external, n.balancer},
	}
	for _, p := range pods {
		s.Endpoints = append(s.Endpoints, changes.Endpoint{Addr: netip.AddrPortFrom(p.Of(n.v6), 8053)})
	}
	return s
}

// offer writes the rules.
func (n *node) offer(services ...*changes.Service) (undone nftables.Wish) {
	n.t.Helper()
	was := n.wish
	n.wish = nftables.Wish{Table: changes.NewTable(services...), NodeAddresses: []netip.Addr{n.node}}
	if _, err := n.rules.Set(n.wish); err != nil {
		n.t.Fatal(err)
	}
	return was
}

func (n *node) forget(was nftables.Wish, want int) {
	n.t.Helper()
	got, err := n.flows.Forget(was, n.wish)
	if err != nil {
		n.t.Fatal(err)
	}
	if got != want {
		n.t.Errorf("forgot %d flows, want %d", got, want)
	}
}

// fronts is everywhere the service is reached.
func (n *node) fronts() map[string]netip.AddrPort {
	return map[string]netip.AddrPort{
		"cluster IP": netip.AddrPortFrom(n.cluster, 53), "node port": netip.AddrPortFrom(n.node, 30053),
		"external IP": netip.AddrPortFrom(n.external, 53), "load balancer": netip.AddrPortFrom(n.balancer, 53),
	}
}

// flow opens a socket of the host outside.
func (n *node) flow(to netip.AddrPort) net.Conn {
	n.t.Helper()
	c, err := n.Host.Dial("udp", to)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (n *node) ask(c net.Conn, want testnet.Place) {
	n.t.Helper()
	a, err := testnet.Ask(c)
	if err != nil {
		n.t.Fatal(err)
	}
	if a.From != want.Name {
		n.t.Errorf("%s answered, want %s", a.From, want.Name)
	}
}

// Clients that keep their sockets are moved to the new endpoint, and only by
// forgetting: the rules alone do not do it.
func TestFlowsAreMoved(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		first, second := n.Pods[0], n.Pods[1]
		n.forget(n.offer(n.service(changes.UDP, first)), 0)
		flows := map[string]net.Conn{}
		for name, at := range n.fronts() {
			flows[name] = n.flow(at)
			n.ask(flows[name], first)
		}
		was := n.offer(n.service(changes.UDP, second))
		for _, c := range flows {
			n.ask(c, first) // still: this is the trouble
		}
		n.forget(was, len(flows))
		for _, c := range flows {
			n.ask(c, second)
		}
		n.forget(n.wish, 0)
	})
}

// An endpoint that serves keeps its streams, though new flows go elsewhere; once it
// is gone they move. What asked it only once goes elsewhere at once: its port may
// be another's the next time.
func TestFlowsOfAnEndpointThatLeaves(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.forget(n.offer(n.service(changes.UDP, n.Pods[0])), 0)
		at := netip.AddrPortFrom(n.cluster, 53)
		stream, brief := n.flow(at), n.flow(at)
		n.ask(brief, n.Pods[0])
		// What goes to and fro for two seconds is a stream to the kernel.
		for began := time.Now(); time.Since(began) < 2500*time.Millisecond; time.Sleep(50 * time.Millisecond) {
			n.ask(stream, n.Pods[0])
		}
		leaves := n.service(changes.UDP, n.Pods[1])
		leaves.Leaving = []netip.AddrPort{netip.AddrPortFrom(n.Pods[0].Of(n.v6), 8053)}
		n.forget(n.offer(leaves), 1)
		n.ask(stream, n.Pods[0])
		n.ask(brief, n.Pods[1])
		n.ask(n.flow(at), n.Pods[1])
		n.forget(n.offer(n.service(changes.UDP, n.Pods[1])), 1)
		n.ask(stream, n.Pods[1])
	})
}

// A client asks before there is a service, or an endpoint, and goes on asking from
// its socket: it is heard once there is.
func TestFlowsFromBefore(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		unheard := func(c net.Conn) {
			t.Helper()
			if _, err := testnet.Ask(c); !testnet.Refused(err) {
				t.Fatalf("got %v, want a refusal", err)
			}
		}
		n.offer()
		c := n.flow(netip.AddrPortFrom(n.node, 30053))
		unheard(c) // the node itself refused: the kernel knows a flow to the node
		was := n.offer(n.service(changes.UDP))
		n.forget(was, 1)
		unheard(c)
		n.forget(n.offer(n.service(changes.UDP, n.Pods[0])), 0)
		n.ask(c, n.Pods[0])
	})
}

// A flow through an address or node port that is given up ends.
func TestFlowsToAnAddressGivenUp(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		n.forget(n.offer(n.service(changes.UDP, n.Pods[0])), 0)
		kept, port, external := n.flow(netip.AddrPortFrom(n.cluster, 53)), n.flow(netip.AddrPortFrom(n.node, 30053)), n.flow(netip.AddrPortFrom(n.external, 53))
		for _, c := range []net.Conn{kept, port, external} {
			n.ask(c, n.Pods[0])
		}
		less := n.service(changes.UDP, n.Pods[0])
		less.NodePort, less.External = 0, nil
		n.forget(n.offer(less), 2)
		n.ask(kept, n.Pods[0])
		if _, err := testnet.Ask(port); !testnet.Refused(err) {
			t.Errorf("the node port still answers: %v", err)
		}
		n.forget(n.offer(), 1)
	})
}

// TCP is left alone: a connection to an endpoint that the service no longer has goes
// on for as long as the endpoint lives.
func TestConnectionsGoOn(t *testing.T) {
	eachFamily(t, func(t *testing.T, n *node) {
		var ln net.Listener
		n.Pods[2].Do(t, func() (err error) {
			ln, err = net.Listen("tcp", ":9053")
			return err
		})
		defer ln.Close()
		s := n.service(changes.TCP)
		s.Endpoints = []changes.Endpoint{{Addr: netip.AddrPortFrom(n.Pods[2].Of(n.v6), 9053)}}
		n.forget(n.offer(s), 0)
		client, err := n.Host.Dial("tcp", netip.AddrPortFrom(n.cluster, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		n.forget(n.offer(n.service(changes.TCP, n.Pods[0])), 0)
		if _, err := server.Write([]byte("pod2 192.0.2.1:1")); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		n.ask(client, n.Pods[2])
		if a, err := n.Host.Call("tcp", netip.AddrPortFrom(n.cluster, 53)); err != nil || a.From != n.Pods[0].Name {
			t.Errorf("a new connection: %+v, %v", a, err)
		}
	})
}
