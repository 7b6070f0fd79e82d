package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// api answers reviews: tokens are «of-NAME», and rights are lines «user verb subresource».
type api struct {
	rights []string
	asked  int
	away   error
}

type tokenReviews struct{ *api }
type accessReviews struct{ *api }

func (a tokenReviews) Create(_ context.Context, r *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	a.asked++
	name, ok := strings.CutPrefix(r.Spec.Token, "of-")
	r.Status = authenticationv1.TokenReviewStatus{Authenticated: ok, User: authenticationv1.UserInfo{Username: name, Groups: []string{"system:authenticated"}}}
	return r, a.away
}

func (a accessReviews) Create(_ context.Context, r *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	a.asked++
	at := r.Spec.ResourceAttributes
	if at.Resource != "nodes" || at.Group != "" || at.Namespace != "" || at.Name != "node-1" {
		return nil, errors.New("asked of something else than this node")
	}
	r.Status.Allowed = slices.Contains(a.rights, r.Spec.User+" "+at.Verb+" "+at.Subresource)
	return r, a.away
}

func newAccess(a *api, cfg Config) *Access {
	cfg.Node = "node-1"
	if cfg.Mode == "" {
		cfg.Mode = Webhook
	}
	cfg.TokenTTL, cfg.AllowedTTL, cfg.RefusedTTL = 2*time.Minute, 5*time.Minute, 30*time.Second
	return New(cfg, tokenReviews{a}, accessReviews{a})
}

