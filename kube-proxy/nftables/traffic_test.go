package nftables_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/testnet"
)

func TestEndpointsShareTheCalls(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 3)
		w.set(t, w.service(changes.TCP, w.Pods...), w.service(changes.UDP, w.Pods...))
		for _, c := range []struct {
			name string
			from testnet.Place
			to   netip.AddrPort
		}{
			{"a pod calls the cluster IP", w.Pods[0], w.clusterAt},
			{"the node calls the cluster IP", w.Node, w.clusterAt},
			{"a host outside calls the cluster IP", w.Host, w.clusterAt},
			{"a pod calls the node port", w.Pods[0], w.nodeAt},
			{"the node calls its own node port", w.Node, w.nodeAt},
			{"a host outside calls the node port", w.Host, w.nodeAt},
		} {
			for _, network := range []string{"tcp", "udp"} {
				t.Run(c.name+" over "+network, func(t *testing.T) {
					// With 60 calls each endpoint is left out once in 10^10 runs.
					if got := answers(t, c.from, network, c.to, 60); len(got) != 3 {
						t.Errorf("not every endpoint answered: %v", got)
					}
				})
			}
		}
	})
}

func TestSpreadIsEven(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 4)
		w.set(t, w.service(changes.UDP, w.Pods...))
		const calls = 800
		got := answers(t, w.Host, "udp", w.clusterAt, calls)
		for _, p := range w.Pods {
			// 200 expected, standard deviation 12: beyond 7 of them something is wrong.
			if n := got[p.Name]; n < 114 || n > 286 {
				t.Errorf("%s answered %d of %d: %v", p.Name, n, calls, got)
			}
		}
	})
}

func TestWhoIsMasqueraded(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 2)
		only := w.Pods[1]
		w.Host.Serve(t, servePort)
		external := netip.AddrPortFrom(w.hostIP, servePort)
		w.set(t, w.service(changes.TCP, only))
		for _, c := range []struct {
			name string
			from testnet.Place
			to   netip.AddrPort
			want netip.Addr
		}{
			{"a pod keeps its address", w.Pods[0], w.clusterAt, w.Pods[0].Of(v6)},
			{"a pod that reaches itself does not", only, w.clusterAt, w.podGateway},
			{"nor through a node port", only, w.nodeAt, w.podGateway},
			{"nor does a host outside at the cluster IP", w.Host, w.clusterAt, w.podGateway},
			{"nor at the node port", w.Host, w.nodeAt, w.podGateway},
			{"a pod calls a pod directly", w.Pods[0], w.at(only), w.Pods[0].Of(v6)},
			{"a pod calls the world as the node", w.Pods[0], external, w.nodeIP},
		} {
			t.Run(c.name, func(t *testing.T) {
				a, err := c.from.Call("tcp", c.to)
				if err != nil {
					t.Fatal(err)
				}
				if a.Caller != c.want {
					t.Errorf("seen as %s, want %s", a.Caller, c.want)
				}
			})
		}
	})
}

// Pods on a bridge, as the kubelet makes them: a pod must get its answer from the
// service and not, over the bridge, from its neighbour's own address.
func TestPodsOnABridge(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := serving(t, testnet.NewBridged(t, 3), v6)
		w.set(t, w.service(changes.TCP, w.Pods...), w.service(changes.UDP, w.Pods...))
		for _, from := range []testnet.Place{w.Pods[0], w.Node, w.Host} {
			for _, network := range []string{"tcp", "udp"} {
				for _, to := range []netip.AddrPort{w.clusterAt, w.nodeAt} {
					t.Run(fmt.Sprintf("%s calls %s over %s", from.Name, to, network), func(t *testing.T) {
						if got := answers(t, from, network, to, 60); len(got) != 3 {
							t.Errorf("not every endpoint answered: %v", got)
						}
					})
				}
			}
		}
		t.Run("a neighbour keeps its address", func(t *testing.T) {
			w.set(t, w.service(changes.TCP, w.Pods[1]))
			if a, err := w.Pods[0].Call("tcp", w.clusterAt); err != nil || a.Caller != w.Pods[0].Of(v6) {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	})
}

// The same where the kernel shows rules nothing that stays on a bridge.
func TestPodsOnABridgeThatEscapes(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := serving(t, testnet.NewBridged(t, 3), v6)
		w.Node.Do(t, func() error {
			for _, f := range []string{"iptables", "ip6tables"} {
				err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+f, []byte("0"), 0o644)
				if err != nil && !errors.Is(err, os.ErrNotExist) { // such a kernel
					return err
				}
			}
			return nil
		})
		escaping := w.config()
		escaping.MasqueradeNeighbours = true
		w.writer = newWriterFor(t, w.Net, escaping)
		w.set(t, w.service(changes.TCP, w.Pods...), w.service(changes.UDP, w.Pods...))
		for _, network := range []string{"tcp", "udp"} {
			for _, to := range []netip.AddrPort{w.clusterAt, w.nodeAt} {
				if got := answers(t, w.Pods[0], network, to, 60); len(got) != 3 {
					t.Errorf("%s %s: not every endpoint answered: %v", network, to, got)
				}
			}
		}
		direct := w.at(w.Pods[1])
		if a, err := w.Pods[0].Call("tcp", direct); err != nil || a.Caller != w.Pods[0].Of(v6) {
			t.Errorf("a direct call: %+v, %v", a, err)
		}
	})
}

