// Package network joins pods to the pod network: a bridge on the node, a veth and an address a pod, routes to the other nodes.
//
// The pod workers call Setup and Teardown, node calls SetPodCIDR and SetRoutes with the whole wish. It lives in the network namespace of
// the process (a node's own, in a local cluster) and speaks netlink; it starts no program, unless a CNI configuration is installed: then its plugins
// join the pods instead.
//
// What always holds: the gateway is the first address of the node's pod range; no address is given to two pods; addresses are kept in memory only,
// and Restore fills them from the sandboxes' records before the first Setup.
//
// It leaves to others: masquerading, services and node ports (kube-proxy), host ports (nobody yet), namespaces (containers makes them).
package network
