package streaming

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	"pilothouse.dev/kubelet/containers"
)

// runtime answers like a container: «echo» repeats its input, «fail» ends with 7, «wait» stays until it is ended.
type runtime struct {
	t     *testing.T
	ended chan struct{}
	sizes chan containers.Size
}

func (r *runtime) Exec(ctx context.Context, id string, spec containers.ExecSpec) (int, error) {
	if id != "c-1" {
		r.t.Errorf("exec in %q", id)
	}
	switch spec.Args[0] {
	case "echo":
		if _, err := io.Copy(spec.Stdout, spec.Stdin); err != nil {
			return 0, err
		}
		fmt.Fprint(spec.Stderr, "and done")
		return 0, nil
	case "fail":
		return 7, nil
	case "size":
		r.sizes <- <-spec.Resize
		return 0, nil
	case "wait":
		fmt.Fprint(spec.Stdout, "here")
		<-ctx.Done()
		close(r.ended)
		return 0, ctx.Err()
	}
	return 0, errors.New("no such command")
}

func (r *runtime) Attach(_ context.Context, _ string, spec containers.AttachSpec) error {
	_, err := fmt.Fprint(spec.Stdout, "attached")
	return err
}

func serve(t *testing.T) (*runtime, *url.URL) {
	rt := &runtime{t: t, ended: make(chan struct{}), sizes: make(chan containers.Size, 1)}
	s := New(rt, time.Minute)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch r.URL.Path {
		case "/exec":
			err = s.Exec(w, r, "c-1", r.URL.Query()["command"])
		case "/attach":
			err = s.Attach(w, r, "c-1")
		case "/forward":
			err = s.PortForward(w, r, Place{IPs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return rt, u
}

// dial makes the two executors that kubectl has.
func dial(t *testing.T, u *url.URL, path, query string) map[string]remotecommand.Executor {
	t.Helper()
	target := u.JoinPath(path)
	target.RawQuery = query
	spdy, err := remotecommand.NewSPDYExecutor(&rest.Config{Host: u.String()}, http.MethodPost, target)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := remotecommand.NewWebSocketExecutor(&rest.Config{Host: u.String()}, http.MethodGet, target.String())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"spdy": spdy, "websocket": ws}
}

func TestExec(t *testing.T) {
	rt, u := serve(t)
	for name, ex := range dial(t, u, "exec", "command=echo&input=1&output=1&error=1") {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			long := strings.Repeat("0123456789", 20000)
			if err := ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(long), Stdout: &out, Stderr: &errs}); err != nil {
				t.Fatal(err)
			}
			if out.String() != long || errs.String() != "and done" {
				t.Errorf("%d bytes came back, and %q", out.Len(), errs.String())
			}
		})
	}
	for name, ex := range dial(t, u, "exec", "command=fail&output=1") {
		t.Run(name+" exit code", func(t *testing.T) {
			err := ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
			var code utilexec.CodeExitError
			if !errors.As(err, &code) || code.Code != 7 {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, ex := range dial(t, u, "exec", "command=nothing&output=1") {
		t.Run(name+" no such command", func(t *testing.T) {
			if err := ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "no such command") {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, ex := range dial(t, u, "exec", "command=size&output=1&input=1&tty=1") {
		t.Run(name+" terminal size", func(t *testing.T) {
			in, hold := io.Pipe()
			defer hold.Close()
			if err := ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: in, Stdout: io.Discard, Tty: true, TerminalSizeQueue: &once{}}); err != nil {
				t.Fatal(err)
			}
			if got := <-rt.sizes; got != (containers.Size{Width: 80, Height: 25}) {
				t.Errorf("got %v", got)
			}
		})
	}
}

type once struct{ told bool }

func (o *once) Next() *remotecommand.TerminalSize {
	if o.told {
		return nil
	}
	o.told = true
	return &remotecommand.TerminalSize{Width: 80, Height: 25}
}

func TestClientHangsUp(t *testing.T) {
	rt, u := serve(t)
	for name, ex := range dial(t, u, "exec", "command=wait&output=1") {
		rt.ended = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan struct{})
		go ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: notice{seen}})
		<-seen
		cancel()
		select {
		case <-rt.ended:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: the command goes on", name)
		}
	}
}

// notice closes its channel at the first write.
type notice struct{ seen chan struct{} }

func (n notice) Write(b []byte) (int, error) {
	select {
	case <-n.seen:
	default:
		close(n.seen)
	}
	return len(b), nil
}

func TestAttach(t *testing.T) {
	_, u := serve(t)
	for name, ex := range dial(t, u, "attach", "output=1") {
		var out bytes.Buffer
		if err := ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out}); err != nil || out.String() != "attached" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
}

func TestNothingToStream(t *testing.T) {
	_, u := serve(t)
	resp, err := http.Post(u.JoinPath("exec").String()+"?command=echo", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("answer is %s", resp.Status)
	}
}