// The kernel is asked to show bridged packets where it can.
func TestBridgesAreShown(t *testing.T) {
	w := testnet.New(t, 0)
	files := []string{"/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"}
	w.Node.Do(t, func() error {
		missing := false
		for _, file := range files {
			err := os.WriteFile(file, []byte("0"), 0o644)
			missing = errors.Is(err, os.ErrNotExist)
			if err != nil && !missing {
				return err
			}
		}
		escape, err := nftables.BridgesEscape()
		if err != nil || escape != missing {
			return fmt.Errorf("got %v, %w", escape, err)
		}
		for _, file := range files {
			if now, err := os.ReadFile(file); !missing && string(now) != "1\n" {
				return fmt.Errorf("%s was left at %q, %w", file, now, err)
			}
		}
		return nil
	})
}

// A packet of no connection, here a reset out of the blue, does not leave a pod;
// one that opens a connection does, so that is not for want of a way.
func TestStrayPacketsStayBehind(t *testing.T) {
	w := newWorld(t, 1)
	w.Host.Serve(t, servePort)
	pod, to := w.Pods[0], netip.AddrPortFrom(testnet.HostIP, servePort)

	var ear net.PacketConn
	w.Host.Do(t, func() (err error) {
		ear, err = net.ListenPacket("ip4:tcp", testnet.HostIP.String())
		return err
	})
	defer ear.Close()
	stray := func(port uint16) {
		t.Helper()
		pod.Do(t, func() error {
			c, err := net.Dial("ip4:tcp", testnet.HostIP.String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(tcpReset(pod.IP, testnet.HostIP, port, servePort))
			return err
		})
	}
	// heard tells whether a packet from that port came before the call after it.
	heard := func(port uint16) bool {
		t.Helper()
		if _, err := pod.Call("tcp", to); err != nil {
			t.Fatal(err)
		}
		if err := ear.SetReadDeadline(time.Now().Add(testnet.Patience)); err != nil {
			t.Fatal(err)
		}
		came := false
		for buf := make([]byte, 200); ; {
			n, _, err := ear.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			if n < 20 {
				continue
			}
			came = came || binary.BigEndian.Uint16(buf) == port
			const syn = 2
			if buf[13] == syn {
				return came
			}
		}
	}
	stray(1111)
	if !heard(1111) {
		t.Fatal("without rules the stray packet was not heard: this test hears nothing")
	}
	w.set(t)
	stray(2222)
	if heard(2222) {
		t.Error("the stray packet left the pod")
	}
}

// tcpReset is a TCP header with the reset bit.
func tcpReset(src, dst netip.Addr, from, to uint16) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12], b[13] = 5<<4, 4
	sum := uint32(6 + len(b))
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum))
	return b
}

func TestRefusals(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 1)
		w.set(t, w.service(changes.TCP), w.service(changes.UDP))
		elsewhere := netip.AddrPortFrom(w.cluster, 81)
		for _, c := range []struct {
			name    string
			from    testnet.Place
			network string
			to      netip.AddrPort
		}{
			{"no endpoints, from a pod", w.Pods[0], "tcp", w.clusterAt},
			{"no endpoints, udp", w.Pods[0], "udp", w.clusterAt},
			{"no endpoints, from the node", w.Node, "tcp", w.clusterAt},
			{"no endpoints, udp from the node", w.Node, "udp", w.clusterAt},
			{"no endpoints, from outside", w.Host, "tcp", w.clusterAt},
			{"no endpoints, node port", w.Host, "tcp", w.nodeAt},
			{"no endpoints, node port over udp", w.Host, "udp", w.nodeAt},
			{"no endpoints, the node's own node port", w.Node, "tcp", w.nodeAt},
			{"no such port", w.Pods[0], "tcp", elsewhere},
			{"no such port, udp", w.Pods[0], "udp", elsewhere},
		} {
			t.Run(c.name, func(t *testing.T) {
				if _, err := c.from.Call(c.network, c.to); !testnet.Refused(err) {
					t.Errorf("got %v, want a refusal", err)
				}
			})
		}
	})
}

