package nftables_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netns"
	"go.uber.org/zap"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/testnet"
)

// many is n services with five endpoints each.
func many(n int) []*changes.Service {
	out := make([]*changes.Service, 0, n)
	for i := range n {
		s := &changes.Service{
			Name:     changes.Name{Namespace: "default", Service: fmt.Sprintf("s%06d", i)},
			Protocol: changes.TCP, ClusterIP: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), Port: 80,
		}
		for j := range 5 {
			e := i*5 + j
			s.Endpoints = append(s.Endpoints, changes.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(e >> 8), byte(e)}), 8080)})
		}
		out = append(out, s)
	}
	return out
}

// emptyNode is a namespace with nothing in it.
func emptyNode(b *testing.B) *testnet.Net { return testnet.New(b, 0) }

func benchWriter(b *testing.B, ns netns.NsHandle) *nftables.Writer {
	conn := nfconn.New(int(ns))
	b.Cleanup(conn.Close)
	return nftables.New(nftables.Config{PodCIDR: testnet.PodCIDR, MasqueradeEgress: true, MasqueradeBit: 14}, conn, zap.NewNop())
}

// 10,000 services × 5 endpoints into an empty kernel.
func BenchmarkLoad(b *testing.B) {
	n := emptyNode(b)
	wish := nftables.Wish{Table: &changes.Table{Services: many(10_000)}, NodeAddresses: []netip.Addr{testnet.NodeIP}}
	for b.Loop() {
		w := benchWriter(b, n.Node.NS)
		if _, err := w.Set(wish); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := w.Remove(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// One service among 10,000 has an endpoint replaced, or loses or gains one.
func BenchmarkChange(b *testing.B) {
	for _, c := range []struct {
		name string
		edit func(s *changes.Service, odd bool)
	}{
		{"endpoint replaced", func(s *changes.Service, odd bool) {
			if odd {
				s.Endpoints[2].Addr = netip.MustParseAddrPort("10.244.255.255:1")
			}
		}},
		{"endpoint gone or back", func(s *changes.Service, odd bool) {
			if odd {
				s.Endpoints = s.Endpoints[:4]
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := emptyNode(b)
			services := many(10_000)
			w := benchWriter(b, n.Node.NS)
			wish := nftables.Wish{Table: &changes.Table{Services: services}, NodeAddresses: []netip.Addr{testnet.NodeIP}}
			if _, err := w.Set(wish); err != nil {
				b.Fatal(err)
			}
			even, odd := *services[5000], *services[5000]
			odd.Endpoints = append([]changes.Endpoint(nil), odd.Endpoints...)
			c.edit(&even, false)
			c.edit(&odd, true)
			i := 0
			for b.Loop() {
				now := append([]*changes.Service(nil), services...)
				now[5000] = &even
				if i++; i%2 == 1 {
					now[5000] = &odd
				}
				wish.Table = &changes.Table{Services: now}
				if stats, err := w.Set(wish); err != nil || stats.Repaired || stats.Elements == 0 {
					b.Fatalf("got %+v, %v", stats, err)
				}
			}
		})
	}
}

// A look at 10,000 services that nobody touched, and one after somebody changed
// another table.
func BenchmarkVerify(b *testing.B) {
	for _, touched := range []bool{false, true} {
		b.Run(fmt.Sprintf("others at work %v", touched), func(b *testing.B) {
			n := emptyNode(b)
			w := benchWriter(b, n.Node.NS)
			if _, err := w.Set(nftables.Wish{Table: &changes.Table{Services: many(10_000)}}); err != nil {
				b.Fatal(err)
			}
			other := nftables.New(nftables.Config{V6: true, MasqueradeBit: 14}, nfconn.New(int(n.Node.NS)), zap.NewNop())
			for b.Loop() {
				if touched {
					if err := other.Remove(); err != nil {
						b.Fatal(err)
					}
				}
				if stats, err := w.Verify(); err != nil || stats.Repaired {
					b.Fatalf("got %+v, %v", stats, err)
				}
			}
		})
	}
}
