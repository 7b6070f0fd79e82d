package images_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(m)) }

// registry serves the test image as a real one would: name app, tags 1 and latest; private/app needs a login.
type registry struct {
	host     string
	manifest nodetest.File
	blobs    map[string]nodetest.File
	asked    atomic.Int64 // times the layer was fetched
	down     atomic.Bool
	library  atomic.Bool   // app is also library/app
	gate     chan struct{} // closed: layers are given; else they wait
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	manifest, config, layer := nodetest.Blobs(t)
	r := &registry{manifest: manifest, blobs: map[string]nodetest.File{config.Digest: config, layer.Digest: layer}, gate: make(chan struct{})}
	srv := httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(srv.Close)
	r.host = strings.TrimPrefix(srv.URL, "http://")
	return r
}

func (r *registry) serve(w http.ResponseWriter, req *http.Request) {
	if r.down.Load() {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
		return
	}
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	if r.library.Load() {
		path = strings.TrimPrefix(path, "library/")
	}
	if strings.HasPrefix(path, "private/") {
		if user, password, _ := req.BasicAuth(); user != "me" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
	}
	f, ok := r.manifest, false
	switch path = strings.TrimPrefix(path, "private/"); path {
	case "app/manifests/1", "app/manifests/latest", "app/manifests/" + r.manifest.Digest:
		ok = true
	default:
		f, ok = r.blobs[strings.TrimPrefix(path, "app/blobs/")]
	}
	if !ok {
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	if strings.Contains(f.MediaType, "layer") {
		r.asked.Add(1)
		<-r.gate
	}
	w.Header().Set("Content-Type", f.MediaType)
	w.Header().Set("Docker-Content-Digest", f.Digest)
	w.Header().Set("Content-Length", fmt.Sprint(len(f.Data)))
	if req.Method != http.MethodHead {
		w.Write(f.Data) // a client that goes away is its own business
	}
}

func newStore(t *testing.T, cfg images.Config) *images.Store {
	t.Helper()
	daemon := nodetest.StartContainerd(t)
	rt := containers.New(containers.Config{Address: daemon.Address, StateDir: daemon.Dir}, nil, zaptest.NewLogger(t))
	if err := rt.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return images.New(cfg, rt, zaptest.NewLogger(t))
}

func TestEnsure(t *testing.T) {
	reg := newRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}})
	ctx := context.Background()
	name := reg.host + "/app:1"

	if _, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullNever}); images.Reason(err) != "ErrImageNeverPull" {
		t.Fatalf("never, not here: got %v", err)
	}
	// Many ask at once, one pull is made.
	var began atomic.Int64
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			img, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullIfNotPresent, OnPull: func() { began.Add(1) }})
			if err != nil || !img.Pulled || img.Name != name || !strings.HasPrefix(img.ID, "sha256:") {
				t.Errorf("got %+v, %v", img, err)
			}
		})
	}
	close(reg.gate)
	wait.Wait()
	if began.Load() != 1 || reg.asked.Load() != 1 {
		t.Errorf("%d pulls began, the layer was fetched %d times", began.Load(), reg.asked.Load())
	}
	reg.down.Store(true)
	img, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullIfNotPresent})
	if err != nil || img.Pulled || img.StopSignal != "SIGUSR1" || img.WorkingDir != "/tmp" || len(img.Cmd) != 3 || img.Size < 1<<20 {
		t.Errorf("here already: %+v, %v", img, err)
	}
	if _, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullNever}); err != nil {
		t.Errorf("never, but here: %v", err)
	}
	if _, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullAlways}); images.Reason(err) != "ErrImagePull" {
		t.Errorf("always, registry down: got %v", err)
	}
	reg.down.Store(false)
	if img, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullAlways, PodUID: "other"}); err != nil || !img.Pulled {
		t.Errorf("always, registry up: %+v, %v", img, err)
	}
	byDigest := reg.host + "/app@" + reg.manifest.Digest
	if got, err := store.Ensure(ctx, images.PullSpec{Image: byDigest}); err != nil || got.Pulled || got.ID != img.ID {
		t.Errorf("by digest: %+v, %v", got, err)
	}

	list, err := store.List(ctx)
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Names, []string{name}) || !slices.Equal(list[0].Digests, []string{byDigest}) {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if removed, err := store.RemoveUnused(ctx, map[string]bool{img.ID: true}); err != nil || len(removed) != 0 {
		t.Errorf("in use, yet removed: %v, %v", removed, err)
	}
	if removed, err := store.RemoveUnused(ctx, nil); err != nil || !slices.Equal(removed, []string{img.ID}) {
		t.Errorf("unused: removed %v, %v", removed, err)
	}
	if list, err := store.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("after removal: %+v, %v", list, err)
	}
	if err := store.Remove(ctx, name); err != nil {
		t.Errorf("removing again: %v", err)
	}
}

