package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestNodeIPs(t *testing.T) {
	for _, tc := range []struct{ list, want, fails string }{
		{"198.18.0.11", "[198.18.0.11]", ""},
		{"198.18.0.11,fd00::11", "[198.18.0.11 fd00::11]", ""},
		{"fd00::11, 198.18.0.11", "[fd00::11 198.18.0.11]", ""},
		{"FD00:0:0::11", "[fd00::11]", ""},
		{"::ffff:198.18.0.11", "[198.18.0.11]", ""},
		{"::", "[::]", ""},
		{"198.18.0.11,198.18.0.12", "", "must contain either a single IP or a dual-stack pair of IPs"},
		{"198.18.0.11,fd00::11,fd00::12", "", "must contain either a single IP or a dual-stack pair of IPs"},
		{"0.0.0.0,fd00::11", "", "dual-stack node IP cannot include '0.0.0.0' or '::'"},
		{"198.18.0.11,", "", `could not parse ""`},
		{"node1", "", `could not parse "node1"`},
		{"fe80::1%eth0", "", `could not parse "fe80::1%eth0"`},
		{"fe80::1", "", "nodeIP can't be a link-local unicast address"},
		{"::1", "", "nodeIP can't be loopback address"},
		{"ff02::1", "", "nodeIP can't be a multicast address"},
	} {
		got, err := nodeIPs(tc.list)
		if (err != nil) != (tc.fails != "") || err != nil && !strings.Contains(err.Error(), tc.fails) || err == nil && fmt.Sprint(got) != tc.want {
			t.Errorf("%q: %v, %v; want %s %s", tc.list, got, err, tc.want, tc.fails)
		}
	}
	c := &Config{NodeIP: "a"}
	if err := c.addresses(); err == nil || err.Error() != `bad --node-ip "a": could not parse "a"` {
		t.Errorf("got %v", err)
	}
}
