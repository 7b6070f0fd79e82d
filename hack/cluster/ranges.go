package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
)

// addresses are what one cluster has to itself. Clusters side by side differ in their range: a number that every address,
// port and link name is made from, so the number is all that has to be remembered.
type addresses struct{ n int }

// maxRange is the last range whose pods and services do not run into each other.
const maxRange = 11

func (c *cluster) addr() addresses { return addresses{c.state.Range} }

func (a addresses) nodes() netip.Prefix    { return netip.PrefixFrom(a.host(0), 24) }
func (a addresses) pods() netip.Prefix     { return prefix16(244 + a.n) }
func (a addresses) services() netip.Prefix { return prefix16(96 + a.n) }

// bridge is this machine's address among the nodes; node is that of the i-th node, from 1.
func (a addresses) bridge() netip.Addr    { return a.host(1) }
func (a addresses) node(i int) netip.Addr { return a.host(10 + i) }

// kubernetes is the cluster IP of the API server, dns that of the name server.
func (a addresses) kubernetes() netip.Addr { return a.service(1) }
func (a addresses) dns() netip.Addr        { return a.service(10) }

// port is a daemon's port on this machine: its usual one in the first range.
func (a addresses) port(usual int) int { return usual + 100*a.n }

func (a addresses) host(last int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(a.n), byte(last)})
}

func (a addresses) service(last int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(96 + a.n), 0, byte(last)})
}

func prefix16(second int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second), 0, 0}), 16)
}

func (a addresses) all() []netip.Prefix {
	return []netip.Prefix{a.nodes(), a.pods(), a.services()}
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
		for _, own := range (addresses{n}).all() {
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
