package hostports

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/network"
)

// at is the place of a pod of the test's network.
func at(i int) network.Attachment {
	a := network.Attachment{HostLink: fmt.Sprintf("pod%d", i)}
	for _, ip := range podIPs[i] {
		a.IPs = append(a.IPs, whole(ip))
	}
	return a
}

func pod(i int, ports ...network.HostPort) network.Pod {
	return network.Pod{Key: fmt.Sprintf("uid-%d", i), Namespace: "ns", Name: fmt.Sprintf("pod%d", i), HostPorts: ports}
}

func port(text string, to uint16) network.HostPort { // as 8080/TCP, 127.0.0.1:8080/UDP
	where, proto, _ := strings.Cut(text, "/")
	h := network.HostPort{Protocol: corev1.Protocol(proto), ContainerPort: to}
	if a, err := netip.ParseAddrPort(where); err == nil {
		h.HostIP, h.Port = a.Addr(), a.Port()
	} else if _, err := fmt.Sscan(where, &h.Port); err != nil {
		panic(err)
	}
	return h
}

// TestPackets: who reaches a pod by a host port, and as whom the pod sees the caller.
func TestPackets(t *testing.T) {
	n := newNet(t)
	for _, p := range n.pods {
		p.serve(t, 80)
		p.serve(t, 81)
	}
	n.node.serve(t, 7000) // the node's own
	ports := New(zaptest.NewLogger(t))
	n.node.inside(t, func() error {
		return errors.Join(
			ports.Set(pod(0, port("8080/TCP", 80), port("8080/UDP", 80), port("198.18.7.1:9000/TCP", 80), port("127.0.0.1:9001/TCP", 81)), at(0)),
			ports.Set(pod(1, port("198.18.7.9:9000/TCP", 81), port("198.18.7.1:9000/UDP", 80), port("9001/UDP", 81), port("[fd07::1]:9000/TCP", 80)), at(1)),
		)
	})
	const node4, node6 = "198.18.7.1", "[fd07::1]"
	keeps := func(i int, v6 int) netip.Addr { return podIPs[i][v6] }
	for _, c := range []struct {
		from    place
		network string
		to      string
		by      string // who answers; empty: nobody
		seenAs  netip.Addr
	}{
		{n.host, "tcp", node4 + ":8080", "pod0", hostIPs[0].Addr()},
		{n.host, "udp", node4 + ":8080", "pod0", hostIPs[0].Addr()},
		{n.host, "tcp", "198.18.7.9:8080", "pod0", hostIPs[0].Addr()},
		{n.host, "tcp", node6 + ":8080", "pod0", hostIPs[1].Addr()},
		{n.host, "udp", node6 + ":8080", "pod0", hostIPs[1].Addr()},
		{n.host, "tcp", node4 + ":9000", "pod0", hostIPs[0].Addr()},
		{n.host, "tcp", "198.18.7.9:9000", "pod1", hostIPs[0].Addr()},
		{n.host, "udp", node4 + ":9000", "pod1", hostIPs[0].Addr()},
		{n.host, "tcp", node6 + ":9000", "pod1", hostIPs[1].Addr()},
		{n.host, "tcp", node4 + ":9001", "", netip.Addr{}}, // only by 127.0.0.1
		{n.host, "udp", node4 + ":9001", "pod1", hostIPs[0].Addr()},
		{n.host, "tcp", node4 + ":7000", "node", hostIPs[0].Addr()},
		{n.host, "tcp", node4 + ":7001", "", netip.Addr{}},
		{n.host, "tcp", "10.244.7.2:8080", "", netip.Addr{}}, // not the node's address
		{n.pods[1], "tcp", node4 + ":8080", "pod0", keeps(1, 0)},
		{n.pods[1], "tcp", node6 + ":8080", "pod0", keeps(1, 1)},
		{n.pods[0], "tcp", node4 + ":8080", "pod0", gateways[0]}, // itself: seen as the node
		{n.pods[0], "udp", node4 + ":8080", "pod0", gateways[0]},
		{n.pods[0], "tcp", node6 + ":8080", "pod0", netip.Addr{}},
		{n.node, "tcp", node4 + ":8080", "pod0", gateways[0]},
		{n.node, "tcp", node6 + ":8080", "pod0", netip.Addr{}},
		{n.node, "tcp", "127.0.0.1:8080", "pod0", gateways[0]},
		{n.node, "udp", "127.0.0.1:8080", "pod0", gateways[0]},
		{n.node, "tcp", "127.0.0.1:9001", "pod0", gateways[0]},
		{n.node, "tcp", "127.0.0.1:9000", "", netip.Addr{}},
		{n.node, "tcp", "[::1]:8080", "", netip.Addr{}},
		{n.node, "tcp", "10.244.7.2:80", "pod0", gateways[0]},
	} {
		name := fmt.Sprintf("%s calls %s %s", c.from.name, c.network, c.to)
		a, err := c.from.call(c.network, netip.MustParseAddrPort(c.to))
		switch {
		case c.by == "":
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%s: %+v, %v, want a refusal", name, a, err)
			}
		case err != nil || a.from != c.by || c.seenAs.IsValid() && a.caller != c.seenAs:
			t.Errorf("%s: %+v, %v, want %s, called by %s", name, a, err, c.by, c.seenAs)
		}
	}
	// There is no way from ::1, but one to it.
	var bound net.Conn
	n.node.inside(t, func() (err error) {
		d := net.Dialer{Timeout: patient, LocalAddr: &net.TCPAddr{IP: nodeIPs[1].Addr().AsSlice()}}
		bound, err = d.Dial("tcp", "[::1]:8080")
		return err
	})
	defer bound.Close()
	if a, err := ask(bound); err != nil || a.from != "pod0" {
		t.Errorf("::1 from the node's address: %+v, %v", a, err)
	}
	n.node.inside(t, func() error {
		return errors.Join(ports.Remove("uid-0"), ports.Remove("uid-0"), ports.Remove("nobody"))
	})
	if a, err := n.host.call("tcp", netip.MustParseAddrPort(node4+":8080")); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after the pod went: %+v, %v", a, err)
	}
	if a, err := n.host.call("udp", netip.MustParseAddrPort(node4+":9001")); err != nil || a.from != "pod1" {
		t.Errorf("the other pod: %+v, %v", a, err)
	}
}

