package handlers

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A watch whose client does not read holds up nobody for longer than the moment it takes to notice.
func TestTurnsPassOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := make(turns, 1)
		slow, quick := all.join(), all.join()
		ctx := t.Context()
		if err := slow.take(ctx); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := quick.take(ctx); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(began); got != stuck {
			t.Errorf("the turn was passed on after %v, want %v", got, stuck)
		}
		quick.give()
		slow.give() // late: its turn is no longer its own
		for range 3 {
			if err := slow.take(ctx); err != nil {
				t.Fatal(err)
			}
			slow.give()
		}
		if n := len(all); n != 0 {
			t.Errorf("%d turns are taken by nobody", n)
		}
	})
}

func TestTurnsEndWithTheirContext(t *testing.T) {
	all := make(turns, 1)
	holder, other := all.join(), all.join()
	if err := holder.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := other.take(ctx); err == nil {
		t.Error("a watch that is over took a turn")
	}
	holder.give()
}

func BenchmarkTurn(b *testing.B) {
	t := newTurns().join()
	b.ReportAllocs()
	for b.Loop() {
		if err := t.take(b.Context()); err != nil {
			b.Fatal(err)
		}
		t.give()
	}
}
