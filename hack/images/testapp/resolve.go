package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// resolver is what a resolv.conf says (resolv.conf(5)).
type resolver struct {
	servers  []netip.AddrPort
	searches []string
	ndots    int
}

// questions are the kinds of names that can be asked for.
var questions = map[string]dnsmessage.Type{
	"a": dnsmessage.TypeA, "aaaa": dnsmessage.TypeAAAA, "srv": dnsmessage.TypeSRV, "ptr": dnsmessage.TypePTR, "cname": dnsmessage.TypeCNAME,
}

// resolve answers each KIND:NAME it is given with a line, asking the servers of /etc/resolv.conf along its search path, as a C library
// does: a, aaaa, srv, cname, or ptr with an address for the name. What it learns is sorted; what is not there has the server's word in brackets,
// and is no failure; an answer that does not come is one. KIND+tcp asks over TCP. host:NAME asks as a program would, /etc/hosts first.
func resolve(ctx context.Context, o options) error {
	for _, arg := range o.args {
		line, err := resolveOnce(ctx, "/etc/resolv.conf", arg, o.timeout)
		if err != nil {
			return err
		}
		fmt.Println(line)
	}
	return nil
}

// resolveOnce is one line of that.
func resolveOnce(ctx context.Context, file, arg string, timeout time.Duration) (string, error) {
	kind, name, ok := strings.Cut(arg, ":")
	kind, tcp := strings.CutSuffix(kind, "+tcp")
	asked, known := questions[kind]
	if !ok || !known && kind != "host" {
		return "", fmt.Errorf("%q: want a, aaaa, srv, ptr, cname or host, perhaps +tcp, a colon and a name", arg)
	}
	if kind == "host" {
		found, err := net.DefaultResolver.LookupHost(ctx, name)
		if not := new(net.DNSError); errors.As(err, &not) && not.IsNotFound {
			return arg + " (not found)", nil
		}
		slices.Sort(found)
		return strings.Join(append([]string{arg}, found...), " "), err
	}
	r, err := readResolver(file)
	if err != nil {
		return "", err
	}
	if kind == "ptr" {
		if name, err = reverse(name); err != nil {
			return "", err
		}
	}
	found, code, err := r.search(ctx, name, asked, tcp, timeout)
	if err != nil {
		return "", fmt.Errorf("%s: %w", arg, err)
	}
	if len(found) == 0 {
		found = []string{"(" + strings.TrimPrefix(code.String(), "RCode") + ")"}
	}
	return strings.Join(append([]string{arg}, found...), " "), nil
}

func readResolver(file string) (resolver, error) {
	r := resolver{ndots: 1}
	f, err := os.Open(file)
	if err != nil {
		return r, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		words := strings.Fields(s.Text())
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			ip, err := netip.ParseAddr(words[1])
			if err != nil {
				return r, fmt.Errorf("reading %s: %w", file, err)
			}
			r.servers = append(r.servers, netip.AddrPortFrom(ip, 53))
		case "search":
			r.searches = words[1:]
		case "options":
			for _, o := range words[1:] {
				if n, ok := strings.CutPrefix(o, "ndots:"); ok {
					if r.ndots, err = strconv.Atoi(n); err != nil {
						return r, fmt.Errorf("reading %s: %w", file, err)
					}
				}
			}
		}
	}
	if len(r.servers) == 0 {
		return r, fmt.Errorf("%s names no server", file)
	}
	return r, nil
}

// names are the absolute names to try for one, in their order: a name of few dots is looked for along the search path first.
func (r resolver) names(name string) (list []string) {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	for _, s := range r.searches {
		list = append(list, strings.TrimSuffix(name+"."+s, ".")+".")
	}
	if strings.Count(name, ".") >= r.ndots {
		return append([]string{name + "."}, list...)
	}
	return append(list, name+".")
}

// search asks for one name after the other until there is an answer.
func (r resolver) search(ctx context.Context, name string, kind dnsmessage.Type, tcp bool, timeout time.Duration) (found []string, code dnsmessage.RCode, err error) {
	for _, n := range r.names(name) {
		q, err := question(n, kind)
		if err != nil {
			return nil, code, err
		}
		var answer dnsmessage.Message
		for _, server := range r.servers {
			if answer, err = exchange(ctx, server, q, tcp, timeout); err == nil {
				break
			}
		}
		if err != nil {
			return nil, code, err
		}
		if found, code = records(answer, kind), answer.RCode; len(found) > 0 {
			return found, code, nil
		}
	}
	return nil, code, nil
}

func question(name string, kind dnsmessage.Type) (dnsmessage.Message, error) {
	n, err := dnsmessage.NewName(name)
	return dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}, err
}

// exchange asks one server one question, once.
func exchange(ctx context.Context, server netip.AddrPort, q dnsmessage.Message, tcp bool, timeout time.Duration) (answer dnsmessage.Message, err error) {
	packed, err := q.Pack()
	if err != nil {
		return answer, err
	}
	network := "udp"
	if tcp {
		network = "tcp"
		packed = append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)
	}
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, network, server.String())
	if err != nil {
		return answer, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return answer, err
	}
	if _, err := conn.Write(packed); err != nil {
		return answer, err
	}
	buf := make([]byte, 65535)
	n := 0
	if tcp {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return answer, err
		}
		n, err = io.ReadFull(conn, buf[:int(length[0])<<8|int(length[1])])
	} else {
		n, err = conn.Read(buf)
	}
	if err != nil {
		return answer, err
	}
	if err := answer.Unpack(buf[:n]); err != nil || answer.ID != q.ID {
		return answer, fmt.Errorf("%s sent no answer to the question (%w)", server, err)
	}
	return answer, nil
}

// records are the answer's values of one kind, sorted.
func records(m dnsmessage.Message, kind dnsmessage.Type) (list []string) {
	for _, r := range m.Answers {
		if r.Header.Type != kind {
			continue
		}
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			list = append(list, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			list = append(list, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.SRVResource:
			list = append(list, b.Target.String()+":"+strconv.Itoa(int(b.Port)))
		case *dnsmessage.PTRResource:
			list = append(list, b.PTR.String())
		case *dnsmessage.CNAMEResource:
			list = append(list, b.CNAME.String())
		}
	}
	slices.Sort(list)
	return list
}

// reverse is the name under which an address is looked for.
func reverse(address string) (string, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if ip.Is4() {
		for _, part := range slices.Backward(ip.AsSlice()) {
			fmt.Fprintf(&b, "%d.", part)
		}
		return b.String() + "in-addr.arpa.", nil
	}
	for _, part := range slices.Backward(ip.AsSlice()) {
		fmt.Fprintf(&b, "%x.%x.", part&15, part>>4)
	}
	return b.String() + "ip6.arpa.", nil
}
