package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/protobuf"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// execDrainIdle is how long output may pause after the command ended: a child left behind keeps the stream open, and is not waited for.
const execDrainIdle = 500 * time.Millisecond

// Exec runs a command in a running container and returns its exit code once it ended and its output was delivered. A command that cannot
// be started is an error (wrapping what the OCI runtime says); a code other than 0 is not. When ctx ends or the timeout passes the command is
// killed. A read of Stdin under way when Exec returns is not waited for.
func (r *Runtime) Exec(ctx context.Context, id string, spec ExecSpec) (code int, err error) {
	outer := ctx
	if spec.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, spec.Timeout)
		defer cancel()
	}
	ctx = r.scope(ctx)
	process, err := r.execProcess(ctx, id, spec)
	if err != nil {
		return 0, err
	}
	execID := "exec-" + newID()[:16]
	streams, err := makeStdio(filepath.Join(r.stdioDir(id), execID), spec.TTY, spec.Stdin != nil, r.log)
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, streams.finish(execDrainIdle))
	}()
	if err := r.createExec(ctx, id, execID, process, streams); err != nil {
		return 0, err
	}
	defer func() {
		clean, cancel := r.undo(ctx)
		defer cancel()
		err = errors.Join(err, r.dropExec(clean, id, execID))
	}()
	if _, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id, ExecID: execID}); err != nil {
		return 0, fmt.Errorf("starting command: %w", errdefs.FromGRPC(err))
	}
	// A command's FIFOs are opened by the shim at its start, not, as a container's, when it is made.
	streams.start(execSink{out: spec.Stdout, err: spec.Stderr})
	if spec.Stdin != nil {
		go r.feedExec(ctx, id, execID, streams, spec.Stdin)
	}
	if spec.TTY {
		work, cancel := context.WithCancel(ctx)
		defer cancel()
		go r.resize(work, id, execID, spec.Resize)
	}
	end, err := r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id, ExecID: execID})
	if err != nil && outer.Err() == nil && ctx.Err() != nil {
		return 0, fmt.Errorf("after %s: %w", spec.Timeout, ErrTimeout)
	}
	if err != nil {
		return 0, fmt.Errorf("waiting for command: %w", errdefs.FromGRPC(err))
	}
	streams.expire(execDrainIdle)
	return int(end.ExitStatus), nil
}

// execProcess is the container's own process with other arguments.
func (r *Runtime) execProcess(ctx context.Context, id string, spec ExecSpec) (*specs.Process, error) {
	if len(spec.Args) == 0 {
		return nil, fmt.Errorf("no command given: %w", ErrUnsupported)
	}
	rec, err := r.record(ctx, id)
	if err != nil {
		return nil, err
	}
	if containerFrom(id, rec.Labels, rec.CreatedAt).State != Running {
		return nil, fmt.Errorf("container %s: %w", id, ErrNotRunning)
	}
	var full specs.Spec
	if err := typeurl.UnmarshalTo(rec.Spec, &full); err != nil {
		return nil, fmt.Errorf("decoding container spec: %w", err)
	}
	p := full.Process
	p.Args = spec.Args
	p.Terminal = spec.TTY
	if spec.TTY {
		p.Env = append(p.Env, "TERM=xterm")
	}
	return p, nil
}

func (r *Runtime) createExec(ctx context.Context, id, execID string, process *specs.Process, streams *stdio) error {
	encoded, err := typeurl.MarshalAny(process)
	if err != nil {
		return fmt.Errorf("encoding command: %w", err)
	}
	in, out, stderr := streams.paths()
	_, err = r.client.TaskService().Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: id,
		ExecID:      execID,
		Terminal:    process.Terminal,
		Stdin:       in,
		Stdout:      out,
		Stderr:      stderr,
		Spec:        protobuf.FromAny(encoded),
	})
	if err = errdefs.FromGRPC(err); errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s: %w", id, ErrNotRunning)
	}
	if err != nil {
		return fmt.Errorf("creating command: %w", err)
	}
	return nil
}

// dropExec forgets a command, killing it if it still runs.
func (r *Runtime) dropExec(ctx context.Context, id, execID string) error {
	service := r.client.TaskService()
	_, err := service.DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: execID})
	if err = errdefs.FromGRPC(err); err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	_, err = service.Kill(ctx, &tasks.KillRequest{ContainerID: id, ExecID: execID, Signal: uint32(unix.SIGKILL)})
	if err = errdefs.FromGRPC(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("killing command: %w", err)
	}
	if _, err := service.Wait(ctx, &tasks.WaitRequest{ContainerID: id, ExecID: execID}); err != nil && !errdefs.IsNotFound(errdefs.FromGRPC(err)) {
		return fmt.Errorf("waiting for killed command: %w", errdefs.FromGRPC(err))
	}
	_, err = service.DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: execID})
	if err = errdefs.FromGRPC(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("deleting command: %w", err)
	}
	return nil
}

func (r *Runtime) feedExec(ctx context.Context, id, execID string, streams *stdio, from io.Reader) {
	if _, err := io.Copy(streams.in, from); err != nil {
		r.log.Debug("copying standard input", zap.String("container", id), zap.Error(err))
	}
	streams.in.Close()
	_, err := r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, ExecID: execID, Stdin: true})
	if err != nil && ctx.Err() == nil {
		r.log.Debug("closing standard input", zap.String("container", id), zap.Error(err))
	}
}

// execSink gives a command's output to its caller.
type execSink struct{ out, err io.Writer }

func (s execSink) Stdout() io.Writer { return orDiscard(s.out) }
func (s execSink) Stderr() io.Writer { return orDiscard(s.err) }
func (s execSink) Close() error      { return nil }

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
