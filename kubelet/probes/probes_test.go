package probes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kubelet/containers"
)

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		name      string
		healthy   bool // what is known before
		known     bool
		successes int
		failures  int
		tries     string // + and -
		want      string // after each: y, n or ? with ! where it changed
	}{
		{"first success counts", false, false, 1, 3, "+", "y!"},
		{"three failures in a row", true, true, 1, 3, "--+---", "y y y y y n!"},
		{"back after two", false, true, 2, 1, "+-++", "n n n y!"},
		{"unknown until the threshold", false, false, 1, 2, "--+", "? n! y!"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := verdict{settings: settings{successes: tc.successes, failures: tc.failures}, healthy: tc.healthy, known: tc.known}
			var got []string
			for _, r := range tc.tries {
				changed := v.count(r == '+')
				s := "?"
				if v.known {
					s = map[bool]string{true: "y", false: "n"}[v.healthy]
				}
				if changed {
					s += "!"
				}
				got = append(got, s)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestRhythm plays probes in virtual time: a startup probe that passes at the third try, a readiness probe that fails once in a while, and a liveness
// probe that fails for good after 60 s.
func TestRhythm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		tries := map[string][]int{}
		p := New(nil)
		p.try = func(_ context.Context, probe *corev1.Probe, _ Target) error {
			mu.Lock()
			defer mu.Unlock()
			at := int(time.Since(begin) / time.Second)
			name := probe.Exec.Command[0]
			tries[name] = append(tries[name], at)
			switch {
			case name == "startup" && at < 14:
				return errors.New("not yet")
			case name == "liveness" && at >= 60:
				return errors.New("stuck")
			}
			return nil
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		probe := func(name string, delay, period int32) *corev1.Probe {
			return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{name}}}, InitialDelaySeconds: delay, PeriodSeconds: period, FailureThreshold: 2, SuccessThreshold: 1}
		}
		c := &corev1.Container{Name: "c", StartupProbe: probe("startup", 5, 5), ReadinessProbe: probe("readiness", 0, 10), LivenessProbe: probe("liveness", 0, 20)}
		c.StartupProbe.FailureThreshold = 30
		target := Target{Container: c, ContainerID: "c-0", Since: begin}
		p.Set("u", []Target{target})
		var got []string
		go func() {
			for r := range p.Results() {
				got = append(got, fmt.Sprintf("%d %s healthy=%t changed=%t %s", int(time.Since(begin)/time.Second), r.Kind, r.Healthy, r.Changed, r.Complaint))
			}
		}()
		time.Sleep(100 * time.Second)
		synctest.Wait()
		mu.Lock()
		want := map[string][]int{"startup": {5, 10, 15}, "readiness": {15, 25, 35, 45, 55, 65, 75, 85, 95}, "liveness": {15, 35, 55, 75, 95}}
		for name, at := range want {
			if !slices.Equal(tries[name], at) {
				t.Errorf("%s was tried at %v, want %v", name, tries[name], at)
			}
		}
		mu.Unlock()
		wantResults := []string{
			"5 Startup healthy=false changed=false not yet", "10 Startup healthy=false changed=false not yet", "15 Startup healthy=true changed=true ",
			"15 Readiness healthy=true changed=true ", "75 Liveness healthy=true changed=false stuck", "95 Liveness healthy=false changed=true stuck",
		}
		if !slices.Equal(got, wantResults) {
			t.Errorf("results\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wantResults, "\n"))
		}
		// Liveness is silent now; the pod ends, and only readiness goes on; then nothing.
		target.Ending = true
		p.Set("u", []Target{target})
		time.Sleep(5 * time.Second)
		p.Set("u", nil)
		mu.Lock()
		n := len(tries["readiness"])
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		if len(tries["readiness"]) != n || len(tries["liveness"]) != 5 {
			t.Errorf("a forgotten container was probed: %v", tries)
		}
		mu.Unlock()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		close(p.results)
	})
}

type runner struct {
	code int
	out  string
	err  error

	wait, panics bool
}

