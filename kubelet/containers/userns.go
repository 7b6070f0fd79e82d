package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// A sandbox with users of its own has a user namespace, pinned beside the others, which belong to it. Its numbers 0 to 65535 are a range of the
// node's that no other sandbox has. What its containers are made of, layers and volumes, is mounted with that mapping (idmap.go), so there
// everything looks as in any other pod; only what a container writes into its own layer belongs on disk to users of the range.

const (
	// idsEach is how many users and groups a sandbox has, the least that programs expect.
	idsEach = 1 << 16
	// idRanges is how many ranges there are; the first of the node's numbers are its own users'.
	idRanges = 1<<15 - 2
)

// takeIDs gives a sandbox the lowest range that is free.
func (r *Runtime) takeIDs() (uint32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range uint32(idRanges) {
		if first := (i + 1) * idsEach; !r.ids[first] {
			r.ids[first] = true
			return first, nil
		}
	}
	return 0, errors.New("no range of user and group IDs is free")
}

// freeIDs gives a range back; 0 is none.
func (r *Runtime) freeIDs(first uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ids, first)
}

// rememberIDs finds the ranges again that sandboxes have.
func (r *Runtime) rememberIDs(ctx context.Context) error {
	records, err := r.client.ContainerService().List(ctx, filterKind(kindSandbox))
	if err != nil {
		return fmt.Errorf("listing sandboxes: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range records {
		if s := sandboxFrom(rec.ID, rec.Labels, rec.CreatedAt); s.FirstID != 0 {
			r.ids[s.FirstID] = true
		}
	}
	return nil
}

// mappings are what the OCI spec says of a sandbox's users; none if they are the node's.
func mappings(s Sandbox) []specs.LinuxIDMapping {
	if s.FirstID == 0 {
		return nil
	}
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: s.FirstID, Size: idsEach}}
}

// holder is a process that does nothing but live in new namespaces until they are pinned: a user namespace can only be made together with a process,
// for that of a program with many threads cannot be changed.
type holder struct{ cmd *exec.Cmd }

// hold starts a holder whose user namespace has the range, and which has namespaces of its own besides as the flags say. It ends with the thread that
// calls, so also with a kubelet that is killed: the caller has locked it.
func hold(firstID uint32, flags uintptr) (_ *holder, err error) {
	program, err := pauseProgram(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	// From memory: whatever folder is ours may be one from which nothing can be executed.
	fd, err := unix.MemfdCreate(pauseName, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file in memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), pauseName)
	defer file.Close()
	if _, err := file.Write(program); err != nil {
		return nil, fmt.Errorf("writing a program: %w", err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(firstID), Size: idsEach}}
	cmd := &exec.Cmd{Path: fmt.Sprintf("/proc/self/fd/%d", fd), Args: []string{"/" + pauseName}, Env: []string{}, Dir: "/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | flags, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
		Pdeathsig: unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("making a user namespace: %w", err)
	}
	return &holder{cmd}, nil
}

func (h *holder) namespace(name string) string {
	return fmt.Sprintf("/proc/%d/ns/%s", h.cmd.Process.Pid, name)
}

// end lets the holder go; namespaces that are pinned stay.
func (h *holder) end() error {
	if err := h.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("ending the holder of namespaces: %w", err)
	}
	// It was killed: that is the error.
	var killed *exec.ExitError
	if err := h.cmd.Wait(); err != nil && !errors.As(err, &killed) {
		return fmt.Errorf("waiting for the holder of namespaces: %w", err)
	}
	return nil
}

// pinOfUser makes the namespaces of a sandbox with users of its own, which all belong to its user namespace, and pins them. The calling thread has
// entered them when it returns.
func pinOfUser(p pins, flags int, names []string) (err error) {
	h, err := hold(p.firstID, uintptr(flags))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.end()) }()
	for _, name := range append(names, pinUser) {
		if err := bindFile(h.namespace(name), filepath.Join(p.dir, name)); err != nil {
			return fmt.Errorf("pinning namespace %s: %w", name, err)
		}
	}
	for _, name := range names {
		if err := enter(filepath.Join(p.dir, name)); err != nil {
			return fmt.Errorf("entering namespace %s: %w", name, err)
		}
	}
	return nil
}

func enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), 0)
}

// mapsOwners tries whether the kernel lets this process make a user namespace and map the owners of files in dir by it. What containers are made
// of needs Linux 5.19, files in memory 6.3.
func (r *Runtime) mapsOwners(dir string) bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	h, err := hold(idsEach, 0)
	if err == nil {
		var user *os.File
		if user, err = os.Open(h.namespace(pinUser)); err == nil {
			var tree io.Closer
			if tree, err = mapTree(dir, user); err == nil {
				tree.Close()
			}
			user.Close()
		}
		err = errors.Join(err, h.end())
	}
	if err != nil {
		r.log.Info("pods cannot have users of their own here", zap.Error(err))
	}
	return err == nil
}

// asRootOf runs f with the user of this thread being root of the range, whom alone the kernel lets set what belongs to its IPC namespace. 0 changes nothing.
func asRootOf(firstID uint32, f func() error) error {
	if firstID == 0 {
		return f()
	}
	const same = ^uintptr(0)
	change := func(id uint32) error { // the system call itself, for the one of the library changes all threads
		if _, _, no := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(id), same); no != 0 {
			return fmt.Errorf("changing the user of a thread: %w", no)
		}
		return nil
	}
	if err := change(firstID); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, change(0))
}
