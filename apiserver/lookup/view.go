package lookup

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
)

// View is what a whole kind means to a room, made anew only when an object of the kind has changed: for what is asked at every
// request, such as roles or flow schemas. Each object is turned into M once a revision; all of them into W once a change. Asking
// costs an atomic read while nothing changed. Safe for concurrent use.
//
// It is as fresh as the watch cache, a moment behind etcd.
type View[T registry.Object, M, W any] struct {
	look *Lookup
	gvr  schema.GroupVersionResource
	part func(T) M
	all  func([]M) W

	now atomic.Pointer[seen[W]]

	mu   sync.Mutex                // held while looking anew
	made map[storage.Key]madeOf[M] // guarded by mu
}

type madeOf[M any] struct {
	revision int64
	m        M
}

type seen[W any] struct {
	changes int64
	whole   W
}

// NewView makes a view of the kind at gvr, which may be registered later. part may keep the object it is given; all gets the parts
// in the order of their keys and must not keep the slice. Both are pure. What they return is shared: nobody changes it.
func NewView[T registry.Object, M, W any](l *Lookup, gvr schema.GroupVersionResource, part func(T) M, all func([]M) W) *View[T, M, W] {
	return &View[T, M, W]{look: l, gvr: gvr, part: part, all: all, made: map[storage.Key]madeOf[M]{}}
}

// Get returns the present meaning. With an error, nothing is known.
func (v *View[T, M, W]) Get(ctx context.Context) (W, error) {
	var none W
	r := v.look.reg.Find(v.gvr)
	if r == nil {
		return v.all(nil), nil
	}
	changes := changesOf(r.Store)
	if s := v.now.Load(); s != nil && changes >= 0 && s.changes == changes {
		return s.whole, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	changes = changesOf(r.Store) // before the list, so that what changes meanwhile is looked at again
	if s := v.now.Load(); s != nil && changes >= 0 && s.changes == changes {
		return s.whole, nil
	}
	page, err := r.Store.List(ctx, storage.ListOptions{Read: storage.Cached})
	if err != nil {
		return none, fmt.Errorf("listing %s: %w", r.Plural, err)
	}
	next := make(map[storage.Key]madeOf[M], len(page.Entries))
	parts := make([]M, 0, len(page.Entries))
	for _, e := range page.Entries {
		have, ok := v.made[e.Key]
		if !ok || have.revision != e.Revision {
			obj, err := r.Decode(e)
			if err != nil {
				return none, fmt.Errorf("reading %s %s: %w", r.Singular, e.Key, err)
			}
			have = madeOf[M]{e.Revision, v.part(obj.(T))}
		}
		next[e.Key] = have
		parts = append(parts, have.m)
	}
	v.made = next
	s := &seen[W]{changes, v.all(parts)}
	v.now.Store(s)
	return s.whole, nil
}

// changesOf is negative when the store does not count.
func changesOf(s storage.Store) int64 {
	if c, ok := s.(storage.Counted); ok {
		return c.Changes()
	}
	return -1
}
