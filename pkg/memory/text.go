package memory

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// dropText unmaps the pages of the program file: code and constants that only the start or a load needed. They stay in the
// system's page cache, shared by all who run the same file, and whatever is needed again comes back from there, 16 pages a fault.
// Only mappings that nobody can have written to are touched.
func dropText() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("reading the memory map: %w", err)
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("finding the program file: %w", err)
	}
	exe = strings.TrimSuffix(exe, " (deleted)") // replaced by a newer one while it runs
	for line := range bytes.Lines(maps) {
		from, to, ok := textOf(string(line), exe)
		if !ok {
			continue
		}
		// Not unix.Madvise: that wants a slice, and the memory is not Go's.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmapping %x-%x: %w", from, to, errno)
		}
	}
	return nil
}

// textOf reads a line of proc(5)'s maps; ok says that it is a read-only private mapping of the file exe.
func textOf(line, exe string) (from, to uintptr, ok bool) {
	var perms, device, path string
	var offset, inode uint64
	if n, err := fmt.Sscanf(line, "%x-%x %s %x %s %d %s", &from, &to, &perms, &offset, &device, &inode, &path); n < 7 || err != nil {
		return 0, 0, false
	}
	return from, to, path == exe && (perms == "r-xp" || perms == "r--p")
}
