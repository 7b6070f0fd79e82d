package policy

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/testnet"
)

const denyAll = `{podSelector: {}, policyTypes: [Ingress, Egress]}`

// echo answers every line on one connection after the other.
func echo(t *testing.T, at testnet.Place, port int) {
	var ln net.Listener
	at.Do(t, func() (err error) {
		ln, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
}

func say(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(testnet.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(what)); err != nil {
		t.Fatalf("writing: %v", err)
	}
	buf := make([]byte, len(what))
	if _, err := c.Read(buf); err != nil || string(buf) != what {
		t.Fatalf("heard %q, %v", buf, err)
	}
}

// services sets the rules of services, on the same connection.
func (m *matrix) services(t *testing.T, all ...*changes.Service) {
	t.Helper()
	w := nftables.New(nftables.Config{PodCIDR: testnet.PodCIDR, MasqueradeEgress: true, MasqueradeBit: 14}, m.conn, zaptest.NewLogger(t))
	if _, err := w.Set(nftables.Wish{Table: changes.NewTable(all...), NodeAddresses: []netip.Addr{testnet.NodeIP}}); err != nil {
		t.Fatal(err)
	}
}

// What was open before a policy came stays open; what is new is dropped.
func TestEstablishedFlowsAreKept(t *testing.T) {
	m := newMatrix(t)
	m.services(t) // as on every node; they have the kernel keep its connection table
	m.write(t)
	a, b := m.places["x/a"], m.places["y/b"]
	echo(t, b, 7)
	open, err := a.Dial("tcp", netip.AddrPortFrom(b.IP, 7))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	say(t, open, "before")
	udp, err := a.Dial("udp", netip.AddrPortFrom(b.IP, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := testnet.Ask(udp); err != nil {
		t.Fatal(err)
	}

	for _, ns := range []string{"x", "y", "z"} {
		m.apply(t, ns+"/deny", denyAll)
	}
	m.write(t)
	if err := a.HearsNothing(netip.AddrPortFrom(b.IP, 7)); err != nil {
		t.Errorf("a new connection: %v", err)
	}
	say(t, open, "after")
	if _, err := testnet.Ask(udp); err != nil {
		t.Errorf("the UDP flow: %v", err)
	}
	m.apply(t, "y/deny", `{podSelector: {matchLabels: {pod: b}}}`)
	m.label("x/a", map[string]string{"pod": "other"})
	m.write(t)
	say(t, open, "and later")
}

// Through a service the backend is judged, and it sees the caller's own address.
func TestServicesAreJudgedByTheBackend(t *testing.T) {
	m := newMatrix(t)
	at := netip.MustParseAddrPort("10.96.0.10:8000")
	m.services(t, &changes.Service{
		Name: changes.Name{Namespace: "x", Service: "a"}, Protocol: changes.TCP, ClusterIP: at.Addr(), Port: at.Port(), NodePort: 30080,
		Endpoints: []changes.Endpoint{{Addr: netip.AddrPortFrom(m.places["x/a"].IP, 80), Local: true}},
	})
	m.apply(t, "x/p", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}, {ipBlock: {cidr: HOST/32}}], ports: [{port: 80}]}]}`)
	m.write(t)
	nodePort := netip.AddrPortFrom(testnet.NodeIP, 30080)
	for _, c := range []struct {
		from string
		to   netip.AddrPort
		ok   bool
	}{
		{"x/b", at, true}, {"x/b", nodePort, true}, {"y/b", at, false}, {"y/b", nodePort, false},
		{"host", nodePort, true}, {"host", at, true}, {"node", at, true},
		{"x/a", at, true}, {"x/a", nodePort, true}, // a pod reaches itself
	} {
		from := m.places[c.from]
		if !c.ok {
			if err := from.HearsNothing(c.to); err != nil {
				t.Errorf("%s calls %s: %v", c.from, c.to, err)
			}
			continue
		}
		if _, err := from.Call("tcp", c.to); err != nil {
			t.Errorf("%s calls %s: %v", c.from, c.to, err)
		}
	}
}

// A pod of this node that the API has not told of yet is kept apart, if there is
// any policy; a pod that is known and free is not.
func TestUnknownPodsAreHeldBack(t *testing.T) {
	m := newMatrix(t)
	stranger := m.pods["z/c"]
	delete(m.pods, "z/c")
	m.news.Pods[Name{"z", "c"}] = nil
	m.apply(t, "x/p", `{podSelector: {matchLabels: {pod: nobody}}}`)
	m.write(t)
	for _, v6 := range []bool{false, true} {
		m.check(t, []probe{
			{"z/c", "z/b", "80/tcp", v6}, {"z/b", "z/c", "80/tcp", v6}, {"z/c", "host", "80/tcp", v6}, {"z/c", "node", "80/udp", v6}, {"host", "z/c", "80/tcp", v6},
			{"node", "z/c", "80/tcp", v6}, {"z/b", "x/a", "80/tcp", v6}, {"z/b", "host", "80/tcp", v6}, {"host", "z/b", "80/udp", v6},
		}, func(from, to, port string) bool { return from == "node" || from != "z/c" && to != "z/c" })
	}

	// It was heard of, but not where it is, and no policy isolates it: it need not wait.
	expected := stranger.DeepCopy()
	expected.Status.PodIPs = nil
	m.setPod(expected)
	m.write(t)
	m.check(t, []probe{{"z/c", "z/b", "80/tcp", false}, {"z/b", "z/c", "80/tcp", true}, {"z/c", "host", "80/tcp", false}}, all)
	// For one that is isolated, all that are not known wait, in the direction that it is isolated for.
	m.apply(t, "z/p", `{podSelector: {matchLabels: {pod: c}}, ingress: [{}]}`)
	m.write(t)
	m.check(t, []probe{{"z/c", "z/b", "80/tcp", false}, {"z/b", "z/c", "80/tcp", true}, {"z/c", "host", "80/tcp", false}},
		func(from, to, port string) bool { return to != "z/c" })
	m.setPod(stranger)
	m.write(t)
	m.check(t, []probe{{"z/c", "z/b", "80/tcp", false}, {"z/b", "z/c", "80/tcp", true}, {"z/c", "host", "80/tcp", false}}, all)
	m.news.Local = nil
	m.news.Pods[Name{"z", "c"}] = nil
	m.write(t)
	m.check(t, []probe{{"z/c", "z/b", "80/tcp", false}, {"z/c", "host", "80/tcp", true}}, all)
}

// While everything changes around them, calls that are allowed all succeed and
// calls that are denied all fail.
func TestNoGapWhileRulesChange(t *testing.T) {
	m := newMatrix(t)
	// What stays true: x/b may call x/a, nobody may call x/c.
	m.apply(t, "x/c", `{podSelector: {matchLabels: {pod: c}}}`)
	m.apply(t, "x/a", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 75, endPort: 85}]}]}`)
	m.apply(t, "x/host", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: HOST/32}}]}]}`)
	m.write(t)

	stop := make(chan struct{})
	failed := make(chan error, 3)
	enough := make(chan struct{}, 3) // each loop has made some calls, or has failed
	loop := func(f func() error) {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				err := f()
				if err != nil || n == 4 {
					enough <- struct{}{}
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	a, c := m.places["x/a"], m.places["x/c"]
	loop(func() error {
		_, err := m.places["x/b"].Call("tcp", netip.AddrPortFrom(a.IP, 80))
		return err
	})
	loop(func() error {
		_, err := m.places["host"].Call("tcp", netip.AddrPortFrom(a.IP, 81))
		return err
	})
	loop(func() error { return m.places["x/b"].HearsNothing(netip.AddrPortFrom(c.IP6, 80)) })

	clock := time.Now()
	for i, met := 0, 0; i < 150 || met < 3; i++ {
		select {
		case <-enough:
			met++
		default:
		}
		m.writer.rules.clock = func() time.Time { return clock.Add(time.Duration(i) * time.Minute) } // so that what has rested goes
		switch i % 6 {
		case 0: // others' peers, which make x/b somebody else
			m.apply(t, "y/p", fmt.Sprintf(`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}], ports: [{port: %d}]}]}`, 1000+i%1000))
		case 1: // the policy itself, with another range
			m.apply(t, "x/a", fmt.Sprintf(`{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 75, endPort: %d}]}]}`, 85+i%1000))
		case 2: // blocks, which cut the space anew
			m.apply(t, "z/p", fmt.Sprintf(`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 198.18.0.0/16, except: [198.18.%d.0/24]}}]}]}`, 8+i%200))
		case 3: // labels of the pods themselves
			m.label("x/b", map[string]string{"pod": "b", "turn": fmt.Sprint(i)})
			m.label("x/a", map[string]string{"pod": "a", "turn": fmt.Sprint(i)})
		case 4: // more policies of the same pods
			m.apply(t, "x/more", fmt.Sprintf(`{podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, c]}]}, ingress: [{from: [{podSelector: {matchLabels: {pod: none}}}], ports: [{port: %d, protocol: UDP}]}]}`, 1+i%1000))
		case 5:
			m.delete("x/more")
			m.delete("y/p")
		}
		if stats := m.write(t); stats.Repaired {
			t.Errorf("turn %d: %+v", i, stats)
		}
	}
	close(stop)
	for range 3 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

func TestTamperingIsRepaired(t *testing.T) {
	for _, c := range []struct {
		name   string
		tamper []string
	}{
		{"table deleted", []string{"delete table inet network-policy"}},
		{"table flushed", []string{"flush table inet network-policy"}},
		{"chain flushed", []string{"flush chain inet network-policy deny"}},
		{"group's chain flushed", []string{"flush chain inet network-policy in4-1"}},
		{"rule inserted", []string{"insert rule inet network-policy forward accept"}},
		{"chain added", []string{"add chain inet network-policy mine { type filter hook input priority 0; policy drop; }"}},
		{"map flushed", []string{"flush map inet network-policy receivers4"}},
		{"rights flushed", []string{"flush map inet network-policy rights"}},
		{"blocks flushed", []string{"flush map inet network-policy blocks-a-4", "flush map inet network-policy blocks-b-4"}},
		{"ranges flushed", []string{"flush set inet network-policy port-ranges"}},
		{"element added", []string{"add element inet network-policy peers4 { 198.18.7.2 : 0:1 }"}},
		{"set added", []string{"add set inet network-policy mine { type ipv4_addr; }"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMatrix(t)
			m.apply(t, "x/p", `{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 79, endPort: 80}]}, {from: [{ipBlock: {cidr: HOST/32}}], ports: [{port: 80}]}]}`)
			m.write(t)
			before := m.nft(t, "list", "table", "inet", tableName)
			for _, cmd := range c.tamper {
				m.nft(t, cmd)
			}
			stats, err := m.writer.Verify()
			if err != nil {
				t.Fatalf("verifying: %v", err)
			}
			if !stats.Repaired {
				t.Error("nothing was noticed")
			}
			if after := m.nft(t, "list", "table", "inet", tableName); plainList(after) != plainList(before) {
				t.Errorf("the table is not as it was:\n%s\nwas:\n%s", after, before)
			}
			m.check(t, []probe{{"x/b", "x/a", "80/tcp", false}, {"x/c", "x/a", "80/tcp", false}, {"host", "x/a", "80/tcp", false}, {"node", "x/a", "80/tcp", false}},
				func(from, to, port string) bool { return from != "x/c" })
			if stats, err = m.writer.Verify(); err != nil || stats.Repaired {
				t.Errorf("a second look found something: %+v, %v", stats, err)
			}
		})
	}
}

// plainList is a listing without counters.
func plainList(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if before, after, ok := strings.Cut(line, "counter packets "); ok {
			words := strings.SplitN(after, " ", 4)
			line = before + words[len(words)-1]
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// A new daemon takes over the table of the one before: it finds all numbers
// again, and touches nothing that is right.
func TestTakingOverAnOlderTable(t *testing.T) {
	m := newMatrix(t)
	m.apply(t, "z/p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 1, endPort: 80}, {port: 7}]}]}`)
	m.write(t)
	m.apply(t, "x/p", `{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 79, endPort: 80}]}, {from: [{ipBlock: {cidr: HOST/32}}], ports: [{port: 80}]}]}`)
	m.write(t)
	m.delete("z/p")
	m.write(t)
	all := m.everything()

	m.writer = NewWriter(m.conn, zaptest.NewLogger(t))
	m.news = all
	stats := m.write(t)
	if !stats.Repaired || stats.Elements > 12 {
		t.Errorf("only what the deleted policy left should go: %+v", stats)
	}
	m.check(t, []probe{{"x/b", "x/a", "80/tcp", false}, {"x/c", "x/a", "80/tcp", false}, {"host", "x/a", "80/tcp", false}, {"y/a", "z/a", "80/udp", true}},
		func(from, to, port string) bool { return from != "x/c" && from != "x/b" || to == "z/a" })

	m.writer = NewWriter(m.conn, zaptest.NewLogger(t))
	m.news = all
	if stats := m.write(t); stats.Repaired {
		t.Errorf("what was written is not what is read: %+v", stats)
	}
}

