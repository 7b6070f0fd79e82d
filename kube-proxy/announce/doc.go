// Package announce makes load balancer addresses reachable on the link that nodes and the outside share: of the ready nodes one
// answers for an address (ARP, neighbour discovery), and tells so unasked when that changes. There is no election: every node
// ranks the nodes for an address by the same hash and comes to the same order.
//
// main makes an Announcer, has it told of Services and endpoints, tells it when rules are written, and runs it. nftables sends on what
// arrives for such an address, on every node alike, whoever answers for it; so a packet that still comes to the node before is
// served, too.
//
// What always holds:
//   - An address that a node answers for is one of the node's addresses, in the kernel, marked as ours. It stays when kube-proxy
//     ends or dies, and the next one finds it by the mark.
//   - An address that a node reports as its own is left to that node, whatever services say.
//   - A node begins to answer only after its rules are written, and not while it is cut off from the API server.
//   - A node stops answering when no service has the address any more, or when it hears another node answer that it knows, or in
//     its own deafness must suppose, to come first.
//
// choose.go decides, pulse.go judges whether nodes live, announcer.go does; follow.go hears of the API, link.go and frames.go talk
// to the kernel and the wire.
package announce
