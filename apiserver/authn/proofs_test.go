package authn

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"pilothouse.dev/apiserver/hookclient"
)

// Only a proxy that is known by its certificate is believed, and its headers never go on.
func TestFrontProxy(t *testing.T) {
	proxies, clients, stranger := newAuthority(t, "proxies"), newAuthority(t, "clients"), newAuthority(t, "proxies")
	proxy := proxies.client(t, "front-proxy")
	says := http.Header{"X-Remote-User": {"jane"}, "X-Remote-Group": {"dev", "", "ops"}, "X-Remote-Uid": {"7"}, "X-Remote-Extra-Example.com%2fscope": {"a", "b"}}
	for _, c := range []struct {
		name   string
		cert   *authority
		leaf   string
		h      http.Header
		want   string // empty: refused
		groups []string
	}{
		{"the proxy", proxies, "front-proxy", says, "jane", []string{"dev", "ops", "system:authenticated"}},
		{"the proxy, of nobody", proxies, "front-proxy", http.Header{"X-Remote-Group": {"system:masters"}}, "", nil},
		{"another with a certificate of the same authority", proxies, "somebody", says, "", nil},
		{"a stranger's authority of the same name", stranger, "front-proxy", says, "", nil},
		{"an ordinary client", clients, "joe", says, "joe", []string{"dev", "ops", "system:authenticated"}},
		{"an ordinary client of the proxy's name", clients, "front-proxy", says, "front-proxy", []string{"dev", "ops", "system:authenticated"}},
		{"nobody", nil, "", says, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := open(t, Config{ClientCAFile: clients.file, FrontProxy: FrontProxyConfig{
				CAFile: proxies.file, Names: []string{"front-proxy"}, Users: []string{"x-remote-user", "X-Also"}, UIDs: []string{"X-Remote-Uid"},
				Groups: []string{"X-Remote-Group", "X-Teams"}, Extras: []string{"X-Remote-Extra-"},
			}}, Parts{})
			r := asking("/api")
			switch {
			case c.cert == proxies && c.leaf == "front-proxy":
				r = asking("/api", proxy)
			case c.cert != nil:
				r = asking("/api", c.cert.client(t, c.leaf))
			}
			r.Header = c.h.Clone()
			r.Header.Set("X-Teams", "")
			u, err := a.User(r)
			if (err == nil) != (c.want != "") || err == nil && (u.Name != c.want || !slices.Equal(u.Groups, c.groups)) {
				t.Fatalf("got %+v, %v", u, err)
			}
			if err != nil {
				return
			}
			if c.want == "jane" && (u.UID != "7" || !slices.Equal(u.Extra["example.com/scope"], []string{"a", "b"})) {
				t.Errorf("got %+v", u)
			}
			if len(r.Header) != 0 {
				t.Errorf("%v go on", r.Header)
			}
		})
	}
	for _, c := range []struct {
		cfg  FrontProxyConfig
		want string
	}{
		{FrontProxyConfig{Names: []string{"x"}}, "without --requestheader-client-ca-file"},
		{FrontProxyConfig{CAFile: proxies.file}, "without --requestheader-username-headers"},
		{FrontProxyConfig{CAFile: proxies.file, Users: []string{" "}}, "empty header"},
		{FrontProxyConfig{CAFile: "/nonexistent", Users: []string{"X"}}, "/nonexistent"},
	} {
		if _, err := Open(Config{FrontProxy: c.cfg}, Parts{Metrics: prometheus.NewRegistry(), Log: zap.NewNop()}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}

func TestJoiners(t *testing.T) {
	const token = "abcdef.0123456789abcdef"
	good := map[string]string{
		"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
		"expiration": time.Now().Add(time.Hour).Format(time.RFC3339), "auth-extra-groups": "system:bootstrappers:worker,system:bootstrappers:kubeadm:default-node-token",
	}
	old := metav1.Now()
	for _, c := range []struct {
		name   string
		token  string
		change map[string]string // of the data; "" takes a key away
		meta   func(*corev1.Secret)
		groups []string // nil: refused
	}{
		{name: "good", groups: []string{"system:bootstrappers", "system:bootstrappers:worker", "system:bootstrappers:kubeadm:default-node-token"}},
		{name: "for ever, without groups", change: map[string]string{"expiration": "", "auth-extra-groups": ""}, groups: []string{"system:bootstrappers"}},
		{name: "another secret", token: "abcdef.0123456789abcdee"},
		{name: "another id", token: "abcdeg.0123456789abcdef"},
		{name: "of another form", token: "ABCDEF.0123456789abcdef"},
		{name: "longer", token: token + "0"},
		{name: "expired", change: map[string]string{"expiration": time.Now().Add(-time.Minute).Format(time.RFC3339)}},
		{name: "an end that is no time", change: map[string]string{"expiration": "tomorrow"}},
		{name: "for signing only", change: map[string]string{"usage-bootstrap-authentication": ""}},
		{name: "perhaps for authentication", change: map[string]string{"usage-bootstrap-authentication": "True"}},
		{name: "an id that is not of the name", change: map[string]string{"token-id": "abcdeg"}},
		{name: "no secret in it", change: map[string]string{"token-secret": ""}},
		{name: "a group of masters", change: map[string]string{"auth-extra-groups": "system:masters"}},
		{name: "a group of masters among others", change: map[string]string{"auth-extra-groups": "system:bootstrappers:a,system:masters"}},
		{name: "a group that nearly is one", change: map[string]string{"auth-extra-groups": "system:bootstrappers:"}},
		{name: "another type", meta: func(s *corev1.Secret) { s.Type = "Opaque" }},
		{name: "going", meta: func(s *corev1.Secret) { s.DeletionTimestamp = &old }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &corev1.Secret{ObjectMeta: meta("bootstrap-token-abcdef"), Type: "bootstrap.kubernetes.io/token", Data: map[string][]byte{}}
			data := maps.Clone(good)
			maps.Copy(data, c.change)
			for k, v := range data {
				if v != "" {
					s.Data[k] = []byte(v)
				}
			}
			if c.meta != nil {
				c.meta(s)
			}
			objects := &cluster{}
			objects.putSecret(s)
			if c.token == "" {
				c.token = token
			}
			a := open(t, Config{Bootstrap: true, CacheTTL: time.Hour}, Parts{Objects: objects})
			u, meant, err := a.Check(t.Context(), c.token, nil)
			if c.groups == nil {
				if !errors.Is(err, ErrNotMine) {
					t.Errorf("got %v, %v", u, err)
				}
				return
			}
			if err != nil || u.Name != "system:bootstrap:abcdef" || !slices.Equal(u.Groups, append(c.groups, Authenticated)) || len(meant) != 1 {
				t.Fatalf("got %+v for %v, %v", u, meant, err)
			}
			objects.drop("secrets/bootstrap-token-abcdef")
			if _, _, err := a.Check(t.Context(), c.token, nil); err == nil {
				t.Error("believed after its secret is gone")
			}
		})
	}
}

