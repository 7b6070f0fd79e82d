package watchcache

import (
	"errors"
	"fmt"
	"testing"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/storagetest"
)

// A paged list expires when its revision is compacted, however often it is asked for, also when memory still has the state.
func TestContinueExpiresWithHistory(t *testing.T) {
	ctx, db := t.Context(), openDB(t, shared)
	c := runCaches(t, db, storagetest.Pods())
	loaded(t, c)
	pods := c.Store(storagetest.Pods())
	for i := range 5 {
		if _, err := pods.Create(ctx, k(fmt.Sprint(i)), obj(""), 0); err != nil {
			t.Fatal(err)
		}
	}
	first, err := pods.List(ctx, storage.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	next := storage.ListOptions{Limit: 2, Continue: first.Continue}
	if _, err := pods.List(ctx, next); err != nil {
		t.Fatal(err)
	}
	last, err := pods.Create(ctx, k("last"), obj(""), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Compact(ctx, last.Revision); err != nil {
		t.Fatal(err)
	}
	var expired *storage.Expired
	if _, err := pods.List(ctx, next); !errors.As(err, &expired) {
		t.Fatalf("after the compaction: %v", err)
	}
	rest, err := pods.List(ctx, storage.ListOptions{Continue: expired.Continue})
	if err != nil || len(rest.Entries) != 4 || rest.Revision < last.Revision {
		t.Fatalf("the inconsistent rest: %+v, %v", rest, err)
	}
}