func TestPrivate(t *testing.T) {
	reg := newRegistry(t)
	close(reg.gate)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}})
	secret := func(name, auths string) corev1.Secret {
		return corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Type:       corev1.SecretTypeDockerConfigJson,
			Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{` + auths + `}}`)},
		}
	}
	encoded := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	right := secret("right", fmt.Sprintf(`%q:{"auth":%q}`, reg.host, encoded))
	wrong := secret("wrong", fmt.Sprintf(`"http://%s/private":{"username":"me","password":"forgotten"}`, reg.host))
	broken := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "broken"}, Type: corev1.SecretTypeDockerConfigJson}
	for i, c := range []struct {
		name    string
		secrets []corev1.Secret
		reason  string
	}{
		{"none", nil, "ErrImagePull"},
		{"wrong", []corev1.Secret{wrong}, "ErrImagePull"},
		{"another host's", []corev1.Secret{secret("other", `"example.test":{"username":"me","password":"secret"}`)}, "ErrImagePull"},
		{"right after wrong and broken", []corev1.Secret{broken, wrong, right}, ""},
	} {
		_, err := store.Ensure(context.Background(), images.PullSpec{Image: reg.host + "/private/app:1", PodUID: fmt.Sprint(i), Secrets: c.secrets, Policy: corev1.PullAlways})
		if got := images.Reason(err); got != c.reason {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "forgotten") {
			t.Errorf("%s: the error tells a password: %v", c.name, err)
		}
	}
}

func TestFailures(t *testing.T) {
	reg := newRegistry(t)
	close(reg.gate)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}, BackOff: time.Hour})
	ctx := context.Background()
	for _, name := range []string{"", "app/UPPER", "a b", "-x", "x:" + strings.Repeat("y", 200)} {
		if _, err := store.Ensure(ctx, images.PullSpec{Image: name}); images.Reason(err) != "InvalidImageName" {
			t.Errorf("%q: got %v", name, err)
		}
	}
	none := images.PullSpec{Image: reg.host + "/app:none", PodUID: "a"}
	if _, err := store.Ensure(ctx, none); images.Reason(err) != "ErrImagePull" || !strings.Contains(err.Error(), "not found") {
		t.Errorf("no such tag: got %v", err)
	}
	if _, err := store.Ensure(ctx, none); images.Reason(err) != "ImagePullBackOff" || !errors.Is(err, images.ErrBackOff) {
		t.Errorf("again at once: got %v", err)
	}
	none.PodUID = "b"
	if _, err := store.Ensure(ctx, none); images.Reason(err) != "ErrImagePull" {
		t.Errorf("another pod: got %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := store.Ensure(ctx, images.PullSpec{Image: reg.host + "/app:1", PodUID: "c"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestMirror finds a plain name where a hosts.toml sends it.
func TestMirror(t *testing.T) {
	reg := newRegistry(t)
	close(reg.gate)
	hosts := t.TempDir()
	if err := os.Mkdir(filepath.Join(hosts, "docker.io"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("server = %[1]q\n\n[host.%[1]q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+reg.host)
	if err := os.WriteFile(filepath.Join(hosts, "docker.io", "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	store := newStore(t, images.Config{HostsDir: hosts})
	img, err := store.Ensure(context.Background(), images.PullSpec{Image: "docker.io/app"})
	if images.Reason(err) != "ErrImagePull" {
		t.Fatalf("library/app is not in the mirror: got %+v, %v", img, err)
	}
	reg.library.Store(true)
	if img, err := store.Ensure(context.Background(), images.PullSpec{Image: "app", PodUID: "again"}); err != nil || img.Name != "docker.io/library/app:latest" {
		t.Fatalf("got %+v, %v", img, err)
	}
}

func TestImport(t *testing.T) {
	store := newStore(t, images.Config{})
	ctx := context.Background()
	names, err := store.Import(ctx, nodetest.Archive(t, "busybox:1"))
	if err != nil || !slices.Equal(names, []string{"docker.io/library/busybox:1"}) {
		t.Fatalf("got %v, %v", names, err)
	}
	if img, err := store.Ensure(ctx, images.PullSpec{Image: "busybox:1", Policy: corev1.PullNever}); err != nil || img.Name != names[0] {
		t.Errorf("got %+v, %v", img, err)
	}
	if err := store.Remove(ctx, "busybox:1"); err != nil {
		t.Fatal(err)
	}
	if list, err := store.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("after removal: %+v, %v", list, err)
	}
	if _, err := store.Import(ctx, "/dev/null"); err == nil {
		t.Error("an empty archive was taken")
	}
}