func TestAffinity(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 4)
		s := w.service(changes.TCP, w.Pods...)
		s.Affinity = time.Hour
		w.set(t, s)
		if out := w.nft(t, "list", "table", w.table, "kube-proxy"); !strings.Contains(out, "a known client returns") {
			t.Errorf("the nft tool lists\n%s", out)
		}

		for _, c := range []struct {
			name string
			from testnet.Place
			to   netip.AddrPort
		}{
			{"host outside, cluster IP", w.Host, w.clusterAt},
			{"host outside, node port", w.Host, w.nodeAt},
			{"pod, cluster IP", w.Pods[0], w.clusterAt},
		} {
			t.Run(c.name, func(t *testing.T) {
				if got := answers(t, c.from, "tcp", c.to, 20); len(got) != 1 {
					t.Errorf("one client, several endpoints: %v", got)
				}
			})
		}

		t.Run("the endpoint goes", func(t *testing.T) {
			first, err := w.Host.Call("tcp", w.clusterAt)
			if err != nil {
				t.Fatal(err)
			}
			var left []testnet.Place
			for _, p := range w.Pods {
				if p.Name != first.From {
					left = append(left, p)
				}
			}
			less := w.service(changes.TCP, left...)
			less.Affinity = time.Hour
			w.set(t, less)
			got := answers(t, w.Host, "tcp", w.clusterAt, 20)
			if len(got) != 1 || got[first.From] != 0 {
				t.Errorf("want one other endpoint than %s, got %v", first.From, got)
			}
		})
	})
}

func TestLocalPolicy(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 2)
		here, there := w.Pods[0], w.Pods[1] // «there» stands for a pod of another node
		local := w.service(changes.TCP, w.Pods...)
		local.Endpoints[1].Local = false
		local.LocalEndpoints = local.Endpoints[:1]
		local.ExternalLocal = true
		w.set(t, local)

		t.Run("from outside only this node's endpoint answers, and sees the caller", func(t *testing.T) {
			for range 20 {
				a, err := w.Host.Call("tcp", w.nodeAt)
				if err != nil {
					t.Fatal(err)
				}
				if a.From != here.Name || a.Caller != w.hostIP {
					t.Fatalf("got %+v", a)
				}
			}
		})
		t.Run("a pod may go anywhere", func(t *testing.T) {
			if got := answers(t, here, "tcp", w.nodeAt, 60); got[there.Name] == 0 || got[here.Name] == 0 {
				t.Errorf("got %v", got)
			}
		})
		t.Run("the cluster IP is not concerned", func(t *testing.T) {
			if got := answers(t, w.Host, "tcp", w.clusterAt, 60); got[there.Name] == 0 || got[here.Name] == 0 {
				t.Errorf("got %v", got)
			}
		})

		inside := w.service(changes.TCP, w.Pods...)
		inside.LocalEndpoints = inside.Endpoints[:1]
		inside.InternalLocal = true
		w.set(t, inside)
		t.Run("internal: only this node's endpoint answers the cluster IP", func(t *testing.T) {
			if got := answers(t, there, "tcp", w.clusterAt, 20); len(got) != 1 || got[here.Name] == 0 {
				t.Errorf("got %v", got)
			}
		})
	})
}

// Endpoints are replaced, one and then all, while calls run: none may fail.
func TestReplacingEndpointsFailsNoCall(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 6)
		w.set(t, w.service(changes.TCP, w.Pods[:3]...))

		stop := make(chan struct{})
		failed := make(chan error, 2)
		for _, from := range []testnet.Place{w.Host, w.Pods[5]} {
			go func() {
				calls := 0
				for {
					select {
					case <-stop:
						failed <- nil
						return
					default:
					}
					if _, err := from.Call("tcp", w.clusterAt); err != nil {
						failed <- fmt.Errorf("call %d from %s: %w", calls, from.Name, err)
						return
					}
					calls++
				}
			}()
		}
		for i := range 200 {
			n := 1 + i%5
			var pods []testnet.Place
			for j := range n {
				pods = append(pods, w.Pods[(i+j)%6])
			}
			w.set(t, w.service(changes.TCP, pods...))
		}
		close(stop)
		for range 2 {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})
}
