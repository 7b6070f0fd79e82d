package nftables_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/testnet"
)

// A resolver sends two questions from one socket at once, on two processors: both
// must go the same way. Were the endpoint, or the port of a masqueraded caller,
// chosen at random, the kernel would find two connections of one name. It drops the
// second, or since 5.7 it remembers the second's way back for one second only, and
// an answer that takes longer is lost.
func TestTwoDatagramsAtOnce(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 6)
		s := w.service(changes.UDP, w.Pods...)
		sticky := w.service(changes.UDP, w.Pods...)
		sticky.Name.Service, sticky.Affinity = "sticky", time.Hour
		sticky.ClusterIP, sticky.NodePort = w.cluster.Next(), 0
		w.set(t, s, sticky)
		w.dawdle(t)
		for _, c := range []struct {
			name string
			from testnet.Place
			to   netip.AddrPort
		}{
			{"from a pod", w.Pods[0], w.clusterAt},
			{"from a pod, with affinity", w.Pods[1], netip.AddrPortFrom(sticky.ClusterIP, 80)},
			{"from the node", w.Node, w.clusterAt},
			{"from outside to the node port", w.Host, w.nodeAt},
		} {
			t.Run(c.name, func(t *testing.T) { twoAtOnce(t, c.from, c.to, 300) })
		}
	})
}

// dawdle makes a packet's way through the node longer, so that two are on it at
// the same time: many rules between the choice of an endpoint and the place where
// the kernel notes the connection.
func (w *world) dawdle(t *testing.T) {
	t.Helper()
	rules := "table inet slow {\n"
	for _, hook := range []string{"forward", "output"} {
		rules += "chain " + hook + " { type filter hook " + hook + " priority 10;\n" + strings.Repeat("meta mark 0x1234 counter\n", 3000) + "}\n"
	}
	file := filepath.Join(t.TempDir(), "slow.nft")
	if err := os.WriteFile(file, []byte(rules+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.nft(t, "-f", file)
}

// twoAtOnce sends two datagrams from each of many sockets and wants two answers.
func twoAtOnce(t *testing.T, from testnet.Place, to netip.AddrPort, sockets int) {
	var start, sent [2]chan *net.UDPConn
	for i := range 2 {
		start[i], sent[i] = make(chan *net.UDPConn), make(chan *net.UDPConn)
	}
	var line atomic.Int64 // both senders leave it at the same moment
	failed := make(chan error, 2)
	for i := range 2 {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for round := int64(1); ; round++ {
				c, more := <-start[i]
				if !more {
					break
				}
				line.Add(1)
				for line.Load() < 2*round { // spinning: to be woken takes longer than to send
				}
				if err := send(c); err != nil {
					failed <- err
					return
				}
				sent[i] <- c
			}
			failed <- nil
		}()
	}
	lost, apart := 0, 0
	for range sockets {
		conn, err := from.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		c := conn.(*net.UDPConn)
		start[0] <- c
		start[1] <- c
		<-sent[0]
		<-sent[1]
		var heard []testnet.Answer
		for range 2 {
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			a, err := testnet.Hear(c)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				lost++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			heard = append(heard, a)
		}
		if len(heard) == 2 && heard[0] != heard[1] {
			apart++
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(start[0])
	close(start[1])
	for range 2 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d datagrams got no answer", lost, 2*sockets)
	}
	// One that is under way while the other is just being noted finds its port taken
	// by it, and gets another. By chance alone most sockets' datagrams would go two ways.
	if apart > sockets/20 {
		t.Errorf("the datagrams of %d of %d sockets went two ways", apart, sockets)
	}
}

// send is Write without its lock, which would send one datagram after the other.
func send(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = unix.Send(int(fd), []byte("?"), 0) })
	return errors.Join(err, sent)
}

// A client's second socket may reach another endpoint, its own is never left.
func TestDatagramsOfOneSocketStayTogether(t *testing.T) {
	eachFamily(t, func(t *testing.T, v6 bool) {
		w := newWorldOf(t, v6, 4)
		w.set(t, w.service(changes.UDP, w.Pods...))
		seen := map[string]bool{}
		for port := 20000; port < 20040; port++ {
			var first string
			for try := range 3 {
				a, err := askFrom(w.Pods[0], uint16(port), w.clusterAt)
				if err != nil {
					t.Fatal(err)
				}
				if try == 0 {
					first = a.From
				} else if a.From != first {
					t.Fatalf("port %d: first %s answered, then %s", port, first, a.From)
				}
				w.Node.ForgetFlows(t)
			}
			seen[first] = true
		}
		if len(seen) != 4 {
			t.Errorf("forty sockets reached %v", seen)
		}
	})
}

// askFrom asks over UDP from a port of the caller's choice.
func askFrom(p testnet.Place, port uint16, to netip.AddrPort) (a testnet.Answer, err error) {
	var c *net.UDPConn
	err = p.Run(func() (err error) {
		c, err = net.DialUDP("udp", &net.UDPAddr{Port: int(port)}, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return a, err
	}
	defer c.Close()
	return testnet.Ask(c)
}
