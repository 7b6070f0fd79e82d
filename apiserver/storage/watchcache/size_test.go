package watchcache

import (
	"fmt"
	"testing"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/storagetest"
	"pilothouse.dev/pkg/logging"
)

func TestSize(t *testing.T) {
	db := openDB(t, shared)
	for _, c := range []struct{ ns, name string }{{"a", "1"}, {"a", "2"}, {"a-b", "3"}, {"ab", "4"}, {"b", "5"}} {
		key := storage.Key{Namespace: c.ns, Name: c.name}
		if _, err := db.Store(storagetest.Pods()).Create(t.Context(), key, storagetest.Object{}.Bytes(), 0); err != nil {
			t.Fatal(err)
		}
	}
	asleep := New(db, logging.ForTest(t)).Store(storagetest.Pods()).(storage.Sized)
	if got := asleep.Size("", 100); got != -1 {
		t.Errorf("not loaded: %d", got)
	}
	store := runCaches(t, db, storagetest.Pods()).Store(storagetest.Pods())
	if _, err := store.Watch(t.Context(), storage.WatchOptions{}); err != nil { // it is loaded then
		t.Fatal(err)
	}
	got := ""
	for _, ns := range []string{"", "a", "ab", "b", "c"} {
		got += fmt.Sprint(store.(storage.Sized).Size(ns, 100), store.(storage.Sized).Size(ns, 1), " ")
	}
	if got != "5 1 2 1 1 1 1 1 0 0 " {
		t.Errorf("sizes %s", got)
	}
}
