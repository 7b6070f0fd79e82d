package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"pilothouse.dev/hack/archive"
)

// named gives an image its two names: the plain one that manifests say, and one under the project's own path.
func named(repo, tag string, img v1.Image) []archive.Image {
	return []archive.Image{
		{Ref: "docker.io/library/" + repo + ":" + tag, Image: img},
		{Ref: "docker.io/pilothouse/" + repo + ":" + tag, Image: img},
	}
}

// latest names what a recipe of one image has made.
func latest(repo string) func(v1.Image, error) ([]archive.Image, error) {
	return func(img v1.Image, err error) ([]archive.Image, error) {
		if err != nil {
			return nil, err
		}
		return named(repo, "latest", img), nil
	}
}

// busybox is one static program and a link for each of its applets.
func busybox(program string) (v1.Image, error) {
	binary, err := static(program)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("asking busybox for its applets: %w", err)
	}
	files := append(base(), file{name: "bin/busybox", mode: 0o755, data: binary})
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			files = append(files, file{name: "bin/" + applet, link: "busybox"})
		}
	}
	return image(files, v1.Config{
		Env: []string{"PATH=/bin"},
		Cmd: []string{"sh"},
	})
}

// testapps are the one program of hack/images/testapp, in several versions that differ in what they say of themselves.
func testapps(tmp string) ([]archive.Image, error) {
	program, err := program(tmp, "pilothouse.dev/hack/images/testapp")
	if err != nil {
		return nil, err
	}
	binary, err := static(program)
	if err != nil {
		return nil, err
	}
	var apps []archive.Image
	for _, version := range []string{"1", "2", "3"} {
		img, err := image(append(base(), file{name: "testapp", mode: 0o755, data: binary}), v1.Config{
			Env:        []string{"PATH=/", "VERSION=" + version},
			Entrypoint: []string{"/testapp"},
			Cmd:        []string{"serve"},
		})
		if err != nil {
			return nil, err
		}
		apps = append(apps, named("testapp", version, img)...)
		if version == "1" {
			apps = append(apps, named("testapp", "latest", img)...)
		}
	}
	return apps, nil
}

// single is an image of one command of this module.
func single(tmp, pkg string) (v1.Image, error) {
	program, err := program(tmp, pkg)
	if err != nil {
		return nil, err
	}
	binary, err := static(program)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(program)
	return image(append(base(), file{name: name, mode: 0o755, data: binary}), v1.Config{Env: []string{"PATH=/"}, Entrypoint: []string{"/" + name}})
}

// static reads a program and refuses one that would need libraries the image hasn't.
func static(program string) ([]byte, error) {
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("reading program: %w (make prereqs installs busybox-static, make tools builds coredns)", err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading program %s: %w", program, err)
	}
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		return nil, fmt.Errorf("%s needs %s: a static build is wanted (make prereqs)", program, strings.Join(libs, ", "))
	}
	return data, nil
}

// file is an entry of a layer: with data a file, with link a symbolic link, with neither a folder. Its owner is both user and group.
type file struct {
	name  string
	mode  int64
	data  []byte
	link  string
	owner int
}

// base is what every image has.
func base() []file {
	return []file{
		{name: "bin/", mode: 0o755},
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{name: "root/", mode: 0o700},
		{name: "tmp/", mode: 0o1777},
	}
}

func image(files []file, config v1.Config) (v1.Image, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Uid: f.owner, Gid: f.owner, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("writing the layer: %w", err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("writing the layer: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("writing the layer: %w", err)
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("making the layer: %w", err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, fmt.Errorf("adding the layer: %w", err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("making the image: %w", err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Config = "linux", runtime.GOARCH, config
	return mutate.ConfigFile(img, cf)
}
