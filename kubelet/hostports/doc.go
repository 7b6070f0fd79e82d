// Package hostports leads ports of the node into pods: what a container's hostPort asks for, where the built-in driver joins pods. (CNI plugins
// open the ports of pods that they join.)
//
// network calls Set once a pod has its place, before its first container starts, Remove before the pod's address is given to others, and Keep after
// a restart. Run looks now and then whether the kernel still holds what it should.
//
// A table of its own a family, kubelet-host-ports, that is there while a pod has a host port; look at it with `nft list table ip
// kubelet-host-ports`. Only the first packet of a connection is looked at, and only if kube-proxy's rules, which see it before, lead it nowhere: a
// Service's address may be one of the node's, too (a load balancer's, while this node answers for it), and is the Service's:
//
//	prerouting, output ── is the destination an address of this node? ── ports: two looks into hashes, however many ports there are
//	                                                                       │ address, protocol, port  (in named)
//	                                                                       │ protocol, port           (in any)
//	                                                                       └─→ the destination becomes the pod's address and port
//	postrouting ── who was led so and is this node itself, or the pod itself, gets the node's address as source; all others keep theirs
//	guard ── what comes from elsewhere for 127.0.0.0/8 is dropped
//
// The last is for processes of the node that call 127.0.0.1: the kernel forwards from and to loopback addresses only on links where route_localnet is
// set. It is set on the links of pods that such a call may reach, and the guard does there what the kernel else does. For ::1 there is no such
// setting: a call from it is not led anywhere, one of it from another address of the node is.
//
// What always holds: one pod holds a port, and with it an address, or all addresses; who, stands in the comment of the map's element. So the kernel's
// table is all that a restarted kubelet needs. A change is one transaction with the difference; nobody but the pods concerned notices.
package hostports
