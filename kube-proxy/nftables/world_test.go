package nftables_test

import (
	"net/netip"
	"testing"

	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/testnet"
)

const servePort = 8080

// world is a network with a Writer at its node, and the addresses of one family in it.
type world struct {
	*testnet.Net
	writer *nftables.Writer
	v6     bool

	cluster, external, balancer netip.Addr     // addresses of the service
	clusterAt, nodeAt           netip.AddrPort // the service, and its node port
	nodeIP, hostIP              netip.Addr
	podGateway                  netip.Addr // as whom a pod sees a masqueraded caller
	table                       string     // the name of the table's family
}

// eachFamily runs a test with IPv4 and with IPv6.
func eachFamily(t *testing.T, test func(t *testing.T, v6 bool)) {
	t.Run("IPv4", func(t *testing.T) { test(t, false) })
	t.Run("IPv6", func(t *testing.T) { test(t, true) })
}

// newWorld is IPv4.
func newWorld(t testing.TB, pods int) *world { return serving(t, testnet.New(t, pods), false) }

func newWorldOf(t testing.TB, v6 bool, pods int) *world { return serving(t, testnet.New(t, pods), v6) }

// serving makes all pods of a network serve.
func serving(t testing.TB, n *testnet.Net, v6 bool) *world {
	for _, p := range n.Pods {
		p.Serve(t, servePort)
	}
	w := &world{
		Net: n, v6: v6, cluster: netip.MustParseAddr("10.96.0.10"), external: netip.MustParseAddr("192.0.2.10"), balancer: netip.MustParseAddr("192.0.2.20"),
		nodeIP: testnet.NodeIP, hostIP: testnet.HostIP, podGateway: netip.MustParseAddr("169.254.1.1"), table: "ip",
	}
	if v6 {
		w.cluster, w.external, w.balancer = netip.MustParseAddr("fd00:10:96::a"), netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("2001:db8::20")
		w.nodeIP, w.hostIP, w.podGateway, w.table = testnet.NodeIP6, testnet.HostIP6, testnet.NodeIP6, "ip6"
	}
	w.clusterAt, w.nodeAt = netip.AddrPortFrom(w.cluster, 80), netip.AddrPortFrom(w.nodeIP, 30080)
	w.Net.External(t, w.external)
	w.Net.External(t, w.balancer)
	w.writer = newWriterFor(t, n, w.config())
	return w
}

func (w *world) config() nftables.Config {
	c := nftables.Config{V6: w.v6, PodCIDR: testnet.PodCIDR, MasqueradeEgress: true, MasqueradeBit: 14}
	if w.v6 {
		c.PodCIDR = testnet.PodCIDR6
	}
	return c
}

func newWriterFor(t testing.TB, n *testnet.Net, c nftables.Config) *nftables.Writer {
	conn := nfconn.New(int(n.Node.NS))
	t.Cleanup(conn.Close)
	return nftables.New(c, conn, zaptest.NewLogger(t))
}

// set offers the services at the node.
func (w *world) set(t testing.TB, services ...*changes.Service) nftables.Stats {
	t.Helper()
	stats, err := w.writer.Set(w.wish(services...))
	if err != nil {
		t.Fatalf("setting the rules: %v", err)
	}
	return stats
}

func (w *world) wish(services ...*changes.Service) nftables.Wish {
	return nftables.Wish{Table: changes.NewTable(services...), NodeAddresses: []netip.Addr{w.nodeIP}}
}

// at is where a pod serves.
func (w *world) at(p testnet.Place) netip.AddrPort {
	return netip.AddrPortFrom(p.Of(w.v6), servePort)
}

// service is a service of all pods given, with a node port.
func (w *world) service(p changes.Protocol, pods ...testnet.Place) *changes.Service {
	s := &changes.Service{
		Name:     changes.Name{Namespace: "default", Service: "web", Port: p.String()},
		Protocol: p, ClusterIP: w.cluster, Port: 80, NodePort: 30080,
	}
	for _, pod := range pods {
		s.Endpoints = append(s.Endpoints, changes.Endpoint{Addr: w.at(pod), Local: true})
	}
	return s
}

// answers calls n times and counts who answered; each call is a new connection.
func answers(t testing.TB, from testnet.Place, network string, to netip.AddrPort, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		a, err := from.Call(network, to)
		if err != nil {
			t.Fatalf("calling %s %s from %s: %v", network, to, from.Name, err)
		}
		got[a.From]++
	}
	return got
}
