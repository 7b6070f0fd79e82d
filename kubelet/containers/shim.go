package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/runtime/v2/shim"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

const (
	shimDial = time.Second
	shimEnd  = 5 * time.Second // for all that is asked of a shim that should be gone
	shimPoll = 20 * time.Millisecond
)

// endShim ends the shim that a sandbox's containers shared, if it is still there. It ends by itself with its last container; but a kubelet that
// is killed while containerd makes a task takes that call down with it, and then containerd knows of no task while the shim waits for one,
// or even holds the container. ids are the containers that it may hold. The caller holds the sandbox's lock and has removed the containers.
func (r *Runtime) endShim(ctx context.Context, sandbox string, ids []string) error {
	address, err := shim.SocketAddress(ctx, r.cfg.Address, sandbox)
	if err != nil {
		return fmt.Errorf("finding the shim's socket: %w", err)
	}
	path := strings.TrimPrefix(address, "unix://")
	conn, err := net.DialTimeout("unix", path, shimDial)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ECONNREFUSED): // it was killed, and left its socket
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the socket of a shim: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("calling the shim: %w", err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, shimEnd)
	defer cancel()
	tasks := taskv2.NewTaskClient(client)
	for _, id := range ids {
		// A container that it does not hold is the rule here; what fails otherwise shows below, when it does not end.
		_, _ = tasks.Kill(ctx, &taskv2.KillRequest{ID: id, Signal: uint32(unix.SIGKILL), All: true})
	}
	tick := time.NewTicker(shimPoll)
	defer tick.Stop()
	for {
		for _, id := range ids {
			_, _ = tasks.Delete(ctx, &taskv2.DeleteRequest{ID: id})
		}
		_, err := tasks.Shutdown(ctx, &taskv2.ShutdownRequest{ID: sandbox})
		if errors.Is(err, ttrpc.ErrClosed) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the shim of a sandbox that is removed does not end: %w", errors.Join(ctx.Err(), err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
