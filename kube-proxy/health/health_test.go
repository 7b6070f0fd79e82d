package health_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/health"
)

// freePort is a port that nobody listens on in this moment.
func freePort(t *testing.T) uint16 {
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// get asks until somebody listens.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		r, err := http.Get(url)
		if err != nil {
			if time.Now().After(end) {
				t.Fatal(err)
			}
			continue
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
}

// serve runs a part until the test ends.
func serve(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestOwnHealth(t *testing.T) {
	leaving := &corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: time.Now()}}}
	tainted := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}}}
	now := time.Now()
	for _, c := range []struct {
		name           string
		story          func(s *health.State, f *health.Family)
		healthz, livez int
	}{
		{"before the first write", func(s *health.State, f *health.Family) {}, 503, 503},
		{"written", func(s *health.State, f *health.Family) { f.Synced(now) }, 200, 200},
		{"a change waits, not for long", func(s *health.State, f *health.Family) { f.Synced(now); f.Queued(now) }, 200, 200},
		{"a change waits for too long", func(s *health.State, f *health.Family) { f.Synced(now); f.Queued(now.Add(-time.Hour)); f.Queued(now) }, 503, 503},
		{"one family is not written yet", func(s *health.State, f *health.Family) { s.Family(); f.Synced(now) }, 503, 503},
		{"both are", func(s *health.State, f *health.Family) { s.Family().Synced(now); f.Synced(now) }, 200, 200},
		{"a change of one waits for too long", func(s *health.State, f *health.Family) {
			other := s.Family()
			other.Synced(now)
			f.Synced(now)
			other.Queued(now.Add(-time.Hour))
		}, 503, 503},
		{"and is written", func(s *health.State, f *health.Family) { f.Queued(now.Add(-time.Hour)); f.Synced(now) }, 200, 200},
		{"the node is being deleted", func(s *health.State, f *health.Family) { f.Synced(now); s.SetNode(leaving) }, 503, 200},
		{"the node will be deleted", func(s *health.State, f *health.Family) { f.Synced(now); s.SetNode(tainted) }, 503, 200},
		{"or not after all", func(s *health.State, f *health.Family) { f.Synced(now); s.SetNode(tainted); s.SetNode(&corev1.Node{}) }, 200, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := health.NewState(time.Minute)
			c.story(s, s.Family())
			at := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			serve(t, func(ctx context.Context) error { return s.Serve(ctx, at) })
			code, body := get(t, "http://"+at+"/healthz")
			if code != c.healthz || !json.Valid([]byte(body)) || !strings.Contains(body, "lastUpdated") {
				t.Errorf("/healthz: %d %s", code, body)
			}
			if code, body := get(t, "http://"+at+"/livez"); code != c.livez {
				t.Errorf("/livez: %d %s", code, body)
			}
		})
	}
}

func TestNoAddressServesNothing(t *testing.T) {
	serve(t, func(ctx context.Context) error { return health.NewState(time.Minute).Serve(ctx, "") })
}

func TestHealthCheckNodePorts(t *testing.T) {
	s := health.NewState(time.Minute)
	f := s.Family()
	f.Synced(time.Now())
	p := health.NewPorts(s, zaptest.NewLogger(t))
	serve(t, p.Run)

	port := freePort(t)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	offer := func(local int) {
		svc := &changes.Service{Name: changes.Name{Namespace: "d", Service: "web", Port: "http"}, HealthCheckNodePort: port, ExternalLocal: true}
		svc.LocalReady = local
		p.Offer(false, changes.NewTable(svc, &changes.Service{Name: changes.Name{Service: "other"}}))
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never: %s", what)
			}
		}
	}

	offer(2)
	code, body := get(t, url)
	if want := `{"service":{"namespace":"d","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}`; code != 200 || strings.TrimSpace(body) != want {
		t.Errorf("got %d %s", code, body)
	}
	offer(0)
	eventually("no endpoints, no health", func() bool { code, _ := get(t, url); return code == 503 })
	offer(1)
	eventually("endpoints again", func() bool { code, _ := get(t, url); return code == 200 })
	f.Queued(time.Now().Add(-time.Hour))
	if code, body := get(t, url); code != 503 || !strings.Contains(body, `"serviceProxyHealthy":false`) {
		t.Errorf("the rules are behind: %d %s", code, body)
	}
	p.Offer(false, &changes.Table{})
	eventually("the port is closed", func() bool { _, err := http.Get(url); return err != nil })
}
