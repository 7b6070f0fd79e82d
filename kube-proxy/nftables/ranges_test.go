package nftables_test

import (
	"net/netip"
	"slices"
	"testing"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/testnet"
)

// balanced is a service with an external address and a load balancer's, which only
// the ranges given may call.
func (w *world) balanced(pods []testnet.Place, ranges ...netip.Prefix) *changes.Service {
	s := w.service(changes.TCP, pods...)
	s.External, s.LoadBalancer = []netip.Addr{w.external, w.balancer}, []netip.Addr{w.balancer}
	s.SourceRanges = ranges
	return s
}

func only(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func TestSourceRanges(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 2)
		balancerAt, externalAt := netip.AddrPortFrom(w.balancer, 80), netip.AddrPortFrom(w.external, 80)
		link, err := w.hostIP.Prefix(w.hostIP.BitLen() - 8) // host and node are in it
		if err != nil {
			t.Fatal(err)
		}
		pods := w.config().PodCIDR
		everybody := []testnet.Place{w.Host, w.Node, w.Pods[0]}
		for _, c := range []struct {
			name   string
			ranges []netip.Prefix
			may    []testnet.Place
		}{
			{"everybody", nil, everybody},
			{"the host only", []netip.Prefix{only(w.hostIP)}, []testnet.Place{w.Host}},
			{"the link: host and node", []netip.Prefix{link}, []testnet.Place{w.Host, w.Node}},
			{"the pods", []netip.Prefix{pods}, []testnet.Place{w.Pods[0]}},
			{"pods and host", []netip.Prefix{pods, only(w.hostIP)}, []testnet.Place{w.Pods[0], w.Host}},
			{"a wider range of the same beginning", []netip.Prefix{link}, []testnet.Place{w.Host, w.Node}},
			{"all there is", []netip.Prefix{netip.PrefixFrom(w.hostIP, 0).Masked()}, everybody},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.set(t, w.balanced(w.Pods[1:], c.ranges...))
				for _, from := range everybody {
					if may := slices.ContainsFunc(c.may, func(p testnet.Place) bool { return p.Name == from.Name }); may {
						answers(t, from, "tcp", balancerAt, 3)
					} else if err := from.HearsNothing(balancerAt); err != nil {
						t.Errorf("%s calls: %v", from.Name, err)
					}
					for _, free := range []netip.AddrPort{w.clusterAt, w.nodeAt, externalAt} {
						answers(t, from, "tcp", free, 1)
					}
				}
			})
		}
		if stats, err := newWriterFor(t, w.Net, w.config()).Set(w.wish(w.balanced(w.Pods[1:], netip.PrefixFrom(w.hostIP, 0).Masked()))); err != nil || stats.Repaired {
			t.Errorf("what was written is not what is read: %+v, %v", stats, err)
		}
		w.nft(t, "list", "table", w.table, "kube-proxy")
	})
}

// A connection that was let in stays when its caller is shut out, and a caller who
// is a pod and reaches itself must be in the ranges like any other.
func TestSourceRangesOfOpenConnections(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 1)
		s := w.balanced(w.Pods, only(w.hostIP))
		s.Protocol = changes.UDP
		w.set(t, s)
		c, err := w.Host.Dial("udp", netip.AddrPortFrom(w.balancer, 80))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := testnet.Ask(c); err != nil {
			t.Fatal(err)
		}
		shut := w.balanced(w.Pods, only(w.Pods[0].Of(v6)))
		shut.Protocol = changes.UDP
		shut.Name.Port = "udp"
		tcp := w.balanced(w.Pods, only(w.Pods[0].Of(v6)))
		w.set(t, shut, tcp)
		if _, err := testnet.Ask(c); err != nil {
			t.Errorf("an open flow ended: %v", err)
		}
		answers(t, w.Pods[0], "tcp", netip.AddrPortFrom(w.balancer, 80), 1)
		if err := w.Host.HearsNothing(netip.AddrPortFrom(w.balancer, 80)); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	})
}

// Where the node has the balancer's address itself, its processes call it from
// that address: they may, if the node's own address is in the ranges.
func TestTheNodeHasTheBalancersAddress(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 1)
		at := netip.AddrPortFrom(w.balancer, 80)
		w.Address(t, w.balancer)
		w.set(t, w.balanced(w.Pods, only(w.nodeIP)))
		answers(t, w.Node, "tcp", at, 1)
		w.set(t, w.balanced(w.Pods, only(w.hostIP)))
		if err := w.Node.HearsNothing(at); err != nil {
			t.Error(err)
		}
	})
}
