// Package lookup reads objects by their types from the registry's stores, for the rooms below that must know something of the
// cluster to decide: admission, the proxy to nodes, the repair of addresses. It satisfies the small interfaces they declare.
//
// Reads come from the watch caches. What is not there may only just have been made, so a miss is asked again of the newest
// state; what was found may be a moment old. An object that does not exist is an apierrors NotFound. What is returned is the
// caller's own copy.
package lookup

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
)

// Lookup reads through a registry. Safe for concurrent use.
type Lookup struct{ reg *registry.Registry }

// New makes a Lookup; the registry may still grow.
func New(reg *registry.Registry) *Lookup { return &Lookup{reg} }

func core(plural string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: plural}
}

// get reads what is at hand, and what is not there of the newest state.
func get[T registry.Object](ctx context.Context, l *Lookup, gvr schema.GroupVersionResource, key storage.Key) (T, error) {
	return read[T](ctx, l, gvr, key, storage.Cached, storage.Read{})
}

// fresh reads the newest state.
func fresh[T registry.Object](ctx context.Context, l *Lookup, gvr schema.GroupVersionResource, key storage.Key) (T, error) {
	return read[T](ctx, l, gvr, key, storage.Read{})
}

// read reads in the ways given until one finds the object.
func read[T registry.Object](ctx context.Context, l *Lookup, gvr schema.GroupVersionResource, key storage.Key, ways ...storage.Read) (T, error) {
	var none T
	r := l.reg.Find(gvr)
	if r == nil {
		return none, apierrors.NewNotFound(gvr.GroupResource(), key.Name)
	}
	var e *storage.Entry
	var err error
	for _, way := range ways {
		if e, err = r.Store.Get(ctx, key, way); !errors.Is(err, storage.ErrNotFound) {
			break
		}
	}
	if errors.Is(err, storage.ErrNotFound) {
		return none, apierrors.NewNotFound(gvr.GroupResource(), key.Name)
	}
	if err != nil {
		return none, fmt.Errorf("looking up %s %s: %w", r.Singular, key, err)
	}
	obj, err := r.Decode(e)
	if err != nil {
		return none, fmt.Errorf("looking up %s %s: %w", r.Singular, key, err)
	}
	return obj.(T), nil
}

func list[T registry.Object](ctx context.Context, l *Lookup, gvr schema.GroupVersionResource, s storage.Selector, read storage.Read) ([]T, error) {
	r := l.reg.Find(gvr)
	if r == nil {
		return nil, nil
	}
	page, err := r.Store.List(ctx, storage.ListOptions{Selector: s, Read: read})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", r.Plural, err)
	}
	all := make([]T, 0, len(page.Entries))
	for _, e := range page.Entries {
		obj, err := r.Decode(e)
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", r.Plural, err)
		}
		all = append(all, obj.(T))
	}
	return all, nil
}
