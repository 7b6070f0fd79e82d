package memory

import (
	"runtime/debug"
	"testing"
)

func TestWorthwhile(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name       string
		allocated  uint64
		live, held uint64
		want       bool
	}{
		{"busy", 50 * mib, 20 * mib, 60 * mib, false},
		{"idle after load", 1 * mib, 20 * mib, 60 * mib, true},
		{"idle and small already", 1 * mib, 20 * mib, 24 * mib, false},
		{"idle, little to win", 0, 2 * mib, 7 * mib, false},
		{"large heap, little to win of it", 1 * mib, 1000 * mib, 1100 * mib, false},
		{"large heap, much to win", 1 * mib, 1000 * mib, 1300 * mib, true},
	} {
		if got := worthwhile(c.allocated, heap{live: c.live, held: c.held}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Giving back works: what was held for garbage is no longer, so the next tick finds nothing to do.
func TestGivesBack(t *testing.T) {
	garbage := make([][]byte, 64)
	for i := range garbage {
		garbage[i] = make([]byte, 1<<20)
	}
	for i := range garbage {
		garbage[i][0] = 1
	}
	full := read()
	garbage = nil
	debug.FreeOSMemory()
	now := read()
	if full.held < now.held+32<<20 {
		t.Errorf("held %d bytes before and %d after", full.held, now.held)
	}
	if worthwhile(0, now) {
		t.Errorf("it would be done again at once: %+v", now)
	}
}
