package main

import "testing"

// Load balancers have addresses of the nodes' ranges, and no node has one of theirs.
func TestBalancersAreApartFromNodes(t *testing.T) {
	for n := range maxRange + 1 {
		a := addresses{n, []family{ipv6, ipv4}}
		pool, nodes := a.balancers(), a.nodes()
		if len(pool) != 2 || !pool[0].Addr().Is6() || !pool[1].Addr().Is4() {
			t.Fatalf("range %d: %v", n, pool)
		}
		for i, p := range pool {
			if p != p.Masked() || !inside(nodes[i], p) {
				t.Errorf("range %d: %s is no part of %s", n, p, nodes[i])
			}
			for node := range maxNodes {
				if ip := a.node(node + 1)[i]; p.Contains(ip) {
					t.Errorf("range %d: %s has node %d's address %s", n, p, node+1, ip)
				}
			}
			if p.Contains(a.bridges()[i]) {
				t.Errorf("range %d: %s has the bridge's address", n, p)
			}
		}
	}
}
