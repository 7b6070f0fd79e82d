// Package storage is the contract between the API server and the place where objects live.
//
// A Store holds all objects of one kind as opaque encoded bytes under (namespace, name), each at the revision of its last
// change. Revisions are etcd's: one counter for the whole cluster, so revisions of different kinds compare. Two rooms keep
// the contract: storage/etcd is the truth, storage/watchcache serves reads and watches from memory and passes writes
// through. Both must pass the suite in storage/storagetest.
//
// What always holds: bytes and entries handed out are shared and must not be changed; the stored bytes never contain
// metadata.resourceVersion (it is Entry.Revision, and the codec appends it when it encodes); the events of one watch come in
// the order of revisions, none lost, none twice. Turning bytes into objects and errors into HTTP is left to the rooms above.
package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// The sentinels (and ErrBadContinue); ask with errors.Is. Every other error means that the backend could not answer (etcd away, deadline over)
// and that a write may or may not have happened.
var (
	ErrNotFound  = errors.New("not found")                               // no such key at the asked revision
	ErrExists    = errors.New("already exists")                          // Create on a key that is taken
	ErrConflict  = errors.New("conflict")                                // the key is at another revision than expected; see Conflict
	ErrCompacted = errors.New("the requested revision is compacted")     // history no longer reaches back; see Expired
	ErrTooNew    = errors.New("the requested revision is in the future") // the store did not reach the revision in time; see TooNew
	ErrTooLarge  = errors.New("the object is too large to be stored")    // the backend refused the write for its size; nothing was changed
	ErrFull      = errors.New("the storage is full")                     // the backend takes reads and deletes only, until room is made
)

// MaxObject is how long a stored object may be: what etcd takes in one request (--max-request-bytes), of which key and transaction
// need a little too.
const MaxObject = 1536 << 10

// Conflict is the error of an Update or Delete whose expected revision is not the current one. Is(ErrConflict).
type Conflict struct {
	Current *Entry // what is there now, at no further round trip; never nil
}

func (c *Conflict) Error() string {
	return fmt.Sprintf("conflict: the object is at revision %d", c.Current.Revision)
}
func (c *Conflict) Is(target error) bool { return target == ErrConflict }

// Expired is the error of a paged List whose revision is compacted away. Is(ErrCompacted).
type Expired struct {
	Continue string // resumes after the last key seen, at the then newest revision (an inconsistent list)
}

func (e *Expired) Error() string        { return ErrCompacted.Error() }
func (e *Expired) Is(target error) bool { return target == ErrCompacted }

// TooNew is the error of a read that asks for a revision the store has not seen within the bounded wait. Is(ErrTooNew).
type TooNew struct{ Asked, Current int64 }

func (e *TooNew) Error() string {
	return fmt.Sprintf("too large resource version: %d, current: %d", e.Asked, e.Current)
}
func (e *TooNew) Is(target error) bool { return target == ErrTooNew }

// Key names an object of one kind. Namespace is empty for cluster-scoped kinds.
type Key struct{ Namespace, Name string }

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// Compare orders keys as the bytes of «namespace/name» are ordered, which is the order of every List. It does not allocate.
func (k Key) Compare(o Key) int {
	if k.Namespace == o.Namespace {
		return strings.Compare(k.Name, o.Name)
	}
	n := min(len(k.Namespace), len(o.Namespace))
	if c := strings.Compare(k.Namespace[:n], o.Namespace[:n]); c != 0 {
		return c
	}
	// One namespace is a prefix of the other, so the slash that ends it meets a byte of the longer one.
	if len(k.Namespace) < len(o.Namespace) {
		return cmp.Compare('/', o.Namespace[n])
	}
	return cmp.Compare(k.Namespace[n], '/')
}

// Kind says what one Store holds and how its bytes are indexed.
type Kind struct {
	Group      string // empty for core
	Plural     string
	Namespaced bool
	// Attrs reads the labels and the declared selectable fields (metadata.name and metadata.namespace are added by the
	// store from the key) out of stored bytes. It is pure and safe for concurrent use.
	Attrs func(key Key, value []byte) (Attrs, error)
}

// Attrs are what selectors are evaluated on. Both maps may be nil and must not be changed.
type Attrs struct {
	Labels labels.Set
	Fields fields.Set
}

// Backend makes Stores: one of storage/etcd (DB) and storage/watchcache (Caches).
type Backend interface {
	Store(Kind) Store
}

// Store holds all objects of one kind. Safe for concurrent use. Every method honours ctx.
type Store interface {
	// Get returns one entry, read as r says. ErrNotFound, TooNew.
	Get(ctx context.Context, key Key, r Read) (*Entry, error)

	// List returns one page in key order. Expired when a continue token's revision is compacted, ErrCompacted when an exact
	// one is, TooNew, ErrBadContinue when the token is not one of ours.
	List(ctx context.Context, o ListOptions) (*Page, error)

	// Watch starts a watch. ErrCompacted when history no longer reaches back to the asked revision.
	Watch(ctx context.Context, o WatchOptions) (Watcher, error)

	// Create stores a new object and returns it at its revision. ttl 0 means for ever; else the backend removes it, not
	// earlier than ttl and at most about a minute later. ErrExists. The store keeps value; the caller must not change it.
	Create(ctx context.Context, key Key, value []byte, ttl time.Duration) (*Entry, error)

	// Update replaces the object if it still is at revision expect. *Conflict, ErrNotFound.
	Update(ctx context.Context, key Key, value []byte, expect int64, ttl time.Duration) (*Entry, error)

	// Delete removes the object if it still is at revision expect, and returns its last state with the revision of the
	// deletion. *Conflict, ErrNotFound.
	Delete(ctx context.Context, key Key, expect int64) (*Entry, error)
}

