package images_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
)

func pullSecret(name, auths string) corev1.Secret {
	return corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{` + auths + `}}`)},
	}
}

// basic asks for a user and a password below /v2/private/.
func basic(w http.ResponseWriter, req *http.Request) bool {
	user, password, _ := req.BasicAuth()
	if !strings.HasPrefix(req.URL.Path, "/v2/private/") || user == "me" && password == "secret" {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
	return true
}

// bearer asks for a token, which is given for a user and a password by /token.
func (r *registry) bearer(w http.ResponseWriter, req *http.Request) bool {
	if req.URL.Path == "/token" {
		if user, password, _ := req.BasicAuth(); user != "me" || password != "secret" {
			http.Error(w, `{"details":"incorrect username or password"}`, http.StatusUnauthorized)
			return true
		}
		fmt.Fprint(w, `{"token":"let-me-in","expires_in":300}`)
		return true
	}
	if !strings.HasPrefix(req.URL.Path, "/v2/private/") || req.Header.Get("Authorization") == "Bearer let-me-in" {
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:private/app:pull"`, r.URL))
	http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
	return true
}

// TestPrivate: the right one of a pod's secrets is found and used, with both ways to ask for it; no error tells a password.
func TestPrivate(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}})
	encoded := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	right := pullSecret("right", fmt.Sprintf(`%q:{"auth":%q}`, reg.host, encoded))
	old := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "old", UID: "old"}, Type: corev1.SecretTypeDockercfg,
		Data: map[string][]byte{corev1.DockerConfigKey: fmt.Appendf(nil, `{%q:{"auth":%q}}`, "https://"+reg.host+"/v1/", encoded)}}
	wrong := pullSecret("wrong", fmt.Sprintf(`"http://%s/private":{"username":"me","password":"forgotten"}`, reg.host))
	broken := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "broken"}, Type: corev1.SecretTypeDockerConfigJson}
	for how, ask := range map[string]func(http.ResponseWriter, *http.Request) bool{"basic": basic, "bearer": reg.bearer} {
		reg.first(ask)
		for _, c := range []struct {
			name    string
			secrets []corev1.Secret
			reason  string
		}{
			{"none", nil, "ErrImagePull"},
			{"wrong", []corev1.Secret{wrong}, "ErrImagePull"},
			{"another host's", []corev1.Secret{pullSecret("other", `"example.test":{"username":"me","password":"secret"}`)}, "ErrImagePull"},
			{"right after wrong and broken", []corev1.Secret{broken, wrong, right}, ""},
			{"of the old kind", []corev1.Secret{old}, ""},
		} {
			_, err := store.Ensure(context.Background(), images.PullSpec{Image: reg.host + "/private/app:1", PodUID: how + c.name, Secrets: c.secrets, Policy: corev1.PullAlways})
			if got := images.Reason(err); got != c.reason {
				t.Errorf("%s, %s: got %q, %v", how, c.name, got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), "pull access denied") || strings.Contains(err.Error(), "forgotten") || strings.Contains(err.Error(), encoded)) {
				t.Errorf("%s, %s: the error tells too little or too much: %v", how, c.name, err)
			}
		}
	}
}

