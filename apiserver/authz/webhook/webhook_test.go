package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/request"
)

// service answers what it is told, and keeps what it was asked.
type service struct {
	answer string
	err    error
	asked  []string
}

func (s *service) Post(_ context.Context, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	s.asked = append(s.asked, string(b))
	if s.err != nil {
		return s.err
	}
	return json.Unmarshal([]byte(s.answer), out)
}

func status(version, fields string) string {
	return `{"apiVersion":"authorization.k8s.io/` + version + `","kind":"SubjectAccessReview","status":{` + fields + `}}`
}

var (
	jane    = &request.User{Name: "jane", UID: "7", Groups: []string{"devs"}, Extra: map[string][]string{"scopes": {"a", "b"}}}
	listing = &request.Info{IsResource: true, Verb: "list", Version: "v1", Resource: "pods", Namespace: "a"}
)

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    Config
		answer string
		err    error
		want   authz.Decision
		why    string
		failed string
	}{
		{"allowed", Config{Version: "v1"}, status("v1", `"allowed":true,"reason":"so be it"`), nil, authz.Allowed, "so be it", ""},
		{"no opinion", Config{Version: "v1"}, status("v1", `"allowed":false,"reason":"who knows"`), nil, authz.NoOpinion, "who knows", ""},
		{"denied", Config{Version: "v1beta1"}, status("v1beta1", `"allowed":false,"denied":true,"reason":"never"`), nil, authz.Denied, "never", ""},
		{"both", Config{Version: "v1"}, status("v1", `"allowed":true,"denied":true`), nil, authz.Denied, "", "both allowed and denied"},
		{"away", Config{Version: "v1"}, "", errors.New("it is away"), authz.NoOpinion, "", "asking webhook authorizer h: it is away"},
		{"away, and that denies", Config{Version: "v1", Deny: true}, "", errors.New("it is away"), authz.Denied, "", "it is away"},
		{"another version", Config{Version: "v1"}, status("v1beta1", `"allowed":true`), nil, authz.NoOpinion, "", "want a SubjectAccessReview"},
		{"no status", Config{Version: "v1", Deny: true}, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview"}`, nil, authz.Denied, "", "no status"},
		{"another kind", Config{Version: "v1"}, `{"apiVersion":"v1","kind":"Status","status":{"allowed":true}}`, nil, authz.NoOpinion, "", "the answer is a Status"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Name, c.cfg.Authorized, c.cfg.Unauthorized = "h", time.Hour, time.Hour
			s := &service{answer: c.answer, err: c.err}
			h := New(c.cfg, s, nil)
			for range 2 {
				d, why, err := h.Decide(t.Context(), jane, listing)
				said := fmt.Sprint(err)
				if d != c.want || why != c.why || (err == nil) != (c.failed == "") || !strings.Contains(said, c.failed) {
					t.Errorf("got %v %q %v", d, why, err)
				}
			}
			if once := len(s.asked) == 1; once != (c.failed == "" || strings.Contains(c.failed, "both")) {
				t.Errorf("it was asked %d times", len(s.asked))
			}
		})
	}
}

