// Package network joins pods to the pod network: a veth and an address of each family a pod, routes to the pods of this node and of the others.
//
// There is no bridge. A pod's own link knows one neighbour, the node, and all that a pod sends is routed there, to a pod beside it too:
//
//	pod                                     node
//	eth0 10.244.7.2/32                      pv1a2b…
//	default via 169.254.1.1 ── veth ──────  10.244.7.2 dev pv1a2b… src NODE
//	default via fe80::1                     fd00:7::2  dev pv1a2b… src NODE
//	                                        unreachable 10.244.7.0/24        pods that are not there
//	                                        10.244.2.0/24 via NODE2          a node on one of this machine's links
//	                                        10.244.3.0/24 dev pilot-vxlan    a node behind a router
//
// So the packet filter sees every packet once, where it sees all that is routed, and addresses stay what they are. Neither side asks for the other: both
// know each other's hardware addresses from the start. Gateways are in no packet, hence the same for all pods.
//
// The pod workers call Setup and Teardown, node calls SetPodCIDRs and, whenever nodes change and every ten seconds, SetRoutes with all other nodes, which also
// mends what somebody took away. It lives in the network namespace of the process (a node's own, in a local cluster) and speaks netlink; it starts no
// program, unless a CNI configuration is installed: then its plugins join the pods instead.
//
// A node behind a router (its address is not on a link of this machine) is reached through a VXLAN, one for all, made when the first such node comes and removed
// with the last. Nothing needs to be exchanged for it: a node's hardware address inside follows from its address outside. Its UDP packets, port 8472, must be let
// through between nodes.
//
// What always holds: no address is given to two pods; the first address of a range is no pod's, it is the node's own in the VXLAN; all routes made here bear protocol 87,
// and no other is ever removed. Addresses are kept in memory only, and Restore fills them from the sandboxes' records before the first Setup; until then nothing
// is removed. A kubelet may be killed at any line: the next Setup, or SetRoutes, mends what is half done.
//
// Known bounds: a link that somebody deleted is made anew with the pod's addresses; after a restart of the kubelet it is not known any more which bandwidth the
// pod was bounded to, so such a link is then without.
//
// It leaves to others: masquerading, services and node ports (kube-proxy), host ports (hostports), namespaces (containers makes them).
package network
