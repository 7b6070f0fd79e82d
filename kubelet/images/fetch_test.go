package images_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/images"
)

func nopLog() *zap.Logger { return zap.NewNop() }

// hostsFile writes the hosts.toml of a host.
func hostsFile(t *testing.T, dir, host, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMirrors finds images where hosts.toml sends it: over TLS with an authority of its own or without looking, by a path, past a mirror
// that is away. A mirror never sees what is for the registry.
func TestMirrors(t *testing.T) {
	mirror, dir := newRegistry(t, httptest.NewTLSServer), t.TempDir()
	var shown atomic.Value
	mirror.first(func(_ http.ResponseWriter, req *http.Request) bool {
		if a := req.Header.Get("Authorization"); a != "" {
			shown.Store(a)
		}
		return false
	})
	ca := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mirror.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	url := mirror.URL
	hostsFile(t, dir, "docker.io", fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = %q\n", url, url, ca))
	hostsFile(t, dir, "two.test", fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:2\"]\n  capabilities = [\"pull\", \"resolve\"]\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n", url))
	hostsFile(t, dir, "path.test", fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"%s/proxy/cache\"]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n  override_path = true\n  [host.\"%s/proxy/cache\".header]\n    x-who = \"me\"\n", url, url))
	hostsFile(t, dir, "strange.test", fmt.Sprintf("server = %q\n", url))
	hostsFile(t, dir, "noresolve.test", fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.%q]\n  capabilities = [\"pull\"]\n  skip_verify = true\n", url))
	store := newStore(t, images.Config{HostsDir: dir})
	secret := []corev1.Secret{pullSecret("s", `"docker.io":{"username":"me","password":"secret"},"two.test":{"username":"me","password":"secret"}`)}
	for image, want := range map[string]string{
		"docker.io/library/app": "", "app:1": "", "two.test/app:1": "", "path.test/app:1": "",
		"strange.test/app:1": "certificate", "noresolve.test/app:1": "connection refused",
	} {
		_, err := store.Ensure(context.Background(), images.PullSpec{Image: image, PodUID: image, Secrets: secret})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", image, err)
		}
	}
	if a := shown.Load(); a != nil {
		t.Error("a mirror was shown the registry's credentials")
	}
}

// TestTroubles: a registry that asks for patience is waited for, and a connection that ends in the middle is gone on with.
func TestTroubles(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}, BackOff: time.Nanosecond})
	busy := atomic.Int64{}
	reg.first(func(w http.ResponseWriter, req *http.Request) bool {
		if isLayer(req, reg) && req.Header.Get("Range") == "" { // half of it, then the connection is cut
			data := reg.files[reg.layer].Data
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			if _, err := w.Write(data[:len(data)/2]); err != nil {
				t.Error(err)
			}
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		if busy.Add(1) <= 3 {
			w.Header().Set("Retry-After", "0")
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return true
		}
		return false
	})
	if img, err := store.Ensure(context.Background(), images.PullSpec{Image: reg.host + "/app:1"}); err != nil || !img.Pulled {
		t.Errorf("got %+v, %v", img, err)
	}
	if len(reg.ranges) == 0 {
		t.Error("the layer was fetched in one piece")
	}
	reg.first(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "3600")
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return true
	})
	if _, err := store.Ensure(context.Background(), images.PullSpec{Image: reg.host + "/app:1", Policy: corev1.PullAlways}); err == nil ||
		!strings.Contains(err.Error(), "429 Too Many Requests") || !strings.Contains(err.Error(), "asks for fewer requests") {
		t.Errorf("a registry that will not for an hour: %v", err)
	}
}

// TestStalled: a pull that gets nothing is given up; that goes for an answer that does not begin and for one that does not go on.
func TestStalled(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}, Progress: 200 * time.Millisecond, BackOff: time.Nanosecond})
	half := true
	reg.first(func(w http.ResponseWriter, req *http.Request) bool {
		if !isLayer(req, reg) {
			return false
		}
		if half {
			w.Header().Set("Content-Length", "2147483647")
			if _, err := w.Write(reg.files[reg.layer].Data[:1<<16]); err != nil {
				t.Error(err)
			}
			w.(http.Flusher).Flush()
		}
		<-req.Context().Done()
		return true
	})
	for _, half = range []bool{true, false} {
		if _, err := store.Ensure(context.Background(), images.PullSpec{Image: reg.host + "/app:1"}); images.Reason(err) != "ErrImagePull" ||
			!strings.Contains(err.Error(), "the pull has stalled: nothing has arrived for 200ms") {
			t.Errorf("half %t: %v", half, err)
		}
	}
}

// TestKinds: of an index, this machine's image is taken; what is not for it, or no image at all, is refused in words.
func TestKinds(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}})
	entry := func(arch string) map[string]any {
		return map[string]any{"mediaType": reg.manifest.MediaType, "digest": reg.manifest.Digest, "size": len(reg.manifest.Data),
			"platform": map[string]any{"os": "linux", "architecture": arch}}
	}
	const index = "application/vnd.oci.image.index.v1+json"
	reg.put(t, index, map[string]any{"schemaVersion": 2, "mediaType": index, "manifests": []any{entry("s390x"), entry("amd64")}}, "both")
	reg.put(t, index, map[string]any{"schemaVersion": 2, "mediaType": index, "manifests": []any{entry("s390x")}}, "foreign")
	empty := reg.put(t, "application/vnd.oci.empty.v1+json", map[string]any{})
	reg.put(t, reg.manifest.MediaType, map[string]any{"schemaVersion": 2, "mediaType": reg.manifest.MediaType, "artifactType": "application/vnd.test.thing",
		"config": map[string]any{"mediaType": empty.MediaType, "digest": empty.Digest, "size": len(empty.Data)},
		"layers": []any{map[string]any{"mediaType": "text/plain", "digest": empty.Digest, "size": len(empty.Data)}}}, "artifact")
	reg.put(t, "application/vnd.docker.distribution.manifest.v1+prettyjws", map[string]any{"schemaVersion": 1, "name": "app", "tag": "old"}, "old")
	for tag, want := range map[string]string{"both": "", "foreign": "the image is not made for linux/amd64", "artifact": "it is an OCI artifact, not a container image",
		"old": "not supported"} {
		_, err := store.Ensure(context.Background(), images.PullSpec{Image: reg.host + "/app:" + tag})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", tag, err)
		}
	}
}
