// Package changes turns Services and EndpointSlices into what this node should
// offer: a Table, immutable and sorted.
//
// Informer handlers tell a Tracker what changed, from any goroutine; the syncer
// asks it for the newest Table. Only services named by a change are computed
// anew. All others keep the very pointer they had in the table before, so
// whoever renders a table sees by comparing pointers what it can skip.
//
// A Tracker knows one address family. What a packet meets is left to nftables.
package changes
