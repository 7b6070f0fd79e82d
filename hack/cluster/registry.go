package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"pilothouse.dev/hack/archive"
)

// registryPort is on the bridge, so only this machine and the nodes reach it, and every cluster can have the same one.
const registryPort = 5000

func (c *cluster) registryAddress() string {
	return netip.AddrPortFrom(c.addr().bridge(), registryPort).String()
}

// registryHosts is the folder that tells kubelets, as it would tell containerd, that names without a host (docker.io) are found in
// the cluster's registry: a cluster without uplink has no other.
func (c *cluster) registryHosts() string { return c.path("registry", "hosts") }

func (c *cluster) writeRegistryHosts() error {
	url := "http://" + c.registryAddress()
	// Not as a [host."URL"] of its own: containerd's reader takes the bracket of an IPv6 address for the end of that.
	text := fmt.Sprintf("server = %[1]q\nhost = { %[1]q = { capabilities = [\"pull\", \"resolve\"] } }\n", url)
	if c.state.Uplink {
		// What the cluster's registry doesn't have is asked of the world.
		text = strings.Replace(text, "server = \""+url, "server = \"https://registry-1.docker.io", 1)
	}
	if err := replaceFile(filepath.Join(c.registryHosts(), "docker.io", "hosts.toml"), []byte(text)); err != nil {
		return fmt.Errorf("writing where images are found: %w", err)
	}
	return nil
}

// registry is this same program again, serving images to the cluster's kubelets.
func (c *cluster) registry() daemon {
	return daemon{
		name:   "registry",
		path:   c.program("cluster"),
		args:   []string{"-name=" + c.name, "-dir=" + c.dir, "registry"},
		listen: []string{c.registryAddress()},
		ready:  c.answers("http://"+c.registryAddress()+"/v2/", "", ""),
	}
}

// serveRegistry is what that program does.
func (c *cluster) serveRegistry(ctx context.Context) error {
	blobs := c.path("registry", "blobs")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return fmt.Errorf("making the registry's folder: %w", err)
	}
	keeper := &manifestKeeper{
		dir: c.path("registry", "manifests"),
		next: registry.New(
			registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)),
			registry.Logger(log.New(io.Discard, "", 0))),
	}
	if err := keeper.replay(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.registryAddress())
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	srv := &http.Server{Handler: keeper, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serving images: %w", err)
	}
	return nil
}

// manifestKeeper gives the library's registry, which keeps blobs on disk but manifests in memory only, its memory back after a
// restart: it writes down each manifest that was accepted and puts them all again at the start.
type manifestKeeper struct {
	dir  string
	next http.Handler
}

type keptManifest struct {
	Path string `json:"path"`
	Type string `json:"type"`
	Body []byte `json:"body"`
}

func (k *manifestKeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
		k.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := k.put(keptManifest{r.URL.Path, r.Header.Get("Content-Type"), body})
	if answer.Code == http.StatusCreated {
		if err := k.keep(keptManifest{r.URL.Path, r.Header.Get("Content-Type"), body}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

func (k *manifestKeeper) put(m keptManifest) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPut, m.Path, bytes.NewReader(m.Body))
	r.Header.Set("Content-Type", m.Type)
	answer := httptest.NewRecorder()
	k.next.ServeHTTP(answer, r)
	return answer
}

func (k *manifestKeeper) keep(m keptManifest) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("keeping manifest %s: %w", m.Path, err)
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256([]byte(m.Path)))
	if err := replaceFile(filepath.Join(k.dir, name), data); err != nil {
		return fmt.Errorf("keeping manifest %s: %w", m.Path, err)
	}
	return nil
}

func (k *manifestKeeper) replay() error {
	files, err := filepath.Glob(filepath.Join(k.dir, "*.json"))
	if err != nil {
		return fmt.Errorf("reading kept manifests: %w", err)
	}
	var kept []keptManifest
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading kept manifests: %w", err)
		}
		var m keptManifest
		if err := json.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("reading kept manifest %s: %w", file, err)
		}
		kept = append(kept, m)
	}
	// An index is accepted only after the manifests it lists, and indexes are not nested here.
	slices.SortStableFunc(kept, func(a, b keptManifest) int {
		return rank(a.Type) - rank(b.Type)
	})
	for _, m := range kept {
		if answer := k.put(m); answer.Code != http.StatusCreated {
			return fmt.Errorf("putting kept manifest %s again: %d: %s", m.Path, answer.Code, answer.Body)
		}
	}
	return nil
}

func rank(mediaType string) int {
	if strings.Contains(mediaType, "index") || strings.Contains(mediaType, "list") {
		return 1
	}
	return 0
}

// load pushes the images of an archive to the cluster's registry.
func (c *cluster) loadArchive(path string) error {
	// Unpacked in the cluster's folder: nothing stays elsewhere when this is killed.
	pushed, err := archive.Push(path, c.registryAddress(), c.path("registry"))
	if err != nil {
		return fmt.Errorf("loading %s: %w", path, err)
	}
	c.say("  %-22s %s", filepath.Base(path), strings.Join(pushed, " "))
	return nil
}

// loadBuilt pushes what `make images` has built; a cluster works without.
func (c *cluster) loadBuilt() error {
	archives, err := filepath.Glob(filepath.Join(c.bin, "images", "*.tar"))
	if err != nil {
		return fmt.Errorf("looking for images: %w", err)
	}
	if len(archives) == 0 {
		c.say("  no images in %s (make images builds busybox and testapp)", filepath.Join(c.bin, "images"))
	}
	for _, path := range archives {
		if err := c.loadArchive(path); err != nil {
			return err
		}
	}
	return nil
}
