package nodetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// The image's name and its parts: busybox with links for the commands tests use, users root and app (1000, also in group 2000), and
// a stop signal of its own.
const (
	Image   = "example.test/busybox:1"
	busybox = "/bin/busybox"
)

var commands = []string{"sh", "sleep", "echo", "cat", "id", "ls", "env", "hostname", "seq", "true", "false", "kill", "ps", "mount", "wc", "head", "dd", "nc", "ip",
	"readlink", "grep", "ping", "test", "stty", "touch", "yes", "date", "awk", "nproc", "usleep"}

// File is one blob of an OCI image.
type File struct {
	Digest    string
	MediaType string
	Data      []byte
}

// Blobs are the image's parts: manifest, config and layer.
func Blobs(t testing.TB) (manifest, config, layer File) {
	t.Helper()
	layer = blob("application/vnd.oci.image.layer.v1.tar", layerTar(t))
	config = blob("application/vnd.oci.image.config.v1+json", encode(t, map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"config": map[string]any{
			"Env":        []string{"PATH=/bin", "FROM=image"},
			"Cmd":        []string{"sh", "-c", "echo default command"},
			"WorkingDir": "/tmp",
			"StopSignal": "SIGUSR1",
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer.Digest}},
	}))
	manifest = blob("application/vnd.oci.image.manifest.v1+json", encode(t, map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        descriptor(config, nil),
		"layers":        []any{descriptor(layer, nil)},
	}))
	return manifest, config, layer
}

// Archive writes the image as an OCI archive under the given name and returns its path.
func Archive(t testing.TB, name string) string {
	t.Helper()
	manifest, config, layer := Blobs(t)
	index := encode(t, map[string]any{
		"schemaVersion": 2,
		"manifests":     []any{descriptor(manifest, map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name})},
	})
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add(t, w, "oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	add(t, w, "index.json", 0o644, index)
	for _, b := range []File{manifest, config, layer} {
		add(t, w, "blobs/sha256/"+b.Digest[len("sha256:"):], 0o644, b.Data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func layerTar(t testing.TB) []byte {
	t.Helper()
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatalf("the package busybox-static is missing: %v", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []string{"bin", "etc", "tmp", "root", "dev", "proc", "sys"} {
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		if err := w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: mode}); err != nil {
			t.Fatal(err)
		}
	}
	add(t, w, "bin/busybox", 0o755, program)
	for _, c := range commands {
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + c, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}); err != nil {
			t.Fatal(err)
		}
	}
	add(t, w, "etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n"))
	add(t, w, "etc/group", 0o644, []byte("root:x:0:\napp:x:1000:\nextra:x:2000:app\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func add(t testing.TB, w *tar.Writer, name string, mode int64, data []byte) {
	t.Helper()
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}

func blob(mediaType string, data []byte) File {
	sum := sha256.Sum256(data)
	return File{Digest: "sha256:" + hex.EncodeToString(sum[:]), MediaType: mediaType, Data: data}
}

func descriptor(f File, annotations map[string]string) map[string]any {
	d := map[string]any{"mediaType": f.MediaType, "digest": f.Digest, "size": len(f.Data)}
	if annotations != nil {
		d["annotations"] = annotations
	}
	return d
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