func TestTokenFile(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "tokens.csv")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	a := open(t, Config{TokenFile: write("secret1,jane,1\nsecret2,joe,2,\"dev,ops\"\nsecret3,jim,3,\"\"\n")}, Parts{})
	for _, c := range []struct {
		token, user string
		groups      []string
	}{
		{"secret1", "jane", []string{Authenticated}}, {"secret2", "joe", []string{"dev", "ops", Authenticated}}, {"secret3", "jim", []string{Authenticated}},
		{"secret", "", nil}, {"secret11", "", nil},
	} {
		u, meant, err := a.Check(t.Context(), c.token, nil)
		if (err == nil) != (c.user != "") || err == nil && (u.Name != c.user || !slices.Equal(u.Groups, c.groups) || len(meant) != 1) {
			t.Errorf("%s: %+v, %v", c.token, u, err)
		}
		if _, _, err := a.Check(t.Context(), c.token, []string{"vault"}); err == nil {
			t.Errorf("%s is for another audience", c.token)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"a,b,c\nd,e\n", "line 2: want at least 3 columns (token, user name, user uid), found 2"},
		{"a,b,c\n\n\nd,e,f,g,h\n", "line 4: want at most 4 columns"},
		{",jane,1\n", "line 1: the token is empty"},
		{"secret9,,1\n", "line 1: the user has no name"},
		{"secret9,jane,1\nsecret9,joe,2\n", "line 2: the token stands on another line too"},
		{"secret9,\"jane,1\n", "line 1"},
	} {
		file := write(c.text)
		_, err := Open(Config{TokenFile: file}, Parts{Metrics: prometheus.NewRegistry(), Log: zap.NewNop()})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "secret9") {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

// reviewer is a service that knows tokens.
type reviewer struct {
	*httptest.Server
	mu    sync.Mutex
	asked []authenticationv1.TokenReview
	say   func(*authenticationv1.TokenReview)
	code  int
}

func newReviewer(t *testing.T) *reviewer {
	t.Helper()
	v := &reviewer{code: http.StatusOK}
	v.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		defer v.mu.Unlock()
		var review authenticationv1.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		v.asked = append(v.asked, *review.DeepCopy())
		v.say(&review)
		w.WriteHeader(v.code)
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *reviewer) client(t *testing.T) *hookclient.Client {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.Certificate().Raw})
	c, err := hookclient.New(&rest.Config{Host: v.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}, hookclient.Options{Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWebhook(t *testing.T) {
	jane := func(audiences ...string) func(*authenticationv1.TokenReview) {
		return func(r *authenticationv1.TokenReview) {
			r.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: audiences, User: authenticationv1.UserInfo{
				Username: "jane", UID: "1", Groups: []string{"dev"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}}
		}
	}
	for _, c := range []struct {
		name      string
		say       func(*authenticationv1.TokenReview)
		code      int
		audiences []string
		want      string // part of the error
		kept      bool   // whether the answer is believed afterwards
	}{
		{name: "known", say: jane(), kept: true},
		{name: "known, for us among others", say: jane("us", "them"), kept: true},
		{name: "known, for others", say: jane("them"), want: "invalid bearer token", kept: true},
		{name: "for another audience, of which it knows nothing", say: jane(), audiences: []string{"vault"}, want: "invalid bearer token", kept: true},
		{name: "for another audience that it knows", say: jane("vault"), audiences: []string{"vault"}, kept: true},
		{name: "not known", say: func(r *authenticationv1.TokenReview) { r.Status = authenticationv1.TokenReviewStatus{} }, want: "invalid bearer token", kept: true},
		{name: "not known, with a reason that tells the token", say: func(r *authenticationv1.TokenReview) {
			r.Status = authenticationv1.TokenReviewStatus{Error: "no " + r.Spec.Token}
		}, want: "no <token>", kept: true},
		{name: "nobody", say: func(r *authenticationv1.TokenReview) {
			r.Status = authenticationv1.TokenReviewStatus{Authenticated: true}
		}, want: "names no user", kept: true},
		{name: "in trouble, telling the token", say: jane(), code: 500, want: "asking the token webhook"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newReviewer(t)
			v.say = c.say
			if c.code != 0 {
				v.code = c.code
			}
			w := newWebhook(v.client(t), WebhookConfig{Version: "v1", TTL: time.Minute}, []string{"us"})
			now := time.Now()
			w.now = func() time.Time { return now }
			if c.audiences == nil {
				c.audiences = []string{"us"}
			}
			check := func() (*Found, error) { return w.Check(t.Context(), "its-token", c.audiences) }
			for range 2 {
				found, err := check()
				if c.want != "" {
					if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "its-token") {
						t.Fatalf("got %v, %v", found, err)
					}
					continue
				}
				if err != nil || found.User.Name != "jane" || found.User.Extra["k"][0] != "v" || !slices.Equal(found.Audiences, c.audiences) {
					t.Fatalf("got %v, %v", found, err)
				}
			}
			if want := map[bool]int{true: 1, false: 2}[c.kept]; len(v.asked) != want {
				t.Errorf("asked %d times", len(v.asked))
			}
			if q := v.asked[0]; q.APIVersion != "authentication.k8s.io/v1" || q.Kind != "TokenReview" || q.Spec.Token != "its-token" || !slices.Equal(q.Spec.Audiences, c.audiences) {
				t.Errorf("asked %+v", q)
			}
			now = now.Add(2 * time.Minute)
			before := len(v.asked)
			_, _ = check() // looked at above
			if len(v.asked) != before+1 {
				t.Error("not asked again when the answer is old")
			}
		})
	}
}

