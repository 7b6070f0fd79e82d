package filters

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/request"
)

// known is a bearer that knows one token.
type known struct{}

func (known) Check(_ context.Context, token string, _ []string) (*authn.Found, error) {
	switch token {
	case "good":
		return &authn.Found{User: &request.User{Name: "jane"}}, nil
	case "broken":
		return nil, errors.New("it is broken")
	}
	return nil, authn.ErrNotMine
}

func TestAuthenticate(t *testing.T) {
	inside := &request.User{Name: "inside"}
	for _, c := range []struct {
		name   string
		path   string
		token  string
		major  int
		inside *request.User
		want   string // the user; empty: 401
		close  bool
	}{
		{name: "a token", path: "/api", token: "good", major: 2, want: "jane"},
		{name: "no token", path: "/api", major: 1},
		{name: "no token over HTTP/2", path: "/api", major: 2, close: true},
		{name: "a bad token over HTTP/2", path: "/livez", token: "bad", major: 2, close: true},
		{name: "a broken token", path: "/livez", token: "broken", major: 1},
		{name: "nobody", path: "/livez", major: 1, want: authn.Anonymous},
		{name: "nobody over HTTP/2", path: "/livez", major: 2, want: authn.Anonymous, close: true},
		{name: "from inside", path: "/api", token: "bad", inside: inside, major: 1, want: "inside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got *request.User
			h := Authenticate(Parts{Who: authn.New(known{})})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = request.UserOf(r.Context())
				if c.inside == nil && (r.Header.Get("Authorization") != "" || r.Header.Get("X-Remote-User") != "") {
					t.Errorf("%v goes on", r.Header)
				}
			}))
			r := httptest.NewRequest("GET", c.path, nil)
			r.ProtoMajor = c.major
			r.Header.Set("X-Remote-User", "admin")
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			ctx := r.Context()
			if c.inside != nil {
				ctx = request.WithUser(ctx, c.inside)
			}
			ctx = request.Begin(ctx, request.Parse(r), zap.NewNop(), func(string) {})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(ctx))
			if c.want == "" && (w.Code != http.StatusUnauthorized || got != nil) || c.want != "" && (got == nil || got.Name != c.want) {
				t.Errorf("%d as %v", w.Code, got)
			}
			if (w.Header().Get("Connection") == "close") != c.close {
				t.Errorf("Connection: %s", w.Header().Get("Connection"))
			}
		})
	}
}
