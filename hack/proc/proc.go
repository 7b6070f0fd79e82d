// Package proc knows processes by what cannot be mistaken: pid and start time. The local cluster and its tests remember their
// daemons so, across commands, and end them so, never by a name. What a crash left unremembered is found by a mark in the
// environment or by cgroup.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ID is one process, for as long as the machine runs.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks from boot to the start of the process
}

// ErrGone is what asking about a process answers once it has ended.
var ErrGone = errors.New("process is gone")

// Of returns the identity of the process that has this pid now, ErrGone if none has or if it only waits to be reaped.
func Of(pid int) (ID, error) {
	state, start, err := stat(pid)
	if err != nil {
		return ID{}, err
	}
	if (state == 'Z' || state == 'X') && !threads(pid) {
		return ID{}, ErrGone
	}
	return ID{pid, start}, nil
}

// threads says whether a process whose first thread has ended still has others: until they have ended too, it holds its files
// and sockets.
func threads(pid int) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return err == nil && len(tasks) > 1
}

// Alive says whether the process still runs (stopped counts as running).
func (id ID) Alive() bool {
	now, err := Of(id.PID)
	return err == nil && now == id
}

// Paused says whether the process is stopped by a signal.
func (id ID) Paused() bool {
	state, start, err := stat(id.PID)
	return err == nil && start == id.Start && state == 'T'
}

// Signal sends sig to this process and to no other, however pids are reused meanwhile.
func (id ID) Signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", id.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor names one process for good: if that is ours now, it is ours when the signal arrives.
	if !id.Alive() {
		return ErrGone
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
		return ErrGone
	} else if err != nil {
		return fmt.Errorf("signalling process %d: %w", id.PID, err)
	}
	return nil
}

// Wait returns when the process is gone or ctx ends.
func (id ID) Wait(ctx context.Context) error {
	for id.Alive() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for process %d to end: %w", id.PID, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// End asks the processes to stop, gives them grace to do so, then kills them, and returns when all are gone.
func End(ctx context.Context, grace time.Duration, ids ...ID) error {
	for _, id := range ids {
		// A stopped process hears SIGTERM only once it goes on.
		if err := errors.Join(ignoreGone(id.Signal(unix.SIGTERM)), ignoreGone(id.Signal(unix.SIGCONT))); err != nil {
			return err
		}
	}
	patient, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for _, id := range ids {
		if id.Wait(patient) == nil {
			continue
		}
		if err := Kill(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends the processes at once and returns when they are gone.
func Kill(ctx context.Context, ids ...ID) error {
	for _, id := range ids {
		if err := ignoreGone(id.Signal(unix.SIGKILL)); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := id.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}

// WithEnv lists the processes that were started with this variable set to this value.
func WithEnv(key, value string) ([]ID, error) {
	mark := []byte(key + "=" + value)
	return all(func(dir string) bool {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			return false // it ended while we looked, or is the kernel's
		}
		for entry := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(entry, mark) {
				return true
			}
		}
		return false
	})
}

// all lists the living processes that match, this one excepted.
func all(match func(dir string) bool) ([]ID, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var found []ID
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		id, err := Of(pid)
		if err != nil || !match(filepath.Join("/proc", e.Name())) || !id.Alive() {
			continue
		}
		found = append(found, id)
	}
	return found, nil
}

// stat reads the state letter and the start time of a process.
func stat(pid int) (state byte, start uint64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, 0, ErrGone
	}
	if err != nil {
		return 0, 0, fmt.Errorf("reading the state of process %d: %w", pid, err)
	}
	// The second field is the program's name in brackets and may itself hold blanks and brackets; the fields are counted after it.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("reading the state of process %d: only %d fields", pid, len(fields))
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the start time of process %d: %w", pid, err)
	}
	return fields[0][0], start, nil
}
