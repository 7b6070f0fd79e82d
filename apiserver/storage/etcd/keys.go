package etcd

import (
	"fmt"
	"strings"

	"pilothouse.dev/apiserver/storage"
)

// The key scheme, in this file alone:
//
//	/registry/<group, core for the empty one>/<plural>/<namespace>/<name>
//	/registry/<group, core for the empty one>/<plural>/<name>              of kinds without namespaces
//	/registry.compaction                                                   who compacts next (compact.go)
//
// Every kind's prefix ends with a slash, so no kind's keys lie within another's.

// prefixOf is what all keys of a kind begin with.
func (db *DB) prefixOf(k storage.Kind) string {
	group := k.Group
	if group == "" {
		group = "core"
	}
	return db.cfg.Prefix + "/" + group + "/" + k.Plural + "/"
}

func (db *DB) compactionKey() string { return db.cfg.Prefix + ".compaction" }

// path is the etcd key of an object. A key that no object can have is not found.
func (s *store) path(k storage.Key) ([]byte, error) {
	if !k.Valid(s.kind.Namespaced) {
		return nil, fmt.Errorf("key %q of %s: %w", k, s.kind.Plural, storage.ErrNotFound)
	}
	b := make([]byte, 0, len(s.prefix)+len(k.Namespace)+1+len(k.Name))
	b = append(b, s.prefix...)
	if s.kind.Namespaced {
		b = append(b, k.Namespace...)
		b = append(b, '/')
	}
	return append(b, k.Name...), nil
}

// key reads an etcd key of this kind; false for one that is not of the scheme.
func (s *store) key(path []byte) (storage.Key, bool) {
	if len(path) <= len(s.prefix) || string(path[:len(s.prefix)]) != s.prefix {
		return storage.Key{}, false
	}
	rest := string(path[len(s.prefix):]) // one string for both parts, without the prefix
	k := storage.Key{Name: rest}
	if s.kind.Namespaced {
		k.Namespace, k.Name, _ = strings.Cut(rest, "/")
	}
	return k, k.Valid(s.kind.Namespaced)
}

// span is the range of etcd keys [from, to) that can hold what sel selects, and whether all in it is selected by the key alone.
func (s *store) span(sel *storage.Selector) (from, to []byte, whole bool) {
	switch {
	case sel.Name != "" && (sel.Namespace != "") == s.kind.Namespaced:
		from, err := s.path(storage.Key{Namespace: sel.Namespace, Name: sel.Name})
		if err != nil { // such a name cannot exist: an empty range
			return []byte(s.prefix), []byte(s.prefix), true
		}
		return from, append(from[:len(from):len(from)], 0), true
	case sel.Namespace != "" && s.kind.Namespaced:
		from = []byte(s.prefix + sel.Namespace + "/")
	default:
		from = []byte(s.prefix)
	}
	to = append([]byte(nil), from...)
	to[len(to)-1]++ // the slash at the end becomes the byte after it: the end of the prefix
	return from, to, sel.Name == "" && (sel.Namespace == "" || s.kind.Namespaced)
}
