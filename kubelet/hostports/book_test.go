package hostports

import (
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"pilothouse.dev/kubelet/network"
)

func TestWhoMayHoldAPort(t *testing.T) {
	both, v4 := at(1), network.Attachment{IPs: at(1).IPs[:1]}
	for name, c := range map[string]struct {
		held, want string
		at         network.Attachment
		refused    string // as the error names the port
	}{
		"the same":                    {"80/TCP", "80/TCP", both, "80/TCP"},
		"another port":                {"80/TCP", "81/TCP", both, ""},
		"another protocol":            {"80/TCP", "80/UDP", both, ""},
		"sctp is one too":             {"80/SCTP", "80/TCP", both, ""},
		"another address":             {"127.0.0.1:80/TCP", "127.0.0.2:80/TCP", both, ""},
		"the same address":            {"127.0.0.1:80/TCP", "127.0.0.1:80/TCP", both, "127.0.0.1:80/TCP"},
		"all addresses, one is held":  {"127.0.0.1:80/TCP", "80/TCP", both, "127.0.0.1:80/TCP"},
		"one, all are held":           {"80/TCP", "127.0.0.1:80/TCP", both, "80/TCP"},
		"0.0.0.0 is all":              {"0.0.0.0:80/TCP", "80/TCP", v4, "80/TCP"},
		"0.0.0.0 is IPv4's alone":     {"0.0.0.0:80/TCP", "[fd07::1]:80/TCP", both, ""},
		":: is IPv6's alone":          {"[::]:80/TCP", "127.0.0.1:80/TCP", both, ""},
		":: is all of it":             {"[::]:80/TCP", "[fd07::1]:80/TCP", both, "80/TCP"},
		"of the other family":         {"[fd07::1]:80/TCP", "80/TCP", v4, ""},
		"the other family is held":    {"[fd07::1]:80/TCP", "80/TCP", both, "[fd07::1]:80/TCP"},
		"an address it has no way to": {"80/TCP", "[fd07::1]:80/TCP", v4, ""},
	} {
		t.Run(name, func(t *testing.T) {
			held, err := fronts(pod(0, port(c.held, 8080)), at(0))
			if err != nil {
				t.Fatal(err)
			}
			first, err := book{}.with("uid-0", held)
			if err != nil {
				t.Fatal(err)
			}
			before := maps.Clone(first)
			want, err := fronts(pod(1, port(c.want, 8080)), c.at)
			if err != nil {
				t.Fatal(err)
			}
			next, err := first.with("uid-1", want)
			var e *HeldError
			switch {
			case c.refused == "" && (err != nil || len(next) != len(held)+len(want)):
				t.Errorf("got %v, %v", next, err)
			case c.refused != "" && (!errors.As(err, &e) || *e != HeldError{c.refused, "ns/pod0", "uid-0"}):
				t.Errorf("got %v", err)
			}
			if !maps.Equal(first, before) {
				t.Error("the old book was written in")
			}
			// Its own ports are in nobody's way.
			if again, err := first.with("uid-0", held); err != nil || !maps.Equal(again, first) {
				t.Errorf("again: %v, %v", again, err)
			}
		})
	}
}

func TestFrontsOfUnknownProtocol(t *testing.T) {
	if _, err := fronts(pod(0, port("80/ICMP", 80)), at(0)); err == nil || !strings.Contains(err.Error(), `unknown protocol "ICMP"`) {
		t.Errorf("got %v", err)
	}
}

func TestWhichFlowsAreStale(t *testing.T) {
	one := func(where, to string) book {
		if where == "" {
			return book{}
		}
		h := port(where, 0)
		host := h.HostIP
		if !host.IsValid() {
			host = netip.IPv4Unspecified()
		}
		return book{front{host, protocols[h.Protocol], h.Port}: target{to: netip.MustParseAddrPort(to)}}
	}
	own := map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true, netip.MustParseAddr("127.0.0.1"): true}
	for name, c := range map[string]struct {
		was, now    book
		stale, kept string // flows: who was asked, who answers
	}{
		"opened":                {book{}, one("53/UDP", "10.1.0.1:53"), "10.0.0.1:53 10.0.0.1:53, 127.0.0.1:53 127.0.0.1:53", "10.0.0.1:53 10.1.0.1:53, 8.8.8.8:53 8.8.8.8:53, 10.0.0.1:54 10.0.0.1:54"},
		"closed":                {one("53/UDP", "10.1.0.1:53"), book{}, "10.0.0.1:53 10.1.0.1:53", "10.0.0.1:53 10.0.0.1:53, 10.9.0.1:53 10.1.0.1:53"},
		"of one address":        {book{}, one("10.0.0.1:53/UDP", "10.1.0.1:53"), "10.0.0.1:53 10.0.0.1:53", "127.0.0.1:53 127.0.0.1:53"},
		"led elsewhere":         {one("53/UDP", "10.1.0.1:53"), one("53/UDP", "10.1.0.2:53"), "10.0.0.1:53 10.1.0.1:53", "10.0.0.1:53 10.1.0.2:53"},
		"nothing changed":       {one("53/UDP", "10.1.0.1:53"), one("53/UDP", "10.1.0.1:53"), "", "10.0.0.1:53 10.1.0.9:53"},
		"tcp notices by itself": {one("53/TCP", "10.1.0.1:53"), book{}, "", "10.0.0.1:53 10.1.0.1:53"},
	} {
		s := staleOf(c.was, c.now)
		s.own = own
		for text, want := range map[string]bool{c.stale: true, c.kept: false} {
			for flow := range strings.SplitSeq(text, ", ") {
				if asked, answers, ok := strings.Cut(flow, " "); ok && s.match(netip.MustParseAddrPort(asked), netip.MustParseAddrPort(answers)) != want {
					t.Errorf("%s: %s is stale: %v", name, flow, !want)
				}
			}
		}
	}
}

// Whatever the kernel holds is read as what was written.
func FuzzElementsAreReadBack(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte{10, 1, 0, 1}, byte(6), uint16(80), uint16(8080), "uid", "ns/name")
	f.Add(netip.MustParseAddr("fd00::1").AsSlice(), netip.MustParseAddr("fd00::2").AsSlice(), byte(17), uint16(53), uint16(53), "u", "n/"+strings.Repeat("x", 300))
	f.Add([]byte{0, 0, 0, 0}, []byte{10, 1, 0, 1}, byte(132), uint16(1), uint16(65535), "uid", "")
	f.Fuzz(func(t *testing.T, host, to []byte, protocol byte, port, inside uint16, key, name string) {
		from, ok := netip.AddrFromSlice(host)
		dest, ok2 := netip.AddrFromSlice(to)
		if !ok || !ok2 || from.Is4() != dest.Is4() || key == "" || len(key) > 64 || strings.ContainsAny(key, " \x00") || strings.Contains(name, "\x00") {
			t.Skip()
		}
		fam, at, lead := familyOf(from.Is6()), front{from, protocol, port}, target{netip.AddrPortFrom(dest, inside), owner{key, name}}
		found := 0
		for e := range fam.elements(book{at: lead}) {
			gotAt, got, ok := fam.read(e)
			if !ok {
				continue
			}
			found++
			if gotAt != at || got.to != lead.to || got.owner.key != key || !strings.HasPrefix(name, got.owner.name) {
				t.Errorf("%v %v was read as %v %v", at, lead, gotAt, got)
			}
		}
		if found != 1 {
			t.Errorf("%d entries were read", found)
		}
	})
}