// TestVerify: a private image that is here is for those whose credentials have opened it.
func TestVerify(t *testing.T) {
	reg := plainRegistry(t)
	reg.first(basic)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}, BackOff: time.Nanosecond})
	ctx := context.Background()
	login := func(name, password string) []corev1.Secret {
		return []corev1.Secret{pullSecret(name, fmt.Sprintf(`%q:{"username":"me","password":%q}`, reg.host, password))}
	}
	private := reg.host + "/private/app:1"
	steps := []struct {
		name    string
		image   string
		policy  corev1.PullPolicy
		secrets []corev1.Secret
		reason  string
		pulled  bool
	}{
		{"who has the credentials pulls it", private, corev1.PullIfNotPresent, login("a", "secret"), "", true},
		{"and then has it", private, corev1.PullIfNotPresent, login("a", "secret"), "", false},
		{"who has none does not", private, corev1.PullIfNotPresent, nil, "ErrImagePull", false},
		{"who must not pull is told that it is not here", private, corev1.PullNever, nil, "ErrImageNeverPull", false},
		{"the same credentials in another secret do", private, corev1.PullNever, login("b", "secret"), "", false},
		{"the same secret does, though its password was changed", private, corev1.PullNever, login("a", "changed"), "", false},
		{"wrong credentials do not", private, corev1.PullIfNotPresent, login("c", "wrong"), "ErrImagePull", false},
		{"by its digest it is the same", reg.host + "/private/app@" + reg.manifest.Digest, corev1.PullNever, login("b", "secret"), "", false},
		{"by its digest too only with credentials", reg.host + "/private/app@" + reg.manifest.Digest, corev1.PullIfNotPresent, nil, "ErrImagePull", false},
		{"what is open is for all", reg.host + "/app:1", corev1.PullIfNotPresent, login("c", "wrong"), "", true},
		{"also for those without any", reg.host + "/app:1", corev1.PullIfNotPresent, nil, "", true},
		{"once that is known nobody asks again", reg.host + "/app:1", corev1.PullNever, login("d", "wrong"), "", false},
		{"which says nothing about the private one", private, corev1.PullNever, nil, "ErrImageNeverPull", false},
	}
	for _, c := range steps {
		img, err := store.Ensure(ctx, images.PullSpec{Image: c.image, Policy: c.policy, Secrets: c.secrets})
		if images.Reason(err) != c.reason || img.Pulled != c.pulled {
			t.Errorf("%s: pulled %t, %v", c.name, img.Pulled, err)
		}
	}
	// A kubelet that is started again knows it from containerd alone.
	again := images.New(images.Config{PlainHTTP: []string{reg.host}}, store.Daemon(), nopLog())
	if _, err := again.Ensure(ctx, images.PullSpec{Image: private, Policy: corev1.PullNever}); images.Reason(err) != "ErrImageNeverPull" {
		t.Errorf("after a restart, without credentials: %v", err)
	}
	if _, err := again.Ensure(ctx, images.PullSpec{Image: private, Policy: corev1.PullNever, Secrets: login("a", "secret")}); err != nil {
		t.Errorf("after a restart, with credentials: %v", err)
	}
	// A kubelet that ended after the pull and before it noted who may have it.
	if err := store.Forget(ctx, private); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Ensure(ctx, images.PullSpec{Image: private, Policy: corev1.PullNever, Secrets: login("a", "secret")}); images.Reason(err) != "ErrImageNeverPull" {
		t.Errorf("half recorded: %v", err)
	}
	// Policies.
	if _, err := store.Import(ctx, nodetest.Archive(t, "reg.test/team/loaded:1")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		policy images.VerifyPolicy
		list   []string
		may    []string
	}{
		{images.NeverVerify, nil, []string{private, "reg.test/team/loaded:1"}},
		{images.NeverVerifyPreloaded, nil, []string{"reg.test/team/loaded:1"}},
		{images.NeverVerifyAllowlisted, []string{"reg.test/team/*"}, []string{"reg.test/team/loaded:1"}},
		{images.NeverVerifyAllowlisted, []string{"reg.test/team/loaded"}, []string{"reg.test/team/loaded:1"}},
		{images.NeverVerifyAllowlisted, []string{"reg.test/tea*", "reg.test/team/load"}, nil},
		{images.AlwaysVerify, nil, nil},
	} {
		s := images.New(images.Config{Verify: c.policy, Allowlist: c.list}, store.Daemon(), nopLog())
		var may []string
		for _, image := range []string{private, "reg.test/team/loaded:1"} {
			if _, err := s.Ensure(ctx, images.PullSpec{Image: image, Policy: corev1.PullNever}); err == nil {
				may = append(may, image)
			}
		}
		if !slices.Equal(may, c.may) {
			t.Errorf("%s %v: given %v, want %v", c.policy, c.list, may, c.may)
		}
	}
}
