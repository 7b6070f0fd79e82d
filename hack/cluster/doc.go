// Command cluster runs whole Pilothouse clusters on one machine: a network namespace a node, real daemons, real etcd, real
// containerd.
//
// A cluster has a name and a folder. The folder holds everything that lasts (state, certificates, data, logs), a short
// folder under /run what a reboot may take (sockets, pinned namespaces). Each part of a cluster is a file here: what it is
// started with, and how it is known to be ready. Commands compare what should be with what is and mend the difference, so
// each may be repeated, also after a crash.
//
// A cluster has addresses of IPv4, of IPv6 or of both (up -ip-families); what there is one of each family stands in the cluster's order
// everywhere, and the API server, the registry and the kubelets listen on the address that comes first.
//
// Always true: a blackhole route stands under the cluster's address ranges before anything else exists and until everything
// has ended; processes are remembered by pid and start time and ended by that; what was not remembered is found by the
// cluster's mark in its environment, by its cgroup, or by a path or link name derived from the cluster's name.
package main
