package filters

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/request"
)

// Words that anybody may put into a request must not become series; what is served does.
func TestSeries(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	ask := func(method, path string, code int) {
		m.done(request.Parse(httptest.NewRequest(method, path, nil)), code, 0)
	}
	for range 2 {
		ask("GET", "/api/v1/namespaces/a/pods/b", 200)
		ask("GET", "/api/v1/namespaces/a/pods/c", 200)
		ask("POST", "/apis/apps/v1/namespaces/a/deployments", 409)
	}
	known := testutil.CollectAndCount(m.requests)
	if known != 2 {
		t.Errorf("%d series of two", known)
	}
	if n := testutil.ToFloat64(m.requests.WithLabelValues("get", "", "v1", "pods", "", "200")); n != 4 {
		t.Errorf("%v gets of a pod, 4 were made", n)
	}
	for _, word := range []string{"x", "y", "z"} {
		ask("GET", "/api/v1/"+word, 404)
		ask("GET", "/apis/"+word+"/v1/"+word, 403)
		ask("GET", "/"+word, 401)
		ask(word, "/"+word, 200)
		ask(word, "/api/v1/pods", 405)
	}
	if n := testutil.CollectAndCount(m.requests); n > known+8 {
		t.Errorf("%d series after words of all kinds", n)
	}
}

type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}

// What all filters cost together, each request on a new goroutine as HTTP/2 has it.
func BenchmarkChain(b *testing.B) {
	p := Parts{Who: authn.New(), May: authz.New(), Metrics: NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop()}
	var h http.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, f := range []Filter{Authorize(p), Authenticate(p), Deadline(p, 1e9), Measure(p), Info(p), Recover(p)} {
		h = f(h)
	}
	r := httptest.NewRequest(http.MethodGet, "/livez", nil)
	w := nowhere{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

// A handler that needs as much stack as decoding does, on a goroutine of its own, with and without growing at once.
func BenchmarkStack(b *testing.B) {
	for _, c := range []struct {
		name string
		grow bool
	}{{"step by step", false}, {"at once", true}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			done := make(chan int)
			for b.Loop() {
				go func() {
					if c.grow {
						grow(len(c.name))
					}
					done <- descend(40, 1)
				}()
				<-done
			}
		})
	}
}

// descend has frames like those of a decoder: some two hundred bytes each.
//
//go:noinline
func descend(depth, n int) int {
	var frame [24]int
	frame[depth%24] = n
	if depth > 0 {
		return descend(depth-1, frame[depth%24]+1) + frame[(depth+1)%24]
	}
	return frame[0]
}

func TestWarnings(t *testing.T) {
	long := strings.Repeat("ä", 300)
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprint(i, long))
	}
	for _, c := range []struct {
		name  string
		texts []string
		want  []string
		total int // characters, when there is no want
	}{
		{"none", nil, nil, 0},
		{"empty", []string{""}, nil, 0},
		{"quoted", []string{`unknown field "spec.foo"`, `a\b`}, []string{`299 - "unknown field \"spec.foo\""`, `299 - "a\\b"`}, 0},
		{"twice", []string{"a", "b", "a"}, []string{`299 - "a"`, `299 - "b"`}, 0},
		{"another header", []string{"a\r\nSet-Cookie: x\x00"}, []string{`299 - "a  Set-Cookie: x "`}, 0},
		{"one long", []string{long}, []string{`299 - "` + long + `"`}, 0},
		{"too many", many, nil, 16 * 256},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			to := &warnings{to: w}
			for _, s := range c.texts {
				to.add(s)
			}
			got := w.Header().Values("Warning")
			if c.total > 0 {
				n := 0
				for _, s := range got {
					n += len([]rune(s)) - len(`299 - ""`)
				}
				if n != c.total {
					t.Errorf("%d characters in %d headers", n, len(got))
				}
				return
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}
