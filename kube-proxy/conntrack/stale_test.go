package conntrack

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nftables"
)

func TestWhichFlowsAreStale(t *testing.T) {
	svc := func(name string, p changes.Protocol, nodePort uint16, endpoints ...string) *changes.Service {
		s := &changes.Service{Name: changes.Name{Namespace: "d", Service: name}, Protocol: p, ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 53, NodePort: nodePort}
		for _, e := range endpoints {
			s.Endpoints = append(s.Endpoints, changes.Endpoint{Addr: netip.MustParseAddrPort(e)})
		}
		return s
	}
	wish := func(s ...*changes.Service) nftables.Wish {
		return nftables.Wish{Table: changes.NewTable(s...), NodeAddresses: []netip.Addr{netip.MustParseAddr("198.18.0.1")}}
	}
	leaving := func(s *changes.Service, endpoint string) *changes.Service {
		s.Leaving = []netip.AddrPort{netip.MustParseAddrPort(endpoint)}
		return s
	}
	same := svc("dns", changes.UDP, 0, "10.1.0.1:53")
	const (
		front = "10.96.0.1:53"
		node  = "198.18.0.1:30053"
	)
	for _, c := range []struct {
		name     string
		was, now nftables.Wish
		looks    []string // at these fronts
		stale    []string // «asked answered», and «stream» if it is one
		kept     []string
	}{
		{"nothing changed", wish(same), wish(same), nil, nil, []string{front + " 10.1.0.1:53"}},
		{"tcp is none of ours", wish(svc("dns", changes.TCP, 0, "10.1.0.1:53")), wish(), nil, nil, nil},
		{"an endpoint came", wish(svc("dns", changes.UDP, 30053, "10.1.0.1:53")), wish(svc("dns", changes.UDP, 30053, "10.1.0.1:53", "10.1.0.2:53")), nil, nil, nil},
		{"an endpoint went", wish(svc("dns", changes.UDP, 30053, "10.1.0.1:53", "10.1.0.2:53")), wish(svc("dns", changes.UDP, 30053, "10.1.0.2:53")),
			[]string{front, node}, []string{front + " 10.1.0.1:53", node + " 10.1.0.1:53"}, []string{front + " 10.1.0.2:53", "10.96.0.9:53 10.1.0.1:53"}},
		{"an endpoint was replaced", wish(svc("dns", changes.UDP, 0, "10.1.0.1:53")), wish(svc("dns", changes.UDP, 0, "10.1.0.2:53")),
			[]string{front}, []string{front + " 10.1.0.1:53"}, []string{front + " 10.1.0.2:53"}},
		{"the first endpoint came: flows that were not redirected", wish(svc("dns", changes.UDP, 30053)), wish(svc("dns", changes.UDP, 30053, "10.1.0.1:53")),
			[]string{front, node}, []string{node + " " + node, front + " " + front}, []string{front + " 10.1.0.1:53"}},
		{"the service is new", wish(), wish(same), []string{front}, []string{front + " " + front}, []string{front + " 10.1.0.1:53"}},
		{"the service went", wish(same), wish(), []string{front}, []string{front + " 10.1.0.1:53"}, []string{front + " " + front}},
		{"the node port was given up", wish(svc("dns", changes.UDP, 30053, "10.1.0.1:53")), wish(svc("dns", changes.UDP, 0, "10.1.0.1:53")),
			[]string{node}, []string{node + " 10.1.0.1:53"}, []string{front + " 10.1.0.1:53"}},
		{"another service took the address", wish(same), wish(svc("other", changes.UDP, 0, "10.1.0.9:53")),
			[]string{front}, []string{front + " 10.1.0.1:53"}, []string{front + " 10.1.0.9:53"}},
		{"an endpoint leaves: its streams go on", wish(svc("dns", changes.UDP, 0, "10.1.0.1:53", "10.1.0.2:53")), wish(leaving(svc("dns", changes.UDP, 0, "10.1.0.2:53"), "10.1.0.1:53")),
			[]string{front}, []string{front + " 10.1.0.1:53", front + " 10.1.0.3:53 stream"}, []string{front + " 10.1.0.1:53 stream", front + " 10.1.0.2:53"}},
		{"it is gone", wish(leaving(svc("dns", changes.UDP, 0, "10.1.0.2:53"), "10.1.0.1:53")), wish(svc("dns", changes.UDP, 0, "10.1.0.2:53")),
			[]string{front}, []string{front + " 10.1.0.1:53 stream"}, []string{front + " 10.1.0.2:53"}},
		{"the first wish of all", nftables.Wish{}, wish(same), []string{front}, []string{front + " 10.1.0.7:53"}, []string{front + " 10.1.0.1:53"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := stale(c.was, c.now)
			var looks []string
			for f := range l {
				looks = append(looks, f.String())
			}
			slices.Sort(looks)
			if !slices.Equal(looks, c.looks) {
				t.Errorf("looks at %v, want %v", looks, c.looks)
			}
			matches := func(s string) bool {
				words := strings.Fields(s)
				return l.match(flow{netip.MustParseAddrPort(words[0]), netip.MustParseAddrPort(words[1]), len(words) == 2})
			}
			for _, s := range c.stale {
				if !matches(s) {
					t.Errorf("%s was kept", s)
				}
			}
			for _, s := range c.kept {
				if matches(s) {
					t.Errorf("%s was forgotten", s)
				}
			}
		})
	}
}
