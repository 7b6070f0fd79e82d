package stats

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk is how much of a file system is left, and how much there is.
type Disk struct {
	Available, Capacity    uint64 // bytes, for whoever is not root
	Free                   uint64 // bytes, root's reserve included
	InodesFree, InodesHave uint64 // 0 of 0 where the file system does not count them
	Device                 uint64 // two folders of one device share all of it
}

// DiskOf looks at the file system that holds a folder.
func DiskOf(path string) (Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Disk{}, fmt.Errorf("reading the disk of %s: %w", path, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return Disk{}, fmt.Errorf("reading the disk of %s: %w", path, err)
	}
	size := uint64(fs.Bsize)
	return Disk{Available: fs.Bavail * size, Free: fs.Bfree * size, Capacity: fs.Blocks * size, InodesFree: fs.Ffree, InodesHave: fs.Files, Device: st.Dev}, nil
}

// FreeMemory is what is left of the machine's memory as Kubernetes counts it for eviction: all of it without the working set, which is what is in
// use without the file cache that was not touched lately (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
func FreeMemory() (available, capacity uint64, err error) {
	have, err := Memory()
	if err != nil {
		return 0, 0, err
	}
	return min(have["MemFree"]+have["Inactive(file)"], have["MemTotal"]), have["MemTotal"], nil
}

// Processes is how many more processes and threads the machine can have, and how many it could have in all.
func Processes() (available, capacity uint64, err error) {
	for _, path := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		data, err := os.ReadFile(path)
		if err != nil {
			return 0, 0, fmt.Errorf("reading the greatest number of processes: %w", err)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("reading the greatest number of processes: %w", err)
		}
		if capacity == 0 || n < capacity {
			capacity = n
		}
	}
	load, err := os.ReadFile("/proc/loadavg") // 0.1 0.2 0.3 running/all last
	if err != nil {
		return 0, 0, fmt.Errorf("reading the number of processes: %w", err)
	}
	words := strings.Fields(string(load))
	if len(words) < 4 {
		return 0, 0, fmt.Errorf("reading the number of processes: %q", load)
	}
	_, all, _ := strings.Cut(words[3], "/")
	n, err := strconv.ParseUint(all, 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the number of processes: %w", err)
	}
	return capacity - min(n, capacity), capacity, nil
}

// Folder is what a folder holds.
type Folder struct{ Bytes, Inodes uint64 }

// FolderOf counts what is below a folder, the folder included: blocks as the disk gives them, a file with several names once, other file systems
// that are mounted below not at all. A folder that is not there holds nothing; what goes away during the walk is left out. It ends early when ctx does.
func FolderOf(ctx context.Context, path string) (Folder, error) {
	var sum Folder
	var device uint64
	linked := map[uint64]bool{}
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return err
		}
		if p == path {
			device = st.Dev
		}
		if st.Dev != device {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			if linked[st.Ino] {
				return nil
			}
			linked[st.Ino] = true
		}
		sum.Bytes += uint64(st.Blocks) * 512
		sum.Inodes++
		return nil
	})
	if err != nil {
		return Folder{}, fmt.Errorf("measuring %s: %w", path, err)
	}
	return sum, nil
}
