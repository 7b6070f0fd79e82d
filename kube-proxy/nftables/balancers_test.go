package nftables_test

import (
	"net/netip"
	"testing"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/testnet"
)

// A load balancer address that the node has leads to the service's ports and not to the node's own.
func TestPortsOfABalancerAddress(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 2)
		w.Net.Address(t, w.balancer)
		const nodes = 8099 // somebody on the node listens there, on all addresses
		w.Node.Serve(t, nodes)
		at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

		if a, err := w.Host.Call("tcp", at(w.balancer, nodes)); err != nil || a.From != "node" {
			t.Fatalf("without rules the node's own service answers: %v %v", a, err)
		}
		c := w.config()
		c.Balancers = []netip.Prefix{netip.PrefixFrom(w.balancer, w.balancer.BitLen()-4).Masked()}
		if v6 {
			c.Balancers = append(c.Balancers, netip.MustParsePrefix("192.0.2.0/24"))
		} else {
			c.Balancers = append(c.Balancers, netip.MustParsePrefix("2001:db8::/32"))
		}
		c.Balancers = append(c.Balancers, netip.PrefixFrom(w.nodeIP, w.nodeIP.BitLen())) // a person's mistake, or the only address there is
		w.writer = newWriterFor(t, w.Net, c)
		w.set(t, w.balanced(w.Pods[1:])) // not the caller: a pod that reaches itself is told of a better way, and then no refusal for a second
		answers(t, w.Node, "tcp", at(w.balancer, 80), 3)
		for _, from := range []testnet.Place{w.Host, w.Pods[0]} {
			answers(t, from, "tcp", at(w.balancer, 80), 3)
			for _, network := range []string{"tcp", "udp"} {
				if _, err := from.Call(network, at(w.balancer, nodes)); !testnet.Refused(err) {
					t.Errorf("%s calls the node's port at the balancer's address over %s: %v", from.Name, network, err)
				}
			}
			if a, err := from.Call("tcp", at(w.nodeIP, nodes)); err != nil || a.From != "node" {
				t.Errorf("%s calls the node itself: %v %v", from.Name, a, err)
			}
		}
		if stats, err := w.writer.Verify(); err != nil || stats.Repaired {
			t.Errorf("the kernel shows other rules than were written: %+v %v", stats, err)
		}
		// Another run with other ranges takes the table over.
		w.writer = newWriterFor(t, w.Net, w.config())
		w.set(t, w.service(changes.TCP, w.Pods...))
		if a, err := w.Host.Call("tcp", at(w.balancer, nodes)); err != nil || a.From != "node" {
			t.Errorf("the ranges were taken away: %v %v", a, err)
		}
	})
}
