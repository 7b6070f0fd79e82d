package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A sandbox's pins are files in its folder on which its namespaces are bind-mounted, and a tmpfs its containers share as /dev/shm.
const (
	pinNet  = "net"
	pinIPC  = "ipc"
	pinUTS  = "uts"
	pinPID  = "pid"  // of a shared PID namespace
	pinUser = "user" // of a sandbox with users of its own
	pinShm  = "shm"

	shmSize  = 64 << 20
	nsfsKind = 0x6e736673
)

// pins are the namespaces to make; empty flags make nothing but the folder.
type pins struct {
	dir      string
	net, ipc bool   // uts comes with net: a pod on the node's network has the node's name
	firstID  uint32 // of a user namespace; 0: the node's
	hostname string
	sysctls  map[string]string
}

// makePins makes the namespaces. It does so in a thread of its own that is never given back to the scheduler: when the goroutine
// ends locked, Go ends the thread, so no other goroutine ever runs in the pod's namespaces. Not so the process's first thread, which Go only
// parks: it would hold the pod's network for ever, and /proc/self would show it as the kubelet's.
func makePins(p pins) error {
	if err := os.MkdirAll(p.dir, 0o711); err != nil {
		return fmt.Errorf("making pin folder: %w", err)
	}
	if p.ipc {
		if err := mountShm(filepath.Join(p.dir, pinShm), p.firstID); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	go onOwnThread(func() { done <- pinHere(p) })
	return <-done
}

// onOwnThread runs f on a thread that is not the first, and spoils the thread.
func onOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	// While this goroutine holds the first thread, another one cannot be on it.
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		onOwnThread(f)
	}()
	<-done
}

// pinHere unshares the calling thread and pins what it then lives in.
func pinHere(p pins) error {
	var flags int
	var names []string
	if p.net {
		flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
		names = append(names, pinNet, pinUTS)
	}
	if p.ipc {
		flags |= unix.CLONE_NEWIPC
		names = append(names, pinIPC)
	}
	if p.firstID != 0 {
		if err := pinOfUser(p, flags, names); err != nil {
			return err
		}
	} else if flags != 0 {
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("making namespaces: %w", err)
		}
	}
	if p.net {
		if err := unix.Sethostname([]byte(p.hostname)); err != nil {
			return fmt.Errorf("setting hostname: %w", err)
		}
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("setting loopback up: %w", err)
		}
	}
	for name, value := range p.sysctls {
		if err := setSysctl(name, value, p); err != nil {
			return err
		}
	}
	for _, name := range names {
		if p.firstID != 0 {
			break // pinned already
		}
		from := fmt.Sprintf("/proc/self/task/%d/ns/%s", unix.Gettid(), name)
		if err := bindFile(from, filepath.Join(p.dir, name)); err != nil {
			return fmt.Errorf("pinning namespace %s: %w", name, err)
		}
	}
	return nil
}

// setSysctl refuses names that would reach the node's own namespaces.
func setSysctl(name, value string, p pins) error {
	name = strings.NewReplacer(".", "/", "/", ".").Replace(name) // a slash stands for a dot within a part
	ipc := strings.HasPrefix(name, "kernel/shm") || strings.HasPrefix(name, "kernel/msg") || name == "kernel/sem" || strings.HasPrefix(name, "fs/mqueue/")
	inPod := ipc && p.ipc || strings.HasPrefix(name, "net/") && p.net
	if !inPod || strings.Contains(name, "..") {
		return fmt.Errorf("sysctl %s is not the pod's own: %w", name, ErrUnsupported)
	}
	write := func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644) }
	err := error(nil)
	if ipc {
		err = asRootOf(p.firstID, write)
	} else {
		err = write()
	}
	if err != nil {
		return fmt.Errorf("setting sysctl: %w", err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

func bindFile(from, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	return unix.Mount(from, to, "", unix.MS_BIND, "")
}

func mountShm(dir string, owner uint32) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making shared memory folder: %w", err)
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=1777,size=%d,uid=%d,gid=%d", shmSize, owner, owner)); err != nil {
		return fmt.Errorf("mounting shared memory: %w", err)
	}
	return nil
}

// removePins takes the pins in a folder down; safe if they were never made or only half.
func removePins(dir string) error {
	for _, name := range []string{pinNet, pinIPC, pinUTS, pinPID, pinUser, pinShm} {
		path := filepath.Join(dir, name)
		for {
			err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if err == nil {
				continue // something may be mounted below
			}
			if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
				break // not a mount
			}
			return fmt.Errorf("unmounting pin %s: %w", name, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing pin: %w", err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing pin folder: %w", err)
	}
	return nil
}

// isPinned tells whether a namespace is still mounted at path.
func isPinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == nsfsKind
}
