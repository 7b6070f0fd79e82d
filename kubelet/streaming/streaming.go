// Package streaming carries commands, attachments and forwarded ports between an upgraded HTTP connection (SPDY or WebSocket) and a container.
//
// The kubelet's server calls it with a request that is already allowed. The protocols are those of kubectl, by the published module
// cri-streaming; here is what they are joined to. What always holds: when the client goes away, its command is killed and its connections are closed.
package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"

	"pilothouse.dev/kubelet/containers"
)

// creation is how long a client may take to open its streams.
const creation = 30 * time.Second

// Runtime runs and attaches.
type Runtime interface {
	Exec(ctx context.Context, id string, spec containers.ExecSpec) (int, error)
	Attach(ctx context.Context, id string, spec containers.AttachSpec) error
}

// Streams serves upgraded connections.
type Streams struct {
	rt   Runtime
	idle time.Duration
}

// New stores what it is given. A connection on which nothing was said for so long as idle is closed; 0: none is.
func New(rt Runtime, idle time.Duration) *Streams { return &Streams{rt, idle} }

// Exec runs the command of the request in a container.
func (s *Streams) Exec(w http.ResponseWriter, r *http.Request, containerID string, command []string) error {
	opts, err := options(r)
	if err != nil {
		return err
	}
	w, r, done := watch(w, r)
	defer done()
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		serveV5(w, r, opts, s.idle, func(ctx context.Context, in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) error {
			return bridge{s.rt}.ExecInContainer(ctx, "", "", containerID, command, in, out, errs, opts.TTY, resize, 0)
		})
		return nil
	}
	remotecommand.ServeExec(w, r, bridge{s.rt}, "", "", containerID, command, opts, s.idle, creation, remotecommand.SupportedStreamingProtocols)
	return nil
}

// Attach joins the request to a container's streams.
func (s *Streams) Attach(w http.ResponseWriter, r *http.Request, containerID string) error {
	opts, err := options(r)
	if err != nil {
		return err
	}
	w, r, done := watch(w, r)
	defer done()
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		serveV5(w, r, opts, s.idle, func(ctx context.Context, in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) error {
			return bridge{s.rt}.AttachContainer(ctx, "", "", containerID, in, out, errs, opts.TTY, resize)
		})
		return nil
	}
	remotecommand.ServeAttach(w, r, bridge{s.rt}, "", "", containerID, opts, s.idle, creation, remotecommand.SupportedStreamingProtocols)
	return nil
}

// options says which streams the client wants, by the names of kubelets (input=1) or of the API (stdin=true). A terminal has no stderr of its own.
func options(r *http.Request) (*remotecommand.Options, error) {
	q := r.URL.Query()
	is := func(names ...string) bool {
		for _, name := range names {
			if b, err := strconv.ParseBool(q.Get(name)); err == nil && b {
				return true
			}
		}
		return false
	}
	o := &remotecommand.Options{Stdin: is("input", "stdin"), Stdout: is("output", "stdout"), Stderr: is("error", "stderr"), TTY: is("tty")}
	if o.TTY {
		o.Stderr = false
	}
	if !o.Stdin && !o.Stdout && !o.Stderr {
		return nil, errors.New("you must specify at least 1 of stdin, stdout, stderr")
	}
	return o, nil
}

// PortForward carries connections to ports of a pod.
func (s *Streams) PortForward(w http.ResponseWriter, r *http.Request, pod Place) error {
	w, r, done := watch(w, r)
	defer done()
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		var tunnel *tunnelConn
		if w, r, tunnel = openTunnel(w, r); tunnel == nil {
			return nil // it has answered
		}
		defer tunnel.Close()
	}
	opts, err := portforward.NewV4Options(r)
	if err != nil {
		return err
	}
	portforward.ServePortForward(w, r, dialer{pod, r.Context().Done()}, "", "", opts, s.idle, creation, portforward.SupportedProtocols)
	return nil
}

// bridge joins the protocol to the runtime.
type bridge struct{ rt Runtime }

func (b bridge) ExecInContainer(ctx context.Context, _, _, id string, command []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, timeout time.Duration) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	spec := containers.ExecSpec{Args: command, TTY: tty, Stdin: in, Timeout: timeout, Resize: sizes(ctx, resize)}
	if out != nil {
		spec.Stdout = out
	}
	if errs != nil {
		spec.Stderr = errs
	}
	code, err := b.rt.Exec(ctx, id, spec)
	if err != nil {
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

func (b bridge) AttachContainer(ctx context.Context, _, _, id string, in io.Reader, out, errs io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	spec := containers.AttachSpec{Stdin: in, Resize: sizes(ctx, resize)}
	if out != nil {
		spec.Stdout = out
	}
	if errs != nil {
		spec.Stderr = errs
	}
	return b.rt.Attach(ctx, id, spec)
}

// sizes hands terminal sizes on until ctx ends or there are no more; nil without a terminal.
func sizes(ctx context.Context, in <-chan remotecommand.TerminalSize) <-chan containers.Size {
	if in == nil {
		return nil
	}
	out := make(chan containers.Size)
	go func() {
		defer close(out)
		for {
			select {
			case s, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- containers.Size{Width: s.Width, Height: s.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// dialer connects to a port of a pod.
type dialer struct {
	pod  Place
	gone <-chan struct{} // the client has hung up
}

func (d dialer) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := d.pod.dial(ctx, port)
	if err != nil {
		return fmt.Errorf("connecting to port %d of the pod: %w", port, err)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-d.gone:
		case <-done:
		}
		conn.Close()
	}()
	go func() { // ends with the stream, which the caller closes when this method has returned
		io.Copy(conn, stream)
		conn.CloseWrite() // what could not be sent shows at the other half, below
	}()
	if _, err := io.Copy(stream, conn); err != nil && !closed(err) {
		return fmt.Errorf("reading from port %d of the pod: %w", port, err)
	}
	return nil
}

// closed: one end has hung up, which is how such connections end.
func closed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "stream reset")
}
