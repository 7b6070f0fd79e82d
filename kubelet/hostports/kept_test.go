package hostports

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
)

func tool(args ...string) (string, error) {
	out, err := exec.Command("nft", args...).CombinedOutput()
	return string(out), err
}

// TestTheKernelRemembers: a restarted kubelet knows from the kernel who holds which port; what is nobody's goes; what was broken by hand is mended;
// and without ports there is no table.
func TestTheKernelRemembers(t *testing.T) {
	n := newNet(t)
	for _, p := range n.pods {
		p.serve(t, 80)
	}
	log := zaptest.NewLogger(t)
	open := func(p *Ports, i int, text string) error {
		return n.node.try(func() error { return p.Set(pod(i, port(text, 80)), at(i)) })
	}
	answers := func(when string, number uint16, want string) {
		t.Helper()
		for _, ip := range nodeIPs {
			a, err := n.host.call("tcp", netip.AddrPortFrom(ip.Addr(), number))
			if want == "" && !errors.Is(err, unix.ECONNREFUSED) || want != "" && (err != nil || a.from != want) {
				t.Errorf("%s: %s port %d: %+v, %v, want %q", when, ip.Addr(), number, a, err, want)
			}
		}
	}
	first := New(log)
	if err := errors.Join(open(first, 0, "8080/TCP"), open(first, 1, "8081/TCP")); err != nil {
		t.Fatal(err)
	}
	answers("at first", 8080, "pod0")

	next := New(log) // the kubelet was restarted
	held := open(next, 1, "198.18.7.1:8080/TCP")
	var e *HeldError
	if !errors.As(held, &e) || *e != (HeldError{"8080/TCP", "ns/pod0", "uid-0"}) {
		t.Errorf("a port that another pod holds: %v", held)
	}
	answers("refused", 8081, "pod1") // it keeps what it had
	n.node.inside(t, func() error { return next.Keep([]string{"uid-1", "uid-7"}) })
	answers("its pod lives no more", 8080, "")
	answers("its pod lives", 8081, "pod1")
	if err := open(next, 1, "8080/TCP"); err != nil {
		t.Error(err)
	}
	answers("of a new wish", 8080, "pod1")
	answers("of an old one", 8081, "")

	for _, harm := range [][]string{
		{"delete", "table", "ip", tableName},
		{"flush", "ruleset"},
		{"flush", "map", "ip", tableName, mapAny},
		{"flush", "chain", "ip6", tableName, chainPorts},
		{"add", "rule", "ip", tableName, chainPorts, "drop"},
		{"add", "chain", "ip", tableName, "more"},
		{"add", "set", "ip6", tableName, "more", "{", "type", "ipv4_addr;", "}"},
		{"add", "element", "ip", tableName, mapAny, "{", "6", ".", "9999", ":", "10.244.7.3", ".", "80", "}"},
	} {
		n.node.inside(t, func() error {
			if out, err := tool(harm...); err != nil {
				t.Errorf("%v: %v: %s", harm, err, out)
			}
			return next.Mend()
		})
		answers(strings.Join(harm, " "), 8080, "pod1")
		answers(strings.Join(harm, " "), 9999, "")
	}
	// Whoever comes first after the harm mends it too, and others' tables are left alone.
	n.node.inside(t, func() error {
		for _, c := range [][]string{{"flush", "ruleset"}, {"add", "table", "ip", "other"}} {
			if out, err := tool(c...); err != nil {
				t.Errorf("%v: %v: %s", c, err, out)
			}
		}
		return next.Set(pod(0, port("8082/TCP", 80)), at(0))
	})
	answers("mended by another's wish", 8080, "pod1")
	answers("that wish", 8082, "pod0")
	n.node.inside(t, func() error { return errors.Join(next.Remove("uid-0"), next.Remove("uid-1")) })
	n.node.inside(t, func() error {
		if out, err := tool("list", "tables"); err != nil || strings.TrimSpace(out) != "table ip other" {
			t.Errorf("without ports: %v, %s", err, out)
		}
		return nil
	})
}

