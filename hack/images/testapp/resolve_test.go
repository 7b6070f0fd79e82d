package main

import (
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestNamesToTry(t *testing.T) {
	r := resolver{searches: []string{"shop.svc.cluster.local", "cluster.local."}, ndots: 2}
	for name, want := range map[string]string{
		"web":      "web.shop.svc.cluster.local. web.cluster.local. web.",
		"web.shop": "web.shop.shop.svc.cluster.local. web.shop.cluster.local. web.shop.",
		"a.b.c":    "a.b.c. a.b.c.shop.svc.cluster.local. a.b.c.cluster.local.",
		"web.":     "web.",
	} {
		if got := strings.Join(r.names(name), " "); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestReverse(t *testing.T) {
	for address, want := range map[string]string{
		"10.96.0.1": "1.0.96.10.in-addr.arpa.",
		"fd00::1a":  "a.1." + strings.Repeat("0.", 28) + "d.f.ip6.arpa.",
	} {
		if got, err := reverse(address); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", address, got, err, want)
		}
	}
	if got, err := reverse("web"); err == nil {
		t.Errorf("web has the reverse name %q", got)
	}
}

func TestReadResolver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	for text, want := range map[string]string{
		"search a b\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions edns0 ndots:5\n": "",
		"nameserver nobody\n":                        "nobody",
		"nameserver 192.0.2.1\noptions ndots:many\n": "many",
		"search a\n": "names no server",
		"# nothing is told\n\nnameserver\nsearch\n; a b\n": "names no server",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := readResolver(file)
		switch {
		case want != "":
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want an error with %q", text, err, want)
			}
		case err != nil || len(r.servers) != 2 || r.servers[1] != netip.MustParseAddrPort("[2001:db8::1]:53") || r.ndots != 5 || !slices.Equal(r.searches, []string{"a", "b"}):
			t.Errorf("%q: got %+v, %v", text, r, err)
		}
	}
}

// answering is a server on loopback, UDP and TCP, that knows the name web., and is silent about what deaf says.
func answering(t *testing.T, deaf func(dnsmessage.Type) bool) netip.AddrPort {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	answer := func(b []byte) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil || deaf(m.Questions[0].Type) {
			return nil
		}
		q := m.Questions[0]
		m.Response, m.RCode = true, dnsmessage.RCodeNameError
		if q.Name.String() == "web." {
			m.RCode = dnsmessage.RCodeSuccess
			for _, last := range []byte{2, 1} {
				if q.Type == dnsmessage.TypeA {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, last}}})
				}
			}
		}
		packed, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return packed
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			if b := answer(buf[:n]); b != nil {
				udp.WriteTo(b, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			var length [2]byte
			if _, err := io.ReadFull(conn, length[:]); err == nil {
				b := make([]byte, int(length[0])<<8|int(length[1]))
				if _, err := io.ReadFull(conn, b); err == nil {
					b = answer(b)
					conn.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...))
				}
			}
			conn.Close()
		}
	}()
	return tcp.Addr().(*net.TCPAddr).AddrPort()
}

func TestSearch(t *testing.T) {
	server := answering(t, func(dnsmessage.Type) bool { return false })
	r := resolver{servers: []netip.AddrPort{server}, searches: []string{"svc"}, ndots: 5}
	for _, tcp := range []bool{false, true} {
		for name, tt := range map[string]struct {
			kind dnsmessage.Type
			want string
			code dnsmessage.RCode
		}{
			"web":  {dnsmessage.TypeA, "192.0.2.1 192.0.2.2", dnsmessage.RCodeSuccess},
			"web.": {dnsmessage.TypeAAAA, "", dnsmessage.RCodeSuccess},
			"nix":  {dnsmessage.TypeA, "", dnsmessage.RCodeNameError},
		} {
			found, code, err := r.search(t.Context(), name, tt.kind, tcp, 5*time.Second)
			if got := strings.Join(found, " "); err != nil || got != tt.want || code != tt.code {
				t.Errorf("%s: got %q, %v, %v, want %q, %v", name, got, code, err, tt.want, tt.code)
			}
		}
	}
}

func TestLookUpBoth(t *testing.T) {
	if err := lookUpBoth(answering(t, func(dnsmessage.Type) bool { return false }), "web."); err != nil {
		t.Error(err)
	}
	silent := answering(t, func(k dnsmessage.Type) bool { return k == dnsmessage.TypeAAAA })
	if err := lookUpBoth(silent, "web."); err == nil || !strings.Contains(err.Error(), "TypeAAAA") {
		t.Errorf("a question without an answer: %v", err)
	}
}
