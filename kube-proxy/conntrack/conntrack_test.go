package conntrack_test

import (
	"net/netip"
	"testing"

	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/conntrack"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/testnet"
)

// A client that keeps its socket is moved to the new endpoint, and only by
// forgetting: the rules alone do not do it.
func TestAFlowIsMoved(t *testing.T) {
	n := testnet.New(t, 2)
	for _, p := range n.Pods {
		p.Serve(t, 8053)
	}
	conn := nfconn.New(int(n.Node.NS))
	t.Cleanup(conn.Close)
	rules := nftables.New(nftables.Config{PodCIDR: testnet.PodCIDR, MasqueradeBit: 14}, conn, zaptest.NewLogger(t))
	flows := conntrack.New(false, int(n.Node.NS))

	wish := func(p testnet.Place) nftables.Wish {
		return nftables.Wish{Table: changes.NewTable(&changes.Service{
			Name: changes.Name{Namespace: "d", Service: "dns"}, Protocol: changes.UDP, ClusterIP: netip.MustParseAddr("10.96.0.10"), Port: 53,
			Endpoints: []changes.Endpoint{{Addr: netip.AddrPortFrom(p.IP, 8053)}},
		})}
	}
	set := func(w nftables.Wish) {
		t.Helper()
		if _, err := rules.Set(w); err != nil {
			t.Fatal(err)
		}
	}
	forget := func(was, now nftables.Wish, want int) {
		t.Helper()
		got, err := flows.Forget(was, now)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("forgot %d flows, want %d", got, want)
		}
	}

	first, second := wish(n.Pods[0]), wish(n.Pods[1])
	set(first)
	forget(nftables.Wish{}, first, 0)
	c, err := n.Host.Dial("udp", netip.MustParseAddrPort("10.96.0.10:53"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func(want string) {
		t.Helper()
		a, err := testnet.Ask(c)
		if err != nil {
			t.Fatal(err)
		}
		if a.From != want {
			t.Errorf("%s answered, want %s", a.From, want)
		}
	}
	ask(n.Pods[0].Name)
	set(second)
	ask(n.Pods[0].Name) // still: this is the trouble
	forget(first, second, 1)
	ask(n.Pods[1].Name)
	forget(second, second, 0)
	ask(n.Pods[1].Name)
}