func TestQuestion(t *testing.T) {
	s, _, _ := request.ReadSelectors("a=b,c!=d", "x in (y,z),!w,v>3,u")
	narrow := *listing
	narrow.Selects = s
	path := &request.Info{Verb: "get", Path: "/x"}
	const who = `"user":"jane","groups":["devs"],"extra":{"scopes":["a","b"]},"uid":"7"`
	for _, c := range []struct {
		name, version string
		info          *request.Info
		want          string
	}{
		{"a resource", "v1", listing, `{"resourceAttributes":{"namespace":"a","verb":"list","version":"v1","resource":"pods"},` + who + `}`},
		{"a path", "v1", path, `{"nonResourceAttributes":{"path":"/x","verb":"get"},` + who + `}`},
		{"the old version", "v1beta1", path, `{"nonResourceAttributes":{"path":"/x","verb":"get"},"user":"jane","extra":{"scopes":["a","b"]},"uid":"7","group":["devs"]}`},
		{"selectors", "v1", &narrow, `{"resourceAttributes":{"namespace":"a","verb":"list","version":"v1","resource":"pods","fieldSelector":{"requirements":[` +
			`{"key":"a","operator":"In","values":["b"]},{"key":"c","operator":"NotIn","values":["d"]}]},"labelSelector":{"requirements":[` +
			`{"key":"u","operator":"Exists"},{"key":"w","operator":"DoesNotExist"},{"key":"x","operator":"In","values":["y","z"]}]}},` + who + `}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := &service{answer: status(c.version, `"allowed":true`)}
			if _, _, err := New(Config{Version: c.version}, at, nil).Decide(t.Context(), jane, c.info); err != nil {
				t.Fatal(err)
			}
			var sent struct {
				APIVersion, Kind string
				Spec             json.RawMessage
			}
			if err := json.Unmarshal([]byte(at.asked[0]), &sent); err != nil {
				t.Fatal(err)
			}
			if sent.APIVersion != "authorization.k8s.io/"+c.version || sent.Kind != "SubjectAccessReview" || string(sent.Spec) != c.want {
				t.Errorf("sent %s\nwant spec %s", at.asked[0], c.want)
			}
		})
	}
}

// TestKept keeps answers as long as it should: by what they are, by how many there are, and never a long question's.
func TestKept(t *testing.T) {
	now := time.Unix(0, 0)
	s := &service{answer: status("v1", `"allowed":true`)}
	h := New(Config{Version: "v1", Authorized: time.Minute, Unauthorized: time.Second}, s, nil)
	h.answers = newCache(2, func() time.Time { return now })
	ask := func(name string, want int) {
		t.Helper()
		_, _, _ = h.Decide(t.Context(), &request.User{Name: name}, listing)
		if len(s.asked) != want {
			t.Errorf("%.20s: asked %d times, want %d", name, len(s.asked), want)
		}
	}
	ask("a", 1)
	now = now.Add(time.Minute - 1)
	ask("a", 1)
	now = now.Add(1)
	ask("a", 2)
	ask("b", 3)
	ask("a", 3)
	ask("c", 4) // b was not used for longest
	ask("a", 4)
	ask("b", 5)
	s.answer = status("v1", `"allowed":false`)
	ask("d", 6)
	now = now.Add(time.Second)
	ask("d", 7)
	long := strings.Repeat("x", maxKept)
	ask(long, 8)
	ask(long, 9)
	none := New(Config{Version: "v1"}, s, nil)
	_, _, _ = none.Decide(t.Context(), jane, listing)
	_, _, _ = none.Decide(t.Context(), jane, listing)
	if len(s.asked) != 11 {
		t.Errorf("without keeping anything it was asked %d times", len(s.asked)-9)
	}
}

func TestRulesAndMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := &service{answer: status("v1", `"allowed":true`)}
	h := New(Config{Name: "h", Version: "v1"}, s, NewMetrics(reg))
	if r, err := h.Rules(t.Context(), jane, "a"); !r.Incomplete || err == nil || err.Error() != "webhook authorizer does not support user rule resolution" {
		t.Errorf("%+v %v", r, err)
	}
	_, _, _ = h.Decide(t.Context(), jane, listing)
	s.err = errors.New("away")
	_, _, _ = h.Decide(t.Context(), jane, listing)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP apiserver_authorization_webhook_evaluations_fail_open_total Questions to webhook authorizers that failed and were taken for no opinion.
# TYPE apiserver_authorization_webhook_evaluations_fail_open_total counter
apiserver_authorization_webhook_evaluations_fail_open_total{name="h",result="error"} 1
# HELP apiserver_authorization_webhook_evaluations_total Questions to webhook authorizers, by their name and result.
# TYPE apiserver_authorization_webhook_evaluations_total counter
apiserver_authorization_webhook_evaluations_total{name="h",result="error"} 1
apiserver_authorization_webhook_evaluations_total{name="h",result="success"} 1
`)); err != nil {
		t.Error(err)
	}
}
