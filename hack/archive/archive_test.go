package archive

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestWriteAndPush(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	img, err := random.Image(1024, 2)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	oci := filepath.Join(dir, "oci.tar")
	if err := Write(oci, []Image{{"docker.io/library/one:1", img}, {"example.com/deep/er/two:latest", img}}); err != nil {
		t.Fatal(err)
	}
	docker := filepath.Join(dir, "docker.tar")
	tag, err := name.NewTag("three:3")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(docker, tag, img); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		want       []string
	}{
		{"OCI archive", oci, []string{host + "/library/one:1", host + "/deep/er/two:latest"}},
		{"docker save", docker, []string{host + "/library/three:3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Push(tt.path, host, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tt.want) {
				t.Fatalf("pushed %v, want %v", got, tt.want)
			}
			for _, ref := range got {
				r, err := name.ParseReference(ref)
				if err != nil {
					t.Fatal(err)
				}
				back, err := remote.Image(r)
				if err != nil {
					t.Fatal(err)
				}
				// docker save knows another form of manifest: there only the content is the same.
				if have, err := back.Digest(); tt.path == oci && (err != nil || have != want) {
					t.Errorf("%s is %v (%v), want %v", ref, have, err, want)
				}
			}
		})
	}
}

func TestWriteIsReproducible(t *testing.T) {
	img, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var bytesOf [2][]byte
	for i := range bytesOf {
		path := filepath.Join(dir, "a.tar")
		if err := Write(path, []Image{{"a:1", img}}); err != nil {
			t.Fatal(err)
		}
		if bytesOf[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(bytesOf[0], bytesOf[1]) {
		t.Error("two archives of the same image differ")
	}
}

func TestPushRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no.tar")
	if err := os.WriteFile(path, []byte("no tar at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Push(path, "127.0.0.1:1", t.TempDir()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("pushing garbage: %v, want an error that names the file", err)
	}
}
