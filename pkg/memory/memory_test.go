package memory

import (
	"debug/elf"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
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

func TestDroppable(t *testing.T) {
	load := func(vaddr, size uint64, flags elf.ProgFlag) *elf.Prog {
		return &elf.Prog{ProgHeader: elf.ProgHeader{Type: elf.PT_LOAD, Vaddr: vaddr, Filesz: size, Memsz: size, Flags: flags}}
	}
	for _, c := range []struct {
		name     string
		segments []*elf.Prog
		maps     string
		want     []span
	}{
		{"static", []*elf.Prog{load(0x400000, 0x1f00, elf.PF_R|elf.PF_X), load(0x402000, 0x1000, elf.PF_R), load(0x403000, 0x2000, elf.PF_R|elf.PF_W)}, `
00400000-00402000 r-xp 00000000 fe:00 7 /bin/x
00402000-00403000 r--p 00002000 fe:00 7 /bin/x
00403000-00405000 rw-p 00003000 fe:00 7 /bin/x
c000000000-c000800000 rw-p 00000000 00:00 0
7f0000000000-7f0000021000 r-xp 00000000 fe:00 9 /lib/libc.so.6
7ffd1000-7ffd2000 r-xp 00000000 00:00 0 [vdso]
`, []span{{0x400000, 0x402000}, {0x402000, 0x403000}}},
		{"with the loader's addresses write-protected", []*elf.Prog{load(0x400000, 0x1f00, elf.PF_R|elf.PF_X), load(0x402e00, 0x2200, elf.PF_R|elf.PF_W)}, `
00400000-00402000 r-xp 00000000 fe:00 7 /bin/x
00402000-00403000 r--p 00001000 fe:00 7 /bin/x
00403000-00405000 rw-p 00002000 fe:00 7 /bin/x
`, []span{{0x400000, 0x402000}}},
		{"anywhere", []*elf.Prog{load(0, 0x1000, elf.PF_R), load(0x1000, 0x1000, elf.PF_R|elf.PF_X), load(0x2f00, 0x1100, elf.PF_R|elf.PF_W)}, `
55d000000000-55d000001000 r--p 00000000 fe:00 7 /bin/x
55d000001000-55d000002000 r-xp 00001000 fe:00 7 /bin/x
55d000002000-55d000003000 r--p 00002000 fe:00 7 /bin/x
55d000003000-55d000004000 rw-p 00003000 fe:00 7 /bin/x
`, []span{{0x55d000000000, 0x55d000001000}, {0x55d000001000, 0x55d000002000}}},
	} {
		if got := droppable([]byte(c.maps), "/bin/x", c.segments); !slices.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", c.name, got, c.want)
		}
	}
}

// The program goes on after its own code was unmapped, and holds less. New threads are what needs the dynamic loader's addresses
// first, where a program is linked dynamically.
func TestDropText(t *testing.T) {
	before := fileBacked(t)
	if err := dropText(); err != nil {
		t.Fatal(err)
	}
	if after := fileBacked(t); after >= before {
		t.Errorf("%d KiB of files were resident, now %d", before, after)
	}
	var threads sync.WaitGroup
	all := make(chan struct{})
	for range 32 {
		threads.Go(func() {
			runtime.LockOSThread() // and ends with its goroutine
			<-all
		})
	}
	close(all)
	threads.Wait()
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
