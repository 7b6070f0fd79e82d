package memory

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// dropText unmaps the pages of the program file: code and constants that only the start or a load needed. They stay in the
// system's page cache, shared by all who run the same file, and whatever is needed again comes back from there, 16 pages a fault.
//
// Only segments that the file declares read-only are touched. A mapping that merely is read-only now may have been written to: the
// dynamic loader makes the addresses in its part of the data segment (RELRO) and then write-protects them, and dropping those pages
// would bring back what the file says, which is nothing.
func dropText() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("reading the memory map: %w", err)
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("finding the program file: %w", err)
	}
	file, err := elf.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("reading the program file: %w", err)
	}
	defer file.Close()
	exe = strings.TrimSuffix(exe, " (deleted)") // replaced by a newer one while it runs
	for _, r := range droppable(maps, exe, file.Progs) {
		// Not unix.Madvise: that wants a slice, and the memory is not Go's.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.from, r.to-r.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmapping %x-%x: %w", r.from, r.to, errno)
		}
	}
	return nil
}

// span is addresses from, to not included.
type span struct{ from, to uintptr }

// droppable are the mappings of the program file that no writable segment of it reaches into.
func droppable(maps []byte, exe string, segments []*elf.Prog) []span {
	page := uintptr(os.Getpagesize())
	var lowest uintptr
	known := false
	var written []span
	for _, s := range segments {
		if s.Type != elf.PT_LOAD {
			continue
		}
		from := uintptr(s.Vaddr) &^ (page - 1)
		if !known || from < lowest {
			lowest, known = from, true
		}
		if s.Flags&elf.PF_W != 0 {
			written = append(written, span{from, (uintptr(s.Vaddr+s.Memsz) + page - 1) &^ (page - 1)})
		}
	}
	var out []span
	var bias uintptr // of where the file is, to where it says it wants to be
	for first, line := range mappings(maps, exe) {
		if first {
			bias = line.from - lowest
		}
		if line.perms != "r-xp" && line.perms != "r--p" {
			continue
		}
		clean := true
		for _, w := range written {
			clean = clean && (line.to <= w.from+bias || line.from >= w.to+bias)
		}
		if clean {
			out = append(out, line.span)
		}
	}
	return out
}

type mapping struct {
	span
	perms string
}

// mappings yields the mappings of one file out of proc(5)'s maps, which are in the order of addresses, and which is the first.
func mappings(maps []byte, path string) func(yield func(first bool, m mapping) bool) {
	return func(yield func(bool, mapping) bool) {
		first := true
		for line := range bytes.Lines(maps) {
			var m mapping
			var device, file string
			var offset, inode uint64
			n, err := fmt.Sscanf(string(line), "%x-%x %s %x %s %d %s", &m.from, &m.to, &m.perms, &offset, &device, &inode, &file)
			if n < 7 || err != nil || file != path {
				continue // anonymous memory has no file
			}
			if !yield(first, m) {
				return
			}
			first = false
		}
	}
}
