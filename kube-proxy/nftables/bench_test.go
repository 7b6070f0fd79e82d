package nftables_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	wish := nftables.Wish{Table: changes.NewTable(many(10_000)...), NodeAddresses: []netip.Addr{testnet.NodeIP}}
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
			wish := nftables.Wish{Table: changes.NewTable(services...), NodeAddresses: []netip.Addr{testnet.NodeIP}}
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
				wish.Table = changes.NewTable(now...)
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
			if _, err := w.Set(nftables.Wish{Table: changes.NewTable(many(10_000)...)}); err != nil {
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

// The whole way of a change: an EndpointSlice as the watch brings it, until the
// kernel has it. p99 is of the single change.
func BenchmarkSliceToKernel(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("%d services", n), func(b *testing.B) {
			w := benchWriter(b, emptyNode(b).Node.NS)
			table := changes.New("n1", false)
			for i := range n {
				table.SetService(serviceObject(i))
				table.SetSlice(sliceObject(i, 5))
			}
			wish := nftables.Wish{NodeAddresses: []netip.Addr{testnet.NodeIP}}
			wish.Table, _ = table.Take()
			if _, err := w.Set(wish); err != nil {
				b.Fatal(err)
			}
			even, odd := sliceObject(5, 5), sliceObject(5, 4)
			var took []time.Duration
			before := processor(b)
			for b.Loop() {
				began := time.Now()
				if len(took)%2 == 0 {
					table.SetSlice(odd)
				} else {
					table.SetSlice(even)
				}
				wish.Table, _ = table.Take()
				if stats, err := w.Set(wish); err != nil || stats.Repaired || stats.Elements == 0 {
					b.Fatalf("got %+v, %v", stats, err)
				}
				took = append(took, time.Since(began))
			}
			cpu := processor(b) - before
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64((cpu/time.Duration(len(took))).Microseconds())/1000, "cpu-ms/op")
		})
	}
}

// The first sync: 10,000 services × 5 endpoints, from what informers told.
func BenchmarkFirstSync(b *testing.B) {
	var services []*corev1.Service
	var endpoints []*discoveryv1.EndpointSlice
	for i := range 10_000 {
		services, endpoints = append(services, serviceObject(i)), append(endpoints, sliceObject(i, 5))
	}
	n := emptyNode(b)
	var cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		w, table := benchWriter(b, n.Node.NS), changes.New("n1", false)
		for i := range services {
			table.SetService(services[i])
			table.SetSlice(endpoints[i])
		}
		before := processor(b)
		b.StartTimer()
		wish := nftables.Wish{NodeAddresses: []netip.Addr{testnet.NodeIP}}
		wish.Table, _ = table.Take()
		if _, err := w.Set(wish); err != nil {
			b.Fatal(err)
		}
		cpu += processor(b) - before
		b.StopTimer()
		if err := w.Remove(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu.Milliseconds())/float64(b.N), "cpu-ms/op")
}

// processor is how long this process has worked.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func serviceObject(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("s%06d", i)}}
	s.Spec.ClusterIP = netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String()
	s.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
	return s
}

func sliceObject(i, n int) *discoveryv1.EndpointSlice {
	port, node := int32(8080), "n2"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("s%06d-1", i), Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("s%06d", i)}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}},
	}
	for j := range n {
		e := i*5 + j
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, 244, byte(e >> 8), byte(e)}).String()}, NodeName: &node})
	}
	return s
}
