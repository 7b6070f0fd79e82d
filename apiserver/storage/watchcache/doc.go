// Package watchcache serves reads and watches of all kinds from memory and passes writes through to storage/etcd.
//
// Each kind has a cache: the present state as a B-tree of entries (bytes, never objects), and a ring of the latest changes.
// One loop a kind writes both, fed by one etcd watch; nothing else does. Readers look at a snapshot. Watchers pull: each holds
// a cursor into the ring and takes, when it is asked, all that concerns it since then. There is no queue a watcher, so a slow
// one costs nothing and is told ErrCompacted once the ring has passed its cursor.
//
//	etcd watch ──▶ loop ──▶ tree ──▶ snapshot ──▶ Get, List, a watch's initial events
//	                  └───▶ ring ──▶ cursors ───▶ Next
//
// A cache goes through these states:
//
//	(new) ── loaded ──▶ in step ◀──────────────────┐
//	                      │ etcd gone               │ back: resumed after the last revision, nothing lost
//	                      ├──▶ waiting (cached reads and watches go on) ──┘
//	                      │ history compacted meanwhile, or etcd's data replaced
//	                      └──▶ loaded anew: every running watch ends with ErrCompacted ──▶ in step
//
// Always holds: the state is that of precisely one revision, complete; it never goes back except when loaded anew; an entry is
// never changed. A consistent read waits until the cache has reached etcd's newest revision (fresh.go). What an old or future
// resourceVersion gets is in watch.go and read.go. Before a kind is loaded its reads go to etcd.
//
// Bounds. The ring of a kind keeps at least the last 256 changes and those of the last 75 s, at most 32,768, and not more
// bytes of outdated values than half of the kind's stored bytes, but 4 MiB where that is less and 64 MiB where it is more.
// An entry's shared encodings are kept while its change is recent: one of the last 1,024 of its kind and no older than 5 s.
// A snapshot that a paged list began on is kept 75 s after its last use, at most 16 a kind; later pages come from etcd.
package watchcache
