package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// addresses are what one cluster has to itself. Clusters side by side differ in their range: a number that every address,
// port and link name is made from, so the number is all that has to be remembered. A cluster has addresses of one family or of
// both; what there is one of each family comes in the cluster's order, and the first counts where there can be one only.
type addresses struct {
	n        int
	families []family // none: IPv4
}

// maxRange is the last range whose pods and services do not run into each other.
const maxRange = 11

func (c *cluster) addr() addresses { return addresses{c.state.Range, c.state.Families} }

// six says of each family whether it is IPv6.
func (a addresses) six() []bool {
	if len(a.families) == 0 {
		return []bool{false}
	}
	var six []bool
	for _, f := range a.families {
		six = append(six, f == ipv6)
	}
	return six
}

// The ranges of IPv6 are parts of a prefix of local addresses (RFC 4193) that has the cluster's number at its end: the first /64 is of nodes,
// services have the first /112 of the second, and pods 256 times a /64 from the 256th.
const (
	nodeNet    = 0
	serviceNet = 1
	podNet     = 0x100
)

func (a addresses) nodes() []netip.Prefix {
	return a.prefixes([4]byte{198, 18, byte(a.n)}, 24, nodeNet, 64)
}
func (a addresses) pods() []netip.Prefix {
	return a.prefixes([4]byte{10, byte(244 + a.n)}, 16, podNet, 56)
}
func (a addresses) services() []netip.Prefix {
	return a.prefixes([4]byte{10, byte(96 + a.n)}, 16, serviceNet, 112)
}

func (a addresses) prefixes(four [4]byte, bits int, subnet uint16, bits6 int) (list []netip.Prefix) {
	for _, six := range a.six() {
		if six {
			list = append(list, netip.PrefixFrom(a.addr6(subnet, 0), bits6))
		} else {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4(four), bits))
		}
	}
	return list
}

// bridges are this machine's addresses among the nodes, bridge is the first; node are those of the i-th node, from 1.
func (a addresses) bridges() []netip.Addr   { return a.hosts(1) }
func (a addresses) bridge() netip.Addr      { return a.hosts(1)[0] }
func (a addresses) node(i int) []netip.Addr { return a.hosts(10 + i) }
func (a addresses) hosts(n int) []netip.Addr {
	return a.list([4]byte{198, 18, byte(a.n), byte(n)}, nodeNet, n)
}
func (a addresses) service(n int) []netip.Addr {
	return a.list([4]byte{10, byte(96 + a.n), 0, byte(n)}, serviceNet, n)
}

// kubernetes is the cluster IP of the API server, dns that of the name server.
func (a addresses) kubernetes() netip.Addr { return a.service(1)[0] }
func (a addresses) dns() netip.Addr        { return a.service(10)[0] }

// port is a daemon's port on this machine: its usual one in the first range.
func (a addresses) port(usual int) int { return usual + 100*a.n }

// hardware is the locally administered address of a link that has the n-th host address.
func (a addresses) hardware(n int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x70, 198, 18, byte(a.n), byte(n)}
}

func (a addresses) list(four [4]byte, subnet uint16, n int) (list []netip.Addr) {
	for _, six := range a.six() {
		if six {
			list = append(list, a.addr6(subnet, n))
		} else {
			list = append(list, netip.AddrFrom4(four))
		}
	}
	return list
}

// addr6 is the address of a subnet that ends in the digits of n, so that a person sees whose it is: node1 is 198.18.0.11 and …::11.
func (a addresses) addr6(subnet uint16, n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd70:6869:6c%02x:%x::%d", a.n, subnet, n))
}

// balancers are a part of the nodes' ranges behind the last node: services of type LoadBalancer get these, and who is on the bridge reaches them.
func (a addresses) balancers() (list []netip.Prefix) {
	for _, six := range a.six() {
		if six {
			list = append(list, netip.PrefixFrom(a.addr6(nodeNet, 9000), 120))
		} else {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(a.n), 224}), 27))
		}
	}
	return list
}

func (a addresses) all() []netip.Prefix {
	return slices.Concat(a.nodes(), a.pods(), a.services())
}

// joined are addresses or ranges as flags take them.
func joined[T fmt.Stringer](list []T) string {
	var texts []string
	for _, x := range list {
		texts = append(texts, x.String())
	}
	return strings.Join(texts, ",")
}

// chooseRange finds the first range that no other cluster has and that no interface of this machine is in.
func chooseRange(wish int) (int, error) {
	taken, err := takenRanges()
	if err != nil {
		return 0, err
	}
	if wish >= 0 {
		if wish > maxRange {
			return 0, fmt.Errorf("range %d: there are 0 to %d", wish, maxRange)
		}
		if by := taken[wish]; by != "" {
			return 0, fmt.Errorf("range %d is taken by %s", wish, by)
		}
		return wish, nil
	}
	for n := 0; n <= maxRange; n++ {
		if taken[n] == "" {
			return n, nil
		}
	}
	return 0, fmt.Errorf("all %d address ranges are taken (the first by %s): stop a cluster with `cluster -name NAME down`", maxRange+1, taken[0])
}

// takenRanges says who has which range.
func takenRanges() (map[int]string, error) {
	taken := map[int]string{}
	running, err := runningClusters()
	if err != nil {
		return nil, err
	}
	for _, s := range running {
		taken[s.Range] = fmt.Sprintf("cluster %q", s.Name)
	}
	ifaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	for n := 0; n <= maxRange; n++ {
		for _, own := range (addresses{n, []family{ipv4, ipv6}}).all() {
			for _, i := range ifaces {
				if p, err := netip.ParsePrefix(i.String()); err == nil && p.Overlaps(own) && taken[n] == "" {
					taken[n] = "this machine's address " + p.String()
				}
			}
		}
	}
	return taken, nil
}

// runningClusters are the records of all clusters that were started since the machine was.
func runningClusters() ([]state, error) {
	files, err := filepath.Glob(filepath.Join(runRoot, "*", "state.json"))
	if err != nil {
		return nil, fmt.Errorf("looking for other clusters: %w", err)
	}
	var all []state
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it is being taken down
		}
		var s state
		if err := json.Unmarshal(data, &s); err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// checkRange refuses to bring a cluster back, after a reboot, into a range that another has taken meanwhile.
func (c *cluster) checkRange() error {
	running, err := runningClusters()
	if err != nil {
		return err
	}
	for _, s := range running {
		if s.Name != c.name && s.Range == c.state.Range {
			return fmt.Errorf("cluster %q has range %d, which cluster %q uses meanwhile: take one of them down", c.name, c.state.Range, s.Name)
		}
	}
	return nil
}