func (r runner) Exec(ctx context.Context, _ string, spec containers.ExecSpec) (int, error) {
	if r.panics {
		panic("what is this")
	}
	if r.wait {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	io.WriteString(spec.Stdout, r.out)
	return r.code, r.err
}

func TestTry(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if r.Host != "shop.example" || r.Header.Get("X-A") != "b" || !strings.HasPrefix(r.UserAgent(), "kube-probe/") {
				w.WriteHeader(http.StatusTeapot)
			}
		case "/agent":
			if r.UserAgent() != "me" || len(r.Header["User-Agent"]) != 1 || r.Header.Get("Accept") != "" {
				w.WriteHeader(http.StatusTeapot)
			}
		case "/long":
			for range 1000 {
				fmt.Fprintln(w, strings.Repeat("x", 1000))
			}
		case "/away":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		case "/near":
			http.Redirect(w, r, "/bad", http.StatusFound)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(web.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	portOf := func(raw string) int {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(u.Port())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deaf := closed.Addr().(*net.TCPAddr).Port
	closed.Close()
	checks := grpchealth.NewServer()
	checks.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	g := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(g, checks)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go g.Serve(ln)
	t.Cleanup(g.Stop)
	rpc := int32(ln.Addr().(*net.TCPAddr).Port)

	get := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("web"), HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "shop.example"}, {Name: "X-A", Value: "b"}}}}
	}
	agent := get("/agent")
	agent.HTTPGet.HTTPHeaders = []corev1.HTTPHeader{{Name: "user-agent", Value: "me"}, {Name: "Accept"}}
	c := &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(portOf(web.URL))}}}
	exec := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x", "y"}}}
	for _, tc := range []struct {
		name   string
		probe  corev1.ProbeHandler
		run    runner
		expire bool
		want   string // part of the complaint; empty: healthy
		kind   error  // of what type it is; nil: a failure
	}{
		{name: "http", probe: get("ok")},
		{name: "http with an agent of its own", probe: agent},
		{name: "a long answer", probe: get("/long")},
		{name: "nothing to try", want: "missing probe handler", kind: unknown{}},
		{name: "a spec that makes us panic", probe: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}, run: runner{panics: true}, want: "internal error", kind: unknown{}},
		{name: "grpc that is none", probe: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(portOf(web.URL))}}, want: "error: "},
		{name: "grpc refused", probe: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(deaf)}}, want: "error: failed to connect service at \"127.0.0.1:"},
		{name: "grpc of an unknown service", probe: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: rpc, Service: new("none")}}, want: "error: health rpc probe failed"},
		{name: "http 500", probe: get("/bad"), want: "HTTP probe failed with statuscode: 500"},
		{name: "redirect elsewhere is not followed", probe: get("/away"), want: "Probe terminated redirects", kind: warning{}},
		{name: "redirect within is followed", probe: get("/near"), want: "statuscode: 500"},
		{name: "https, any certificate", probe: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Scheme: "HTTPS", Port: intstr.FromInt(portOf(secure.URL))}}, want: "statuscode: 404"},
		{name: "no such port", probe: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("no")}}, want: `no port "no"`, kind: unknown{}},
		{name: "tcp", probe: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("web")}}},
		{name: "tcp refused", probe: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(deaf)}}, want: "connection refused"},
		{name: "grpc", probe: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: rpc}}},
		{name: "grpc sick", probe: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: rpc, Service: new("sick")}}, want: "NOT_SERVING"},
		{name: "exec", probe: exec, run: runner{out: "fine"}},
		{name: "exec fails", probe: exec, run: runner{code: 1, out: "cat: no such file\n"}, want: "cat: no such file"},
		{name: "exec with much to say", probe: exec, run: runner{code: 1, out: strings.Repeat("no ", 10000)}, want: "no no"},
		{name: "exec fails in silence", probe: exec, run: runner{code: 3}, want: "exit code 3"},
		{name: "exec cannot start", probe: exec, run: runner{err: errors.New("no such command")}, want: "no such command", kind: unknown{}},
		{name: "exec hangs", probe: exec, run: runner{wait: true}, expire: true, want: `command timed out: "x y" timed out after 1s`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if tc.expire {
				ctx, cancel = context.WithDeadline(context.WithValue(ctx, timed{}, time.Second), time.Now())
				defer cancel()
			}
			err := trier{tc.run}.try(ctx, &corev1.Probe{ProbeHandler: tc.probe}, Target{Container: c, ContainerID: "id", IP: netip.MustParseAddr("127.0.0.1")})
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 2*most) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if kind := fmt.Sprintf("%T", err); tc.kind != nil && kind != fmt.Sprintf("%T", tc.kind) || tc.kind == nil && strings.HasPrefix(kind, "probes.") {
				t.Errorf("it is a %s, want %T", kind, tc.kind)
			}
		})
	}
}
