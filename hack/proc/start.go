package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"pilothouse.dev/hack/netns"
)

// Spec is a program to start and leave running.
type Spec struct {
	Path  string
	Args  []string
	Env   []string // all of it: nothing is inherited
	Dir   string
	Log   string // its output is appended here
	Netns string // the network namespace to start in, by path; empty is ours
}

// Start starts a program that outlives us, in a session of its own, and returns its identity.
func Start(s Spec) (ID, error) {
	if err := os.MkdirAll(filepath.Dir(s.Log), 0o700); err != nil {
		return ID{}, fmt.Errorf("making the folder of %s: %w", s.Log, err)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return ID{}, fmt.Errorf("opening log: %w", err)
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: s.Path, Args: append([]string{s.Path}, s.Args...), Env: s.Env, Dir: s.Dir,
		Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := startIn(s.Netns, cmd); err != nil {
		return ID{}, fmt.Errorf("starting %s: %w", s.Path, err)
	}
	// Reaped if it ends while we are here; after us, init does it.
	id, err := Of(cmd.Process.Pid)
	go func() { _ = cmd.Wait() }()
	if err != nil {
		return ID{}, fmt.Errorf("starting %s: it ended at once, see %s", s.Path, s.Log)
	}
	return id, nil
}

// startIn starts cmd from a thread that stands in the namespace: a child inherits it. The thread never comes back, so it is
// not unlocked, and ends with its goroutine.
func startIn(ns string, cmd *exec.Cmd) error {
	if ns == "" {
		return cmd.Start()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Enter(ns)
		if err == nil {
			err = cmd.Start()
		}
		result <- err
	}()
	return <-result
}