func TestWho(t *testing.T) {
	certificate := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "jane", Organization: []string{"dev"}}}}}}
	unverified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "jane"}}}}
	nameless := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{Organization: []string{"system:masters"}}}}}}
	for name, c := range map[string]struct {
		cfg    Config
		tls    *tls.ConnectionState
		header string
		want   string // name and groups; empty: nobody
	}{
		"a certificate":                      {tls: certificate, want: "jane dev system:authenticated"},
		"one that was not verified":          {tls: unverified},
		"groups of nobody":                   {tls: nameless},
		"groups of nobody and a token":       {cfg: Config{Tokens: true}, tls: nameless, header: "Bearer of-joe", want: "joe system:authenticated"},
		"a token":                            {cfg: Config{Tokens: true}, header: "Bearer of-joe", want: "joe system:authenticated"},
		"a token nobody has issued":          {cfg: Config{Tokens: true, Anonymous: true}, header: "Bearer forged"},
		"an empty token":                     {cfg: Config{Tokens: true, Anonymous: true}, header: "Bearer "},
		"tokens are not known here":          {header: "Bearer of-joe"},
		"a password":                         {cfg: Config{Tokens: true, Anonymous: true}, header: "Basic am9lOmpvZQ=="},
		"nothing":                            {},
		"nothing, where that is somebody":    {cfg: Config{Anonymous: true}, want: "system:anonymous system:unauthenticated"},
		"the certificate before the token":   {cfg: Config{Tokens: true}, tls: certificate, header: "Bearer of-joe", want: "jane dev system:authenticated"},
		"a header of a proxy counts nothing": {header: ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/pods", nil)
			r.TLS = c.tls
			r.Header.Set("X-Remote-User", "admin")
			if c.header != "" {
				r.Header.Set("Authorization", c.header)
			}
			u, err := newAccess(&api{}, c.cfg).Who(r)
			if got := strings.TrimSpace(u.Name + " " + strings.Join(u.Groups, " ")); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if (c.want == "") != errors.Is(err, ErrUnknown) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestMay(t *testing.T) {
	for name, c := range map[string]struct {
		right string // verb and subresource
		ask   string // method and path
		ok    bool
	}{
		"logs of containers are the proxy's": {"get proxy", "GET /containerLogs/a/b/c", true},
		"they are no log":                    {"get log", "GET /containerLogs/a/b/c", false},
		"logs of the node":                   {"get log", "GET /logs/syslog", true},
		"numbers":                            {"get stats", "GET /stats/summary", true},
		"numbers are no metrics":             {"get metrics", "GET /stats/summary", false},
		"metrics":                            {"get metrics", "GET /metrics/resource", true},
		"metrics by the root":                {"get metrics", "GET /metrics", true},
		"profiles are the proxy's":           {"get metrics", "GET /debug/pprof/heap", false},
		"pods":                               {"get pods", "GET /pods", true},
		"pods by the proxy":                  {"get proxy", "GET /pods", true},
		"health":                             {"get healthz", "GET /healthz", true},
		"health by the proxy":                {"get proxy", "GET /readyz/runtime", true},
		"a command":                          {"create proxy", "POST /exec/a/b/c", true},
		"a command by WebSocket":             {"create proxy", "GET /exec/a/b/c", true},
		"reading does not let run commands":  {"get proxy", "GET /exec/a/b/c", false},
		"nor attach":                         {"get proxy", "GET /attach/a/b/c", false},
		"nor forward ports":                  {"get proxy", "GET /portForward/a/b", false},
		"an unknown method is nobody's":      {"get proxy", "TRACE /pods", false},
		"writing is not reading":             {"get proxy", "PUT /pods", false},
		"the name of a subresource elsewhere in the path": {"get stats", "GET /containerLogs/stats/b/c", false},
	} {
		t.Run(name, func(t *testing.T) {
			method, path, _ := strings.Cut(c.ask, " ")
			a := newAccess(&api{rights: []string{"jane " + c.right}}, Config{})
			why, err := a.May(httptest.NewRequestWithContext(t.Context(), method, path, nil), User{Name: "jane"})
			if err != nil || (why == "") != c.ok {
				t.Errorf("refused with %q, %v", why, err)
			}
			if why, _ = a.May(httptest.NewRequestWithContext(t.Context(), method, path, nil), User{Name: "joe"}); !strings.HasPrefix(why, "Forbidden (user=joe, ") {
				t.Errorf("somebody else: %q", why)
			}
		})
	}
}

func TestAnswersAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &api{rights: []string{"jane get stats"}}
		a := newAccess(server, Config{Tokens: true})
		send := func(path string) (string, error) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			r.Header.Set("Authorization", "Bearer of-jane")
			u, err := a.Who(r)
			if err != nil {
				return "", err
			}
			return a.May(r, u)
		}
		for range 3 {
			if why, err := send("/stats/summary"); why != "" || err != nil {
				t.Fatal(why, err)
			}
		}
		if server.asked != 2 {
			t.Errorf("asked %d times, want once whose token it is and once whether she may", server.asked)
		}
		server.away = errors.New("away")
		if _, err := send("/stats/summary"); err != nil {
			t.Errorf("what is known: %v", err)
		}
		if why, err := send("/metrics"); err == nil {
			t.Errorf("what is new while the API server is away: allowed %v", why == "")
		}
		server.away = nil
		if why, _ := send("/metrics"); why == "" {
			t.Error("allowed without a right")
		}
		server.rights = append(server.rights, "jane get metrics")
		time.Sleep(31 * time.Second)
		if why, _ := send("/metrics"); why != "" {
			t.Errorf("a refusal is kept too long: %s", why)
		}
		server.rights = nil
		time.Sleep(6 * time.Minute)
		if why, _ := send("/stats/summary"); why == "" {
			t.Error("a right that was taken away is kept too long")
		}
	})
}

func TestMode(t *testing.T) {
	if err := (Config{Mode: "RBAC"}).Check(); err == nil {
		t.Error("a mode that does not exist")
	}
	a := newAccess(&api{}, Config{Mode: AlwaysAllow})
	if why, err := a.May(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/exec/a/b/c", nil), User{Name: "jane"}); why != "" || err != nil {
		t.Error(why, err)
	}
}

// A token that is nobody's is not asked for again and again, and does not drive out one that is somebody's.
func TestNobodysToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{}
		door := newAccess(a, Config{Tokens: true})
		who := func(token string, asked int) {
			t.Helper()
			before := a.asked
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/pods", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			if _, err := door.Who(r); (err == nil) != strings.HasPrefix(token, "of-") || a.asked-before != asked {
				t.Errorf("%s: %v, asked %d times, want %d", token, err, a.asked-before, asked)
			}
		}
		who("of-joe", 1)
		who("forged", 1)
		who("forged", 0)
		for i := range 2 * kept {
			who(fmt.Sprint("forged-", i), 1)
		}
		who("of-joe", 0)
		time.Sleep(forget + time.Second)
		who("forged", 1)
	})
}
