// Package netns makes, enters and removes network namespaces that are pinned to a path by a bind mount, which is what a node
// of the local cluster is.
package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Create pins a new network namespace at path. One that is there already is left as it is.
func Create(path string) error {
	if Exists(path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the folder of %s: %w", path, err)
	}
	pin, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("making namespace file: %w", err)
	}
	pin.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making network namespace: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pinning network namespace to %s: %w", path, err)
		}
		return nil
	})
}

// Exists says whether a network namespace is pinned at path.
func Exists(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

// Remove unpins the namespace; it ends with its last process. Nothing there is no error.
func Remove(path string) error {
	for Exists(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unpinning network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing namespace file: %w", err)
	}
	return nil
}

// Enter moves the calling thread into the namespace; the caller has locked its thread and never unlocks it.
func Enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering network namespace %s: %w", path, err)
	}
	return nil
}

// Do runs f on a thread that stands in the namespace. What f starts on other goroutines does not stand there.
func Do(path string, f func() error) error {
	return onThread(func() error {
		if err := Enter(path); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which ends with it, so that no other goroutine ever finds itself elsewhere.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}