// everything is the news for a Writer that hears of all for the first time.
func (m *matrix) everything() News {
	s := story{cluster: m.cluster}
	s.local = m.news.Local
	return s.everything()
}

// A table of our name that fits nothing is replaced, and nothing slips through.
func TestReplacingAForeignTable(t *testing.T) {
	m := newMatrix(t)
	m.nft(t, `table inet network-policy { chain old { type filter hook forward priority 0; policy drop; }; }`)
	m.apply(t, "x/p", `{podSelector: {matchLabels: {pod: a}}}`)
	if stats := m.write(t); !stats.Repaired {
		t.Error("it was taken for ours")
	}
	m.check(t, []probe{{"x/b", "x/a", "80/tcp", false}, {"x/a", "x/b", "80/tcp", false}}, func(from, to, port string) bool { return to == "x/b" })
}

func TestRemove(t *testing.T) {
	m := newMatrix(t)
	other := nfconn.New(int(m.Node.NS))
	t.Cleanup(other.Close)
	if err := Remove(other); err != nil {
		t.Fatalf("removing what is not there: %v", err)
	}
	m.apply(t, "x/p", denyAll)
	m.write(t)
	if err := Remove(other); err != nil {
		t.Fatal(err)
	}
	if got := m.nft(t, "list", "ruleset"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
	m.apply(t, "x/p", `{podSelector: {matchLabels: {pod: a}}}`) // the kernel refuses the difference: mended at once
	if stats := m.write(t); !stats.Repaired {
		t.Error("want a repair")
	}
	m.check(t, []probe{{"x/b", "x/a", "80/tcp", false}, {"x/a", "x/b", "80/tcp", false}}, func(from, to, port string) bool { return to == "x/b" })
}