// Many requests with one token ask the service once, and one of them that goes away takes nothing from the others.
func TestWebhookOnce(t *testing.T) {
	v := newReviewer(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	v.say = func(r *authenticationv1.TokenReview) {
		close(entered)
		<-leave
		r.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "jane"}}
	}
	w := newWebhook(v.client(t), WebhookConfig{Version: "v1", TTL: time.Minute}, []string{"us"})
	impatient, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() { _, err := w.Check(impatient, "x", []string{"us"}); first <- err }()
	<-entered
	others := make(chan error)
	for range 10 {
		go func() { _, err := w.Check(t.Context(), "x", []string{"us"}); others <- err }()
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	close(leave)
	for range 10 {
		if err := <-others; err != nil {
			t.Error(err)
		}
	}
	if len(v.asked) != 1 {
		t.Errorf("asked %d times", len(v.asked))
	}
	if err := (WebhookConfig{Version: "v2"}).Check(); err == nil {
		t.Error("a strange version")
	}
	if _, err := Open(Config{Webhook: WebhookConfig{File: "/nonexistent", Version: "v1"}}, Parts{Metrics: prometheus.NewRegistry(), Log: zap.NewNop()}); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("no file: %v", err)
	}
}

// The union: the first that knows a token counts, and what others complain of does not matter then.
func TestUnion(t *testing.T) {
	v := newReviewer(t)
	v.say = func(r *authenticationv1.TokenReview) {
		r.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "hook"}}
	}
	private, _ := ecKey(t)
	stranger, _ := ecKey(t)
	ours := tokens(t, TokenConfig{SigningKey: private}, everything())
	forged := issue(t, tokens(t, TokenConfig{SigningKey: stranger}, everything()), claim())
	a := open(t, Config{}, Parts{Tokens: ours})
	if _, _, err := a.Check(t.Context(), forged, nil); err == nil || !strings.Contains(err.Error(), "its signature is of no key") {
		t.Errorf("without the service: %v", err)
	}
	a.bearers = append(a.bearers, newWebhook(v.client(t), WebhookConfig{Version: "v1", TTL: time.Minute}, a.audiences))
	if u, _, err := a.Check(t.Context(), forged, nil); err != nil || u.Name != "hook" || !u.InGroup(Authenticated) {
		t.Errorf("with it: %v, %v", u, err)
	}
	if u, _, err := a.Check(t.Context(), issue(t, ours, claim()), nil); err != nil || u.Name != "system:serviceaccount:ns:robot" {
		t.Errorf("ours: %v, %v", u, err)
	}
	if len(v.asked) != 1 {
		t.Errorf("the service was shown %d tokens", len(v.asked))
	}
}

// Over a real connection: a certificate that TLS did not verify is answered in HTTP, and each connection's is verified once.
func TestConnection(t *testing.T) {
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	a := open(t, Config{ClientCAFile: ca.file}, Parts{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := a.User(r)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if c, ok := r.Context().Value(connectionKey{}).(*connection); !ok || c.client.Load() == nil {
			t.Error("nothing is remembered")
		}
		fmt.Fprint(w, u.Name)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.Config.ConnContext = Remember
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	for _, c := range []struct {
		by   *authority
		code int
	}{{ca, 200}, {stranger, 401}} {
		leaf, key := certificate(t, c.by.client(t, "jane"), c.by)
		client := s.Client().Transport.(*http.Transport).Clone()
		client.TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}
		t.Cleanup(client.CloseIdleConnections)
		for range 2 {
			answer, err := (&http.Client{Transport: client}).Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != c.code {
				t.Errorf("%d", answer.StatusCode)
			}
			if err := answer.Body.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
