package nodeipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestFree(t *testing.T) {
	for name, tc := range map[string]struct {
		whole string
		bits  int
		taken []netip.Prefix
		want  string // empty: none
	}{
		"the first":                {"10.244.0.0/16", 24, nil, "10.244.0.0/24"},
		"the first gap":            {"10.244.0.0/16", 24, prefixes("10.244.0.0/24", "10.244.2.0/24"), "10.244.1.0/24"},
		"a larger one taken":       {"10.244.0.0/16", 24, prefixes("10.244.0.0/22"), "10.244.4.0/24"},
		"a smaller one taken":      {"10.244.0.0/16", 24, prefixes("10.244.0.128/26"), "10.244.1.0/24"},
		"what lies elsewhere":      {"10.244.0.0/16", 24, prefixes("10.96.0.0/16", "10.243.255.0/24", "10.245.0.0/24", "fd00::/64"), "10.244.0.0/24"},
		"a taken one around all":   {"10.244.0.0/16", 24, prefixes("10.0.0.0/8"), ""},
		"one node has it all":      {"10.244.0.0/24", 24, nil, "10.244.0.0/24"},
		"and then it is full":      {"10.244.0.0/24", 24, prefixes("10.244.0.0/24"), ""},
		"the last of four":         {"10.244.0.0/22", 24, prefixes("10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"), "10.244.3.0/24"},
		"IPv6":                     {"fd00::/48", 64, prefixes("fd00::/64"), "fd00:0:0:1::/64"},
		"IPv6, more than a bitmap": {"fd00::/8", 64, prefixes("fdff::/64"), "fd00::/64"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := free(netip.MustParsePrefix(tc.whole), tc.bits, tc.taken)
			if ok != (tc.want != "") || ok && got.String() != tc.want {
				t.Errorf("got %v %v, want %q", got, ok, tc.want)
			}
		})
	}
}

func TestFreeGivesEachPartOnce(t *testing.T) {
	whole := netip.MustParsePrefix("10.244.0.0/20")
	var taken []netip.Prefix
	for i := range 16 {
		p, ok := free(whole, 24, taken)
		if !ok || p.String() != fmt.Sprintf("10.244.%d.0/24", i) {
			t.Fatalf("part %d is %v", i, p)
		}
		taken = append(taken, p)
	}
	if p, ok := free(whole, 24, taken); ok {
		t.Errorf("a seventeenth: %v", p)
	}
}

func TestRanges(t *testing.T) {
	for name, tc := range map[string]struct {
		list  string
		n     int
		fails string
	}{
		"none":            {"", 0, ""},
		"one":             {"10.244.0.0/16", 1, ""},
		"one a family":    {"10.244.0.0/16, fd00::/48", 2, ""},
		"two of a family": {"10.244.0.0/16,10.245.0.0/16", 0, "one family"},
		"no range":        {"10.244.0.0", 0, "no address range"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Ranges("cluster-cidr", tc.list)
			if len(got) != tc.n || (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestComplete(t *testing.T) {
	four, six := "10.244.0.0/16", "fd00::/48"
	for name, tc := range map[string]struct {
		c     Config
		want  string // the sizes of both
		fails string
	}{
		"IPv4":                       {Config{Cluster: prefixes(four)}, "24 64", ""},
		"IPv6":                       {Config{Cluster: prefixes(six)}, "24 64", ""},
		"one size":                   {Config{Cluster: prefixes(four), Size: 26}, "26 26", ""},
		"one size, of IPv6":          {Config{Cluster: prefixes(six), Size: 80}, "80 80", ""},
		"the size of IPv4":           {Config{Cluster: prefixes(four), Size4: 26}, "26 64", ""},
		"the size of IPv6":           {Config{Cluster: prefixes(six), Size6: 80}, "24 80", ""},
		"both":                       {Config{Cluster: prefixes(six, four)}, "24 64", ""},
		"both with sizes":            {Config{Cluster: prefixes(four, six), Size4: 25, Size6: 72}, "25 72", ""},
		"one size for both":          {Config{Cluster: prefixes(four, six), Size: 24}, "", "usage of --node-cidr-mask-size is not allowed with dual-stack clusters"},
		"a size and one of a family": {Config{Cluster: prefixes(four), Size: 24, Size4: 24}, "", "is not allowed if --node-cidr-mask-size is set"},
		"a size of a missing family": {Config{Cluster: prefixes(four), Size6: 64}, "", "usage of --node-cidr-mask-size-ipv6 is not allowed for a single-stack IPv4 cluster"},
		"and of the other":           {Config{Cluster: prefixes(six), Size4: 24}, "", "usage of --node-cidr-mask-size-ipv4 is not allowed for a single-stack IPv6 cluster"},
		"more than there is":         {Config{Cluster: prefixes(four), Size: 12}, "", "a node's part of /12 is no part of --cluster-cidr 10.244.0.0/16"},
		"less than an address":       {Config{Cluster: prefixes(four), Size: 33}, "", "a node's part of /33"},
		"IPv6, more than there is":   {Config{Cluster: prefixes(four, "fd00::/112")}, "", "a node's part of /64 is no part of --cluster-cidr fd00::/112"},
		"no range":                   {Config{}, "", "--allocate-node-cidrs needs --cluster-cidr"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.c.Complete()
			if (err != nil) != (tc.fails != "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
				t.Fatalf("got %v, want %q", err, tc.fails)
			}
			if got := fmt.Sprint(tc.c.bits[false], tc.c.bits[true]); err == nil && got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
