// Package authztest is what the tests of sources of rules share: a feed that tells what is put into it.
package authztest

import (
	"context"
	"testing"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/storage"
)

// Feed is an authz.Feed. Make it with NewFeed; it is for one goroutine.
type Feed struct {
	Lost bool                           // history: the next pull begins anew with what there is
	Fail error                          // of the next pulls
	Have map[storage.Key]*storage.Entry // what there is

	t      testing.TB
	begun  bool
	events []storage.Event
}

// NewFeed makes one that has nothing to tell; t fails when an object cannot be encoded.
func NewFeed(t testing.TB) *Feed { return &Feed{t: t, Have: map[storage.Key]*storage.Entry{}} }

// Behind implements authz.Feed.
func (f *Feed) Behind() bool { return !f.begun || f.Lost || f.Fail != nil || len(f.events) > 0 }

// Newest implements authz.Feed.
func (f *Feed) Newest(context.Context) error { return f.Fail }

// Pull implements authz.Feed.
func (f *Feed) Pull(_ context.Context, reset func(), each func(storage.Event)) error {
	if f.Fail != nil {
		return f.Fail
	}
	if !f.begun || f.Lost {
		f.begun, f.Lost, f.events = true, false, nil
		reset()
		for _, e := range f.Have {
			each(storage.Event{Type: storage.Added, Entry: e})
		}
	}
	for _, e := range f.events {
		each(e)
	}
	f.events = nil
	return nil
}

// Put tells an object as it is now.
func (f *Feed) Put(o codec.Object) {
	f.t.Helper()
	value, err := codec.Marshal(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Tell(&storage.Entry{Key: storage.Key{Namespace: o.GetNamespace(), Name: o.GetName()}, Revision: 1, Value: value})
}

// Tell tells an entry, whatever its bytes.
func (f *Feed) Tell(e *storage.Entry) {
	f.Have[e.Key] = e
	f.events = append(f.events, storage.Event{Type: storage.Modified, Entry: e})
}

// Drop tells that an object is gone.
func (f *Feed) Drop(namespace, name string) {
	key := storage.Key{Namespace: namespace, Name: name}
	f.events = append(f.events, storage.Event{Type: storage.Deleted, Entry: f.Have[key]})
	delete(f.Have, key)
}
