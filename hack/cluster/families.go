package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// family is a family of addresses that a cluster has.
type family string

const (
	ipv4 family = "ipv4"
	ipv6 family = "ipv6"
)

// readFamilies reads a list of families; none is none said.
func readFamilies(list string, both bool) ([]family, error) {
	switch {
	case list == "" && both:
		return []family{ipv4, ipv6}, nil
	case list == "":
		return nil, nil
	}
	var all []family
	for s := range strings.SplitSeq(list, ",") {
		f := family(strings.ToLower(strings.TrimSpace(s)))
		if f != ipv4 && f != ipv6 || slices.Contains(all, f) {
			return nil, fmt.Errorf("-%s %q: want ipv4, ipv6, or both with a comma between, the one that counts first first", flagFamilies, list)
		}
		all = append(all, f)
	}
	if both && len(all) < 2 {
		return nil, fmt.Errorf("-%s and -%s %s: want one of both", flagDual, flagFamilies, list)
	}
	return all, nil
}

// has says whether a cluster has addresses of a family.
func (a addresses) has(six bool) bool { return slices.Contains(a.six(), six) }

// checkFamilies says why this machine cannot have what was asked for.
func (c *cluster) checkFamilies() error {
	a := c.addr()
	if !a.has(false) && c.state.Uplink {
		return errors.New("-uplink leads to the world by IPv4, which this cluster does not have")
	}
	if !a.has(true) {
		return nil
	}
	off, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	if err != nil {
		return fmt.Errorf("this machine's kernel has no IPv6: %w", err)
	}
	if strings.TrimSpace(string(off)) != "0" {
		return errors.New("IPv6 is switched off on this machine: sysctl net.ipv6.conf.all.disable_ipv6=0 switches it on")
	}
	return nil
}

// The settings of IPv6 in a node, by their path below /proc/sys/net/ipv6/conf: it is there, its pods' packets are passed on, and an address
// serves at once: nobody else can have it.
var nodeIPv6 = []struct{ path, value string }{
	{"all/disable_ipv6", "0"},
	{"default/disable_ipv6", "0"},
	{"lo/disable_ipv6", "0"},
	{"eth0/disable_ipv6", "0"},
	{"all/forwarding", "1"},
	{"default/forwarding", "1"},
	{"eth0/forwarding", "1"},
	{"eth0/accept_ra", "0"},
	{"eth0/accept_dad", "0"},
}

// setIPv6 makes settings of the network namespace that the thread is in.
func setIPv6(settings []struct{ path, value string }) error {
	for _, s := range settings {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+s.path, []byte(s.value), 0o644); err != nil {
			return fmt.Errorf("setting up IPv6: %w", err)
		}
	}
	return nil
}
