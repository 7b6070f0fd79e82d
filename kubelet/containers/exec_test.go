package containers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"pilothouse.dev/kubelet/containers"
)

func TestExec(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	id := n.start(s, containers.ContainerSpec{Args: []string{"sleep", "1000"}})
	ctx := context.Background()

	t.Run("streams and code", func(t *testing.T) {
		var out, errs bytes.Buffer
		code, err := n.rt.Exec(ctx, id, containers.ExecSpec{
			Args:   []string{"sh", "-c", "cat; echo oops >&2; exit 3"},
			Stdin:  strings.NewReader("typed"),
			Stdout: &out,
			Stderr: &errs,
		})
		if err != nil || code != 3 || out.String() != "typed" || errs.String() != "oops\n" {
			t.Fatalf("got %d, %v, %q, %q", code, err, out.String(), errs.String())
		}
	})
	t.Run("much output to a slow reader", func(t *testing.T) {
		const size = 4 << 20
		in, out := io.Pipe()
		count := make(chan int64)
		go func() {
			// Nothing is read before the command has long filled every buffer on the way.
			total, err := io.Copy(io.Discard, in)
			if err != nil {
				t.Error(err)
			}
			count <- total
		}()
		code, err := n.rt.Exec(ctx, id, containers.ExecSpec{Args: []string{"dd", "if=/dev/zero", "bs=65536", "count=64"}, Stdout: out})
		out.Close()
		if got := <-count; err != nil || code != 0 || got != size {
			t.Fatalf("got %d bytes, code %d, %v", got, code, err)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		var out bytes.Buffer
		sizes := make(chan containers.Size, 1)
		sizes <- containers.Size{Width: 99, Height: 33}
		script := "test -t 0 || exit 1; while [ \"$(stty size 2>/dev/null)\" != '33 99' ]; do usleep 1000; done; echo $TERM"
		code, err := n.rt.Exec(ctx, id, containers.ExecSpec{Args: []string{"sh", "-c", script}, TTY: true, Stdin: new(blocked), Stdout: &out, Resize: sizes})
		if err != nil || code != 0 || out.String() != "xterm\r\n" {
			t.Fatalf("got %d, %v, %q", code, err, out.String())
		}
	})
	t.Run("timeout", func(t *testing.T) {
		_, err := n.rt.Exec(ctx, id, containers.ExecSpec{Args: []string{"sleep", "500"}, Timeout: 100 * time.Millisecond})
		if !errors.Is(err, containers.ErrTimeout) {
			t.Fatalf("got %v", err)
		}
		if out, _ := n.exec(id, "ps", "-o", "args"); strings.Contains(out, "sleep 500") {
			t.Fatalf("the command runs on: %s", out)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, err := n.rt.Exec(ctx, id, containers.ExecSpec{Args: []string{"sleep", "500"}})
		if err == nil || errors.Is(err, containers.ErrTimeout) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a child left behind is not waited for", func(t *testing.T) {
		if out, code := n.exec(id, "sh", "-c", "sleep 300 & echo started"); out != "started\n" || code != 0 {
			t.Fatalf("got %q, %d", out, code)
		}
	})
	t.Run("no such command", func(t *testing.T) {
		_, err := n.rt.Exec(ctx, id, containers.ExecSpec{Args: []string{"/no/such"}})
		if err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("no command", func(t *testing.T) {
		if _, err := n.rt.Exec(ctx, id, containers.ExecSpec{}); !errors.Is(err, containers.ErrUnsupported) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("no such container", func(t *testing.T) {
		if _, err := n.rt.Exec(ctx, "nobody", containers.ExecSpec{Args: []string{"true"}}); !errors.Is(err, containers.ErrNotFound) {
			t.Fatalf("got %v", err)
		}
	})
	if err := n.rt.StopContainer(ctx, id, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := n.rt.Exec(ctx, id, containers.ExecSpec{Args: []string{"true"}}); !errors.Is(err, containers.ErrNotRunning) {
		t.Fatalf("in a stopped container: got %v", err)
	}
}

// blocked is a standard input on which nobody types.
type blocked struct{}

func (*blocked) Read([]byte) (int, error) { select {} }

func TestAttach(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	id := n.start(s, containers.ContainerSpec{Args: []string{"sh", "-c", "while read line; do echo got $line; done; echo end >&2; exit 4"}, Stdin: true, StdinOnce: true})
	in, typed := io.Pipe()
	out, printed := io.Pipe()
	var errs bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		err := n.rt.Attach(context.Background(), id, containers.AttachSpec{Stdin: in, Stdout: printed, Stderr: &errs})
		printed.Close()
		ended <- err
	}()
	buf := make([]byte, 100)
	for _, word := range []string{"one", "two"} {
		if _, err := io.WriteString(typed, word+"\n"); err != nil {
			t.Fatal(err)
		}
		got, err := out.Read(buf)
		if err != nil || string(buf[:got]) != "got "+word+"\n" {
			t.Fatalf("got %q, %v", buf[:got], err)
		}
	}
	typed.Close() // stdinOnce: the container's input ends too
	if err := <-ended; err != nil || errs.String() != "end\n" {
		t.Fatalf("attach ended with %v, %q", err, errs.String())
	}
	if c := n.exited(id); c.ExitCode != 4 {
		t.Fatalf("end: %+v", c)
	}
	if got := n.log("main"); got != "got one\ngot two\nend\n" {
		t.Fatalf("log: %q", got)
	}
	if err := n.rt.Attach(context.Background(), id, containers.AttachSpec{}); !errors.Is(err, containers.ErrNotRunning) {
		t.Fatalf("attach to an exited container: got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	quiet := n.start(s, containers.ContainerSpec{Name: "quiet", Args: []string{"sleep", "1000"}, TTY: true})
	go func() { ended <- n.rt.Attach(ctx, quiet, containers.AttachSpec{Stdout: io.Discard}) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
