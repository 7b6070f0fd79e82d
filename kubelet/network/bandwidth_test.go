package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
)

// TestBandwidth: a pod that may send and receive little loses most of a flood; what may pass is in the kernel as it was asked for. Nothing of it stays.
func TestBandwidth(t *testing.T) {
	ctx := context.Background()
	const rate = 1_000_000 // bits a second
	bounded, free := newPod(t), newPod(t)
	inNamespace(t, func() {
		n := New(Config{}, zaptest.NewLogger(t))
		if err := n.SetPodCIDRs(ctx, prefixes("10.244.7.0/24")); err != nil {
			t.Error(err)
		}
		var ips []netip.Addr
		for _, p := range []Pod{{Key: "bounded", NetNS: bounded.path, Bandwidth: Bandwidth{Ingress: rate, Egress: rate}}, {Key: "free", NetNS: free.path}} {
			for range 2 { // to set up again changes nothing
				at, err := n.Setup(ctx, p)
				if err != nil {
					t.Error(err)
					return
				}
				if ips = at.Addresses(); p.Key == "bounded" {
					checkBucket(t, hostLink("bounded"), rate)
					checkBucket(t, shaperLink("bounded"), rate)
				}
			}
		}
		to := map[*pod]netip.Addr{bounded: netip.MustParseAddr("10.244.7.2"), free: ips[0]}
		for name, way := range map[string][2]*pod{"receives": {free, bounded}, "sends": {bounded, free}} {
			// Three megabytes would take 24 seconds. What may pass at once, and what waits, are parts of a second's worth.
			got, took := flood(t, way[0], way[1], to[way[1]], 3<<20)
			if may := (took + time.Second).Seconds() * rate / 8 * 1.5; got == 0 || float64(got) > may {
				t.Errorf("a pod that is bounded %s %d bytes of a flood in %s", name, got, took)
			}
		}
		if err := n.Teardown(ctx, bounded.path, "bounded"); err != nil {
			t.Error(err)
		}
		if got := links(t); len(got) != 1 {
			t.Errorf("left: %v", got)
		}
	})
}

func checkBucket(t *testing.T, link string, rate uint64) {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err != nil {
		t.Error(err)
		return
	}
	list, err := netlink.QdiscList(l)
	if err != nil {
		t.Error(err)
	}
	for _, q := range list {
		if tbf, ok := q.(*netlink.Tbf); ok {
			if tbf.Rate != rate/8 || tbf.Limit == 0 || tbf.Buffer == 0 {
				t.Errorf("%s: %+v", link, tbf)
			}
			return
		}
	}
	t.Errorf("%s has no bucket: %v", link, list)
}

// flood sends packets without pause and returns how many bytes of them arrived, until none came for a second, and how long that took.
func flood(t *testing.T, from, to *pod, ip netip.Addr, size int) (got int, took time.Duration) {
	t.Helper()
	begun := time.Now()
	var in net.PacketConn
	var err error
	to.do(func() { in, err = net.ListenPacket("udp", netip.AddrPortFrom(ip, 7).String()) })
	if err != nil {
		t.Error(err)
		return 0, 0
	}
	defer in.Close()
	if err := in.(*net.UDPConn).SetReadBuffer(8 << 20); err != nil {
		t.Error(err)
	}
	from.do(func() {
		c, err := net.Dial("udp", netip.AddrPortFrom(ip, 7).String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		packet := make([]byte, 1000)
		for sent := 0; sent < size; sent += len(packet) {
			if _, err := c.Write(packet); err != nil && !errors.Is(err, unix.ENOBUFS) {
				t.Error(err)
				return
			}
		}
	})
	packet := make([]byte, 2000)
	for {
		in.SetReadDeadline(time.Now().Add(time.Second))
		n, _, err := in.ReadFrom(packet)
		if err != nil {
			return got, time.Since(begun)
		}
		got += n
	}
}

// TestBandwidthWithoutShaper: where the kernel cannot bound what arrives on a link, the pod's own end is bounded.
func TestBandwidthWithoutShaper(t *testing.T) {
	p := newPod(t)
	inNamespace(t, func() {
		n := New(Config{}, zaptest.NewLogger(t))
		if err := n.SetPodCIDRs(context.Background(), prefixes("10.244.7.0/24")); err != nil {
			t.Error(err)
		}
		n.addLink = func(netlink.Link) error { return unix.EOPNOTSUPP }
		if _, err := n.Setup(context.Background(), Pod{Key: "a", NetNS: p.path, Bandwidth: Bandwidth{Egress: 1_000_000}}); err != nil {
			t.Error(err)
		}
		p.do(func() { checkBucket(t, podLink, 1_000_000) })
	})
}
