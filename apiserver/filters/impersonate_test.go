package filters

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"go.uber.org/zap"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/request"
)

func TestImpersonate(t *testing.T) {
	master := &request.User{Name: "admin", Groups: []string{authz.Masters}}
	for _, c := range []struct {
		name    string
		as      *request.User
		headers [][2]string
		code    int
		want    request.User
	}{
		{"nobody", master, nil, 200, *master},
		{"a user", master, [][2]string{{"Impersonate-User", "jane"}, {"Impersonate-Group", "dev"}, {"Impersonate-Group", "ops"}}, 200,
			request.User{Name: "jane", Groups: []string{"dev", "ops", "system:authenticated"}}},
		{"a service account", master, [][2]string{{"Impersonate-User", "system:serviceaccount:ns:sa"}}, 200,
			request.User{Name: "system:serviceaccount:ns:sa", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}}},
		{"with more", master, [][2]string{{"Impersonate-User", "jane"}, {"Impersonate-Uid", "7"}, {"Impersonate-Extra-Example.com%2fScope", "a"}}, 200,
			request.User{Name: "jane", UID: "7", Groups: []string{"system:authenticated"}, Extra: map[string][]string{"example.com/scope": {"a"}}}},
		{"anonymous", master, [][2]string{{"Impersonate-User", "system:anonymous"}}, 200,
			request.User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}},
		{"what is no service account's name", master, [][2]string{{"Impersonate-User", "system:serviceaccount:ns:sa:more"}}, 200,
			request.User{Name: "system:serviceaccount:ns:sa:more", Groups: []string{"system:authenticated"}}},
		{"groups that say so themselves", master, [][2]string{{"Impersonate-User", "jane"}, {"Impersonate-Group", "system:unauthenticated"}}, 200,
			request.User{Name: "jane", Groups: []string{"system:unauthenticated"}}},
		{"extra without a user", master, [][2]string{{"Impersonate-Extra-A", "b"}}, 400, request.User{}},
		{"a UID without a user", master, [][2]string{{"Impersonate-Uid", "b"}}, 400, request.User{}},
		{"who may not", &request.User{Name: "joe"}, [][2]string{{"Impersonate-User", "jane"}}, 403, request.User{}},
		{"without a user", master, [][2]string{{"Impersonate-Group", "dev"}}, 400, request.User{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got *request.User
			h := Impersonate(Parts{May: authz.New()})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = request.UserOf(r.Context())
				if impersonates(r.Header) {
					t.Errorf("headers go on: %v", r.Header)
				}
			}))
			r := httptest.NewRequest("GET", "/api/v1/pods", nil)
			for _, h := range c.headers {
				r.Header.Add(h[0], h[1])
			}
			ctx := request.Begin(r.Context(), request.Parse(r), zap.NewNop(), func(string) {})
			request.SetUser(ctx, c.as)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(ctx))
			if w.Code != c.code {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if c.code != 200 {
				if got != nil {
					t.Error("the request went on")
				}
				return
			}
			if got.Name != c.want.Name || got.UID != c.want.UID || !slices.Equal(got.Groups, c.want.Groups) ||
				len(got.Extra) != len(c.want.Extra) || !slices.Equal(got.Extra["example.com/scope"], c.want.Extra["example.com/scope"]) {
				t.Errorf("went on as %+v", *got)
			}
		})
	}
}

// Each thing that is said of the other must be allowed by itself.
func TestImpersonationRights(t *testing.T) {
	for _, c := range []struct {
		name string
		h    http.Header
		want []string // group/resource/subresource namespace/name
	}{
		{"a user", http.Header{"Impersonate-User": {"jane"}}, []string{"/users/ /jane"}},
		{"groups", http.Header{"Impersonate-User": {"jane"}, "Impersonate-Group": {"dev", "system:masters"}}, []string{"/users/ /jane", "/groups/ /dev", "/groups/ /system:masters"}},
		{"a service account", http.Header{"Impersonate-User": {"system:serviceaccount:ns:sa"}}, []string{"/serviceaccounts/ ns/sa"}},
		{"one of no namespace", http.Header{"Impersonate-User": {"system:serviceaccount::sa"}}, []string{"/users/ /system:serviceaccount::sa"}},
		{"one of no name", http.Header{"Impersonate-User": {"system:serviceaccount:ns:"}}, []string{"/users/ /system:serviceaccount:ns:"}},
		{"one of two names", http.Header{"Impersonate-User": {"system:serviceaccount:ns:a:b"}}, []string{"/users/ /system:serviceaccount:ns:a:b"}},
		{"a UID", http.Header{"Impersonate-User": {"jane"}, "Impersonate-Uid": {"7"}}, []string{"/users/ /jane", "authentication.k8s.io/uids/ /7"}},
		{"more", http.Header{"Impersonate-User": {"jane"}, "Impersonate-Extra-Example.com%2fscopes": {"a", "b"}},
			[]string{"/users/ /jane", "authentication.k8s.io/userextras/example.com/scopes /a", "authentication.k8s.io/userextras/example.com/scopes /b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, asks, err := impersonated(c.h)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, i := range asks {
				if i.Verb != "impersonate" || !i.IsResource || i.Version != "v1" {
					t.Errorf("%+v", i)
				}
				got = append(got, i.Group+"/"+i.Resource+"/"+i.Subresource+" "+i.Namespace+"/"+i.Name)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("asks %q, want %q", got, c.want)
			}
		})
	}
}
