package pods

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/pod"
)

// executor runs commands: each says out and ends with code.
type executor struct {
	Containers
	code int
	out  string
	err  error
}

func (e executor) Exec(_ context.Context, _ string, spec containers.ExecSpec) (int, error) {
	io.WriteString(spec.Stdout, e.out)
	return e.code, e.err
}

func portOf(t *testing.T, srv *httptest.Server) intstr.IntOrString {
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return intstr.FromInt(n)
}

func TestHooks(t *testing.T) {
	var asked []string
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Host+r.URL.RequestURI()+" "+r.Header.Get("X-A")+" "+strings.Split(r.UserAgent(), "/")[0])
		w.WriteHeader(http.StatusInternalServerError)
	})
	plain, secure := httptest.NewServer(answer), httptest.NewTLSServer(answer)
	defer plain.Close()
	defer secure.Close()
	get := func(srv *httptest.Server, scheme corev1.URIScheme, host string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/a?b=c", Port: portOf(t, srv), Scheme: scheme, Host: host,
			HTTPHeaders: []corev1.HTTPHeader{{Name: "X-A", Value: "1"}, {Name: "Host", Value: "shop.example"}}}}
	}
	command := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x", "y"}}}
	for _, tc := range []struct {
		name  string
		h     *corev1.LifecycleHandler
		run   executor
		noIP  bool
		want  string // part of the error; empty: none
		asked string
	}{
		{name: "http, any answer is well", h: get(plain, "", ""), asked: "shop.example/a?b=c 1 kube-lifecycle"},
		{name: "https", h: get(secure, "HTTPS", ""), asked: "shop.example/a?b=c 1 kube-lifecycle"},
		{name: "https, to one that only speaks http", h: get(plain, "HTTPS", ""), asked: "shop.example/a?b=c 1 kube-lifecycle"},
		{name: "a host of its own", h: get(plain, "", "127.0.0.1"), noIP: true, asked: "shop.example/a?b=c 1 kube-lifecycle"},
		{name: "no address", h: get(plain, "", ""), noIP: true, want: "no address"},
		{name: "no such port", h: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("web")}}, want: `no port "web"`},
		{name: "exec", h: command, run: executor{out: "fine"}},
		{name: "exec fails", h: command, run: executor{code: 2, out: "oh no\n"}, want: `command "x y" ended with exit code 2: oh no`},
		{name: "exec fails with many words", h: command, run: executor{code: 2, out: strings.Repeat("no ", 10000)}, want: "exit code 2"},
		{name: "exec cannot start", h: command, run: executor{err: errors.New("no such program")}, want: "no such program"},
		{name: "tcp is refused", h: &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Port: portOf(t, plain)}}, want: "not supported"},
		{name: "nothing to do", h: &corev1.LifecycleHandler{}, want: "invalid handler"},
		{name: "no time to sleep", h: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked = nil
			in := input{facts: resolve.Facts{PodIPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}}
			if tc.noIP {
				in.facts.PodIPs = nil
			}
			w := &worker{parts: &Parts{Containers: tc.run}}
			err := w.hook(t.Context(), tc.h, &corev1.Container{Name: "c"}, "id", in)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 2*hookOutput) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if got := strings.Join(asked, "\n"); got != tc.asked {
				t.Errorf("asked %q, want %q", got, tc.asked)
			}
		})
	}
}

func TestHookSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, begin := &worker{}, &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 20}}, time.Now()
		if err := w.hook(t.Context(), h, nil, "", input{}); err != nil || time.Since(begin) != 20*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := w.hook(ctx, h, nil, "", input{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 25*time.Second {
			t.Errorf("%v after %s, want the grace period's end", err, time.Since(begin))
		}
	})
}

// The end of the file is the message; what is no text, or no file any more, does no harm.
func TestNote(t *testing.T) {
	w := &worker{uid: "u", cfg: &Config{Root: t.TempDir()}}
	c := &corev1.Container{Name: "c"}
	path := w.noteFile("c", 0)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) func() error { return func() error { return os.WriteFile(path, []byte(text), 0o644) } }
	for _, tc := range []struct {
		name string
		make func() error
		want string
	}{
		{"none", func() error { return nil }, ""},
		{"short", write("last words\n"), "last words\n"},
		{"long", write(strings.Repeat("x", 5000) + "end"), strings.Repeat("x", noteLimit-3) + "end"},
		{"bytes", write("a\xff\xfeb"), "a\uFFFDb"},
		{"a pipe", func() error { return syscall.Mkfifo(path, 0o666) }, ""},
		{"a link", func() error { return os.Symlink("/etc/hostname", path) }, "Error on reading termination log: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := tc.make(); err != nil {
				t.Fatal(err)
			}
			got := w.note(t.Context(), c, containers.Container{Name: "c", ExitCode: 1})
			if got != tc.want && !(strings.HasPrefix(tc.want, "Error") && strings.HasPrefix(got, tc.want)) {
				t.Errorf("got %.80q, want %.80q", got, tc.want)
			}
		})
	}
	if want := volumes.PodDir(w.cfg.Root, "u"); !strings.HasPrefix(path, want) {
		t.Errorf("%s is not in the pod's folder %s", path, want)
	}
}

// A kubelet that comes back believes what it wrote of running containers, but not that one is not up: its postStart hook may have been under way.
func TestComesBackToRunningContainers(t *testing.T) {
	running := func(name string, started, ready bool) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, ContainerID: "containerd://" + name + "-0", Started: &started, Ready: ready,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	probe := &corev1.Probe{}
	p.Spec.Containers = []corev1.Container{{Name: "hooked"}, {Name: "probed", StartupProbe: probe, ReadinessProbe: probe}, {Name: "well", StartupProbe: probe, ReadinessProbe: probe}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{running("hooked", false, false), running("probed", false, false), running("well", true, true)}
	s := newState(p)
	for kind, c := range pod.Containers(p) {
		s.assume(c.Name+"-0", kind, c)
	}
	for name, want := range map[string]bool{"hooked-0": true, "probed-0": false, "well-0": true} {
		if s.seen.Started[name] != want || s.ready[name] != want {
			t.Errorf("%s: started %t, ready %t, want %t", name, s.seen.Started[name], s.ready[name], want)
		}
	}
}
