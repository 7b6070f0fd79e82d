package proc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pilothouse.dev/hack/netns"
)

func sleeper(t *testing.T, env ...string) ID {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	id, err := Start(Spec{Path: path, Args: []string{"300"}, Env: env, Dir: "/", Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Kill(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	return id
}

func TestLife(t *testing.T) {
	id := sleeper(t)
	if !id.Alive() {
		t.Fatal("a started process is not alive")
	}
	other := ID{id.PID, id.Start + 1}
	if other.Alive() {
		t.Error("a process with another start time is taken for this one")
	}
	if err := other.Signal(unix.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signalling a predecessor of the same pid: %v, want %v", err, ErrGone)
	}
	if !id.Alive() {
		t.Error("a signal to a predecessor of the same pid has ended this process")
	}
	if err := End(t.Context(), 10*time.Second, id); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Error("an ended process is alive")
	}
}

func TestEndOfPaused(t *testing.T) {
	id := sleeper(t)
	if err := id.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for !id.Paused() {
		time.Sleep(time.Millisecond)
	}
	if err := End(t.Context(), 10*time.Second, id); err != nil {
		t.Fatal(err)
	}
}

func TestWithEnv(t *testing.T) {
	mark := t.TempDir()
	marked := sleeper(t, "PROC_TEST="+mark)
	sleeper(t, "PROC_TEST="+mark+"x")
	found, err := WithEnv("PROC_TEST", mark)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, []ID{marked}) {
		t.Errorf("found %v, want only %v", found, marked)
	}
}

func TestStartInNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a network namespace and needs root")
	}
	ns := filepath.Join(t.TempDir(), "ns")
	if err := netns.Create(ns); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := netns.Remove(ns); err != nil {
			t.Error(err)
		}
	}()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	id, err := Start(Spec{Path: path, Args: []string{"300"}, Dir: "/", Log: filepath.Join(t.TempDir(), "log"), Netns: ns})
	if err != nil {
		t.Fatal(err)
	}
	defer Kill(context.Background(), id)
	var there, pinned unix.Stat_t
	if err := unix.Stat(filepath.Join("/proc", strconv.Itoa(id.PID), "ns/net"), &there); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(ns, &pinned); err != nil {
		t.Fatal(err)
	}
	if there.Ino != pinned.Ino {
		t.Error("the process is not in the namespace it was started in")
	}
}

func TestLogIsAppended(t *testing.T) {
	log := filepath.Join(t.TempDir(), "logs", "log")
	for range 2 {
		id, err := Start(Spec{Path: "/bin/sh", Args: []string{"-c", "sleep 0.05; echo hello"}, Dir: "/", Log: log})
		if err != nil {
			t.Fatal(err)
		}
		if err := id.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != "hello\nhello\n" {
		t.Errorf("log is %q", data)
	}
}
