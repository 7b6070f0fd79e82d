package images_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(m)) }

// registry serves the test image as a real one would: name app, tags 1 and latest; also below private/, where before may ask for a login.
type registry struct {
	*httptest.Server
	host     string
	manifest nodetest.File
	layer    string

	mu     sync.Mutex
	files  map[string]nodetest.File // by tag and by digest; guarded by mu, as all below
	before func(w http.ResponseWriter, req *http.Request) (answered bool)
	asked  map[string]int // GETs, by tag or digest
	ranges []string       // what parts of blobs were asked for
}

func newRegistry(t *testing.T, start func(http.Handler) *httptest.Server) *registry {
	t.Helper()
	manifest, config, layer := nodetest.Blobs(t)
	r := &registry{manifest: manifest, layer: layer.Digest, files: map[string]nodetest.File{"1": manifest, "latest": manifest}, asked: map[string]int{}}
	for _, f := range []nodetest.File{manifest, config, layer} {
		r.files[f.Digest] = f
	}
	r.Server = start(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	_, r.host, _ = strings.Cut(r.URL, "://")
	return r
}

// plainRegistry is one without TLS.
func plainRegistry(t *testing.T) *registry { return newRegistry(t, httptest.NewServer) }

func (r *registry) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	before := r.before
	r.mu.Unlock()
	if before != nil && before(w, req) {
		return
	}
	name := path.Base(req.URL.Path)
	r.mu.Lock()
	f, ok := r.files[name]
	if ok && req.Method == http.MethodGet {
		r.asked[name]++
		if part := req.Header.Get("Range"); part != "" {
			r.ranges = append(r.ranges, part)
		}
	}
	r.mu.Unlock()
	if !ok || !strings.Contains(req.URL.Path, "/app/") {
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", f.MediaType)
	w.Header().Set("Docker-Content-Digest", f.Digest)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(f.Data))
}

// first has f called before each answer.
func (r *registry) first(f func(w http.ResponseWriter, req *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before = f
}

func (r *registry) times(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[name]
}

// put adds a document under tags.
func (r *registry) put(t *testing.T, mediaType string, v any, tags ...string) nodetest.File {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	f := nodetest.File{Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(data)), MediaType: mediaType, Data: data}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, tag := range append(tags, f.Digest) {
		r.files[tag] = f
	}
	return f
}

func isLayer(req *http.Request, r *registry) bool {
	return req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, r.layer)
}

func newStore(t *testing.T, cfg images.Config) *images.Store {
	t.Helper()
	store, _ := newNode(t, cfg)
	return store
}

func newNode(t *testing.T, cfg images.Config) (*images.Store, *containers.Runtime) {
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
	return images.New(cfg, rt, zaptest.NewLogger(t)), rt
}