// TestKeepIsNotForgotten: when the kernel refuses to be read or written at the start, the ports of pods that are gone go as soon as it does not.
func TestKeepIsNotForgotten(t *testing.T) {
	powerless := func(f func() error) func() error { // for the rest of the thread's life
		return func() error {
			head, data := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
			if err := unix.Capset(&head, &data[0]); err != nil {
				return err
			}
			if err := f(); err == nil {
				return errors.New("the kernel let it pass: this test shows nothing")
			}
			return nil
		}
	}
	for name, first := range map[string]func(*Ports) error{
		"never read": func(*Ports) error { return nil },
		"read once":  (*Ports).Mend,
	} {
		t.Run(name, func(t *testing.T) {
			n := newNet(t)
			n.pods[0].serve(t, 80)
			n.pods[1].serve(t, 80)
			old, next := New(zaptest.NewLogger(t)), New(zaptest.NewLogger(t))
			n.node.inside(t, func() error {
				return errors.Join(old.Set(pod(0, port("8080/TCP", 80)), at(0)), old.Set(pod(1, port("8081/TCP", 80)), at(1)), first(next))
			})
			n.node.inside(t, powerless(func() error { return next.Keep([]string{"uid-1"}) }))
			n.node.inside(t, next.Mend)
			if a, err := n.host.call("tcp", netip.MustParseAddrPort("198.18.7.1:8080")); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("its pod lives no more: %+v, %v", a, err)
			}
			if a, err := n.host.call("tcp", netip.MustParseAddrPort("198.18.7.1:8081")); err != nil || a.from != "pod1" {
				t.Errorf("its pod lives: %+v, %v", a, err)
			}
			n.node.inside(t, func() error { return next.Set(pod(1, port("8080/TCP", 80)), at(1)) })
		})
	}
}

// TestUDPFlowsAreForgotten: a client that keeps its socket is led to the new holder, and not to the old one.
func TestUDPFlowsAreForgotten(t *testing.T) {
	n := newNet(t)
	for _, p := range append(n.pods, n.node) {
		p.serve(t, 53)
	}
	n.host.serve(t, 53)
	ports := New(zaptest.NewLogger(t))
	c, err := n.host.dial("udp", netip.MustParseAddrPort("198.18.7.1:53"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	through, err := n.pods[0].dial("udp", netip.MustParseAddrPort("198.18.7.2:53")) // passes the node, for the same port elsewhere
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	asks := func(when, want string) {
		t.Helper()
		if a, err := ask(c); err != nil || a.from != want {
			t.Errorf("%s: %+v, %v, want %s", when, a, err, want)
		}
		if a, err := ask(through); err != nil || a.from != "host" {
			t.Errorf("%s: the other flow: %+v, %v", when, a, err)
		}
	}
	asks("the node serves itself", "node")
	n.node.inside(t, func() error { return ports.Set(pod(0, port("53/UDP", 53)), at(0)) })
	asks("a pod has the port", "pod0")
	n.node.inside(t, func() error { return ports.Remove("uid-0") })
	asks("and has it no more", "node")
	n.node.inside(t, func() error { return ports.Set(pod(1, port("198.18.7.1:53/UDP", 53)), at(1)) })
	asks("another has it", "pod1")
	moved := at(1)
	moved.IPs = at(0).IPs
	n.node.inside(t, func() error { return ports.Set(pod(1, port("198.18.7.1:53/UDP", 53)), moved) })
	asks("it was made anew with another address", "pod0")
}

// TestTheWholeTable shows the rules as people see them.
func TestTheWholeTable(t *testing.T) {
	n := newNet(t)
	ports := New(zaptest.NewLogger(t))
	n.node.inside(t, func() error {
		return errors.Join(ports.Set(pod(0, port("8080/TCP", 80), port("8080/SCTP", 80)), at(0)), ports.Set(pod(1, port("198.18.7.1:53/UDP", 5353)), at(1)))
	})
	var got string
	n.node.inside(t, func() (err error) {
		got, err = tool("list", "ruleset")
		return err
	})
	got = elementList.ReplaceAllStringFunc(got, func(list string) string { // they stand in no order
		es := strings.Split(strings.Trim(strings.TrimPrefix(list, "elements = "), "{}"), ",")
		for i, e := range es {
			es[i] = "\n\t\t\t" + strings.Join(strings.Fields(e), " ")
		}
		slices.Sort(es)
		return "elements = {" + strings.Join(es, "") + "\n\t\t}"
	})
	const file = "testdata/table.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not as in %s (rewrite it with -update):\n%s", file, got)
	}
}

var (
	update      = flag.Bool("update", false, "rewrite testdata")
	elementList = regexp.MustCompile(`elements = {[^}]*}`)
)