// TestServicesComeFirst: an address of a Service is led where kube-proxy says, also while this node answers for it and a pod has that port of the node.
func TestServicesComeFirst(t *testing.T) {
	n := newNet(t)
	for _, p := range n.pods {
		p.serve(t, 80)
	}
	const balancer = "198.18.7.77"
	n.node.inside(t, func() error {
		for _, c := range []string{
			"add table ip services",
			"add chain ip services prerouting { type nat hook prerouting priority dstnat; }",
			"add chain ip services output { type nat hook output priority -100; }",
			"add rule ip services prerouting ip daddr " + balancer + " tcp dport 8080 dnat to 10.244.7.3:80",
			"add rule ip services output ip daddr " + balancer + " tcp dport 8080 dnat to 10.244.7.3:80",
		} {
			if out, err := tool(c); err != nil {
				return fmt.Errorf("%s: %w: %s", c, err, out)
			}
		}
		if out, err := exec.Command("ip", "address", "add", balancer+"/32", "dev", "outside").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return New(zaptest.NewLogger(t)).Set(pod(0, port("8080/TCP", 80)), at(0))
	})
	for _, from := range []place{n.host, n.node} {
		for to, want := range map[string]string{balancer + ":8080": "pod1", "198.18.7.1:8080": "pod0"} {
			if a, err := from.call("tcp", netip.MustParseAddrPort(to)); err != nil || a.from != want {
				t.Errorf("%s calls %s: %+v, %v, want %s", from.name, to, a, err, want)
			}
		}
	}
}

// TestLoopbackIsGuarded: a pod whose link forwards loopback addresses does not reach what listens on the node's.
func TestLoopbackIsGuarded(t *testing.T) {
	n := newNet(t)
	ports := New(zaptest.NewLogger(t))
	n.node.inside(t, func() error { return ports.Set(pod(0, port("8080/TCP", 80)), at(0)) })
	attack := n.pods[0]
	attack.inside(t, func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0o644); err != nil {
			return err
		}
		for _, c := range []string{"addr del 127.0.0.1/8 dev lo", "route add 127.0.0.1/32 via 169.254.1.1 dev eth0 src 10.244.7.2"} {
			if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", c, err, out)
			}
		}
		return nil
	})
	var inner, outer net.PacketConn
	n.node.inside(t, func() (err error) {
		if inner, err = net.ListenPacket("udp4", "127.0.0.1:7000"); err == nil {
			outer, err = net.ListenPacket("udp4", "198.18.7.1:7000")
		}
		return err
	})
	defer inner.Close()
	defer outer.Close()
	reached := func() bool {
		t.Helper()
		for _, to := range []string{"127.0.0.1:7000", "198.18.7.1:7000"} { // packets do not overtake one another
			c, err := attack.dial("udp4", netip.MustParseAddrPort(to))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("?")); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		for _, c := range []net.PacketConn{outer, inner} {
			if err := c.SetReadDeadline(time.Now().Add(patient)); err != nil {
				t.Fatal(err)
			}
			if c == inner {
				if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil { // what has not come by now will not
					t.Fatal(err)
				}
			}
			_, _, err := c.ReadFrom(make([]byte, 8))
			if c == outer && err != nil {
				t.Fatalf("the packet that may arrive: %v", err)
			}
			if c == inner {
				return err == nil
			}
		}
		return false
	}
	if reached() {
		t.Error("a pod reached the node's loopback address")
	}
	n.node.inside(t, func() error {
		out, err := tool("flush", "chain", "ip", tableName, "guard")
		if err != nil {
			t.Log(out)
		}
		return err
	})
	if !reached() {
		t.Error("it is not the guard that held it back: this test shows nothing")
	}
}
