package memory

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
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

func TestTextOf(t *testing.T) {
	const exe = "/opt/bin/apiserver"
	for line, want := range map[string]bool{
		"00400000-01a2c000 r-xp 00000000 fe:00 1234 /opt/bin/apiserver\n":         true,
		"01a2c000-03c2d000 r--p 0162c000 fe:00 1234 /opt/bin/apiserver\n":         true,
		"03c2d000-03d00000 rw-p 0382d000 fe:00 1234 /opt/bin/apiserver\n":         false,
		"03c2d000-03d00000 r--s 0382d000 fe:00 1234 /opt/bin/apiserver\n":         false,
		"7f0000000000-7f0000021000 r-xp 00000000 fe:00 99 /usr/lib/libc.so.6\n":   false,
		"c000000000-c000800000 rw-p 00000000 00:00 0 \n":                          false,
		"7ffd1000-7ffd2000 r-xp 00000000 00:00 0                          [vdso]": false,
	} {
		from, to, ok := textOf(line, exe)
		if ok != want || ok && to <= from {
			t.Errorf("%q: %x-%x %v", line, from, to, ok)
		}
	}
}

// The program goes on after its own code was unmapped, and holds less.
func TestDropText(t *testing.T) {
	before := fileBacked(t)
	if err := dropText(); err != nil {
		t.Fatal(err)
	}
	if after := fileBacked(t); after >= before {
		t.Errorf("%d KiB of files were resident, now %d", before, after)
	}
}

func fileBacked(t *testing.T) (kib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "RssFile:"); ok {
			if _, err := fmt.Sscan(v, &kib); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kib
}