// Counted is a Store that can tell without looking whether its state at hand is still the one of before.
type Counted interface {
	// Changes goes up whenever the state at hand changes, by any number. It is negative while there is no state at hand, and
	// costs nothing to ask.
	Changes() int64
}

// Sized is a Store that can tell how much a List would go through.
type Sized interface {
	// Size is how many objects there are in a namespace (in all, when it is empty), counting no further than most; negative while
	// there is no state at hand. It costs next to nothing.
	Size(namespace string, most int) int
}

// Resealed is a Store whose values may be stored in a way that is no longer wanted, as with a key that was replaced.
type Resealed interface {
	// Stale says whether it is worth to write the object's unchanged value again.
	Stale(ctx context.Context, key Key) (bool, error)
}

// ErrBadContinue is the error of a List whose continue token cannot be read; the text is for the client.
var ErrBadContinue = errors.New("continue key is not valid")

// Match is how a read treats Read.Revision.
type Match int

const (
	// Consistent reads the newest state: everything that was acknowledged before the read began. Revision is ignored.
	Consistent Match = iota
	// NotOlderThan reads any state at Revision or later; with Revision 0 whatever is at hand.
	NotOlderThan
	// Exact reads the state at precisely Revision.
	Exact
)

// Read is how fresh a read must be. The zero value is a consistent read.
type Read struct {
	Match    Match
	Revision int64
}

// Cached is a read of whatever is at hand, without a round trip where the backend has a cache.
var Cached = Read{Match: NotOlderThan}

// Selector narrows a List or Watch. Nil selectors match everything.
type Selector struct {
	Namespace string // empty: all
	Name      string // empty: all
	Labels    labels.Selector
	Fields    fields.Selector
}

// Matches says whether e is selected. It does not allocate.
func (s *Selector) Matches(e *Entry) bool {
	if s.Namespace != "" && s.Namespace != e.Key.Namespace || s.Name != "" && s.Name != e.Key.Name {
		return false
	}
	if s.Labels != nil && !s.Labels.Empty() && !s.Labels.Matches(e.Attrs.Labels) {
		return false
	}
	return s.Fields == nil || s.Fields.Empty() || s.Fields.Matches(fieldsOf{e})
}

// fieldsOf presents an entry's selectable fields, the two that follow from its key included.
type fieldsOf struct{ e *Entry }

func (f fieldsOf) Has(field string) bool {
	return field == "metadata.name" || field == "metadata.namespace" || f.e.Attrs.Fields.Has(field)
}

func (f fieldsOf) Get(field string) string {
	switch field {
	case "metadata.name":
		return f.e.Key.Name
	case "metadata.namespace":
		return f.e.Key.Namespace
	}
	return f.e.Attrs.Fields.Get(field)
}

// ListOptions say what to list. With Continue set, Read is ignored: the token holds the revision.
type ListOptions struct {
	Selector
	Read     Read
	Limit    int64  // 0: everything
	Continue string // from a former Page
}

// Page is one page of a List.
type Page struct {
	Entries   []*Entry // in the order of Key.Compare
	Revision  int64    // the state that the entries are of
	Continue  string   // for the next page; empty when this was the last
	Remaining *int64   // how many follow; nil when not known (a selector is set) or none
}

// EventType is what happened to an object as the watcher sees it: an object that comes to match the watcher's selector was
// Added for it, one that ceases to match was Deleted.
type EventType string

const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
	Bookmark EventType = "BOOKMARK"
)

// Event is one step of a watch.
type Event struct {
	Type  EventType
	Entry *Entry // the new state; for Deleted the last state that matched, at the revision of the change. Nil for Bookmark
	// Revision is where the watch stands after this event.
	Revision int64
	// InitialEnd marks the bookmark that ends the initial events of WatchOptions.Initial.
	InitialEnd bool
}

// WatchOptions say what to watch and from where.
type WatchOptions struct {
	Selector
	// Initial asks for Added events of the present state first, read as Read says (Consistent or NotOlderThan). Without
	// it the watch starts with the changes after Read.Revision; revision 0 then means from now.
	Initial bool
	Read    Read
	// Bookmarks asks for a Bookmark event about once a minute, and (with Initial) one with InitialEnd set after the
	// initial events.
	Bookmarks bool
	// Begun, when it is not nil, is called once, by Next, when the initial events were returned and nothing more is there yet.
	Begun func()
}

// Watcher is one running watch. Next is called by one goroutine; Close by any, any number of times.
type Watcher interface {
	// Next waits until there is something to say and returns all of it, at least one event; the slice is the
	// watcher's and valid until the next call. An error ends the watch: ErrCompacted when the reader was too slow or
	// history was lost (the client lists again), ctx's error, or the backend's.
	Next(ctx context.Context) ([]Event, error)
	Close()
}
