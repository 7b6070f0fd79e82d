// Package archive writes and reads container images as tar files: OCI layouts, which every tool understands, and for reading
// also what `docker save` writes. It is how images get from a build to a cluster's registry without any other registry.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// refName is the annotation under which an OCI layout keeps an image's name.
const refName = "org.opencontainers.image.ref.name"

// Image is an image and one of its names, as "docker.io/library/busybox:latest".
type Image struct {
	Ref   string
	Image v1.Image
}

// Write writes the images as an OCI archive, replacing the file whole. The same images give the same bytes.
func Write(path string, images []Image) (err error) {
	dir, err := os.MkdirTemp("", "archive-")
	if err != nil {
		return fmt.Errorf("making a folder for the archive: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("making the archive's layout: %w", err)
	}
	for _, i := range images {
		if err := l.AppendImage(i.Image, layout.WithAnnotations(map[string]string{refName: i.Ref})); err != nil {
			return fmt.Errorf("adding image %s to the archive: %w", i.Ref, err)
		}
	}
	return pack(dir, path)
}

// Push sends every image of an archive to a registry (host:port, plain HTTP), each under its own name without its host, and
// returns those names. tmp is the folder to unpack in; empty is the system's.
func Push(path, registry, tmp string) ([]string, error) {
	images, cleanup, err := read(path, tmp)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	var pushed []string
	for _, i := range images {
		from, err := name.ParseReference(i.Ref)
		if err != nil {
			return nil, fmt.Errorf("reading the image name %q: %w", i.Ref, err)
		}
		to, err := name.ParseReference(registry+"/"+from.Context().RepositoryStr()+":"+from.Identifier(), name.Insecure)
		if err != nil {
			return nil, fmt.Errorf("naming image %s in %s: %w", i.Ref, registry, err)
		}
		if err := remote.Write(to, i.Image); err != nil {
			return nil, fmt.Errorf("pushing %s: %w", to, err)
		}
		pushed = append(pushed, to.String())
	}
	return pushed, nil
}

// read opens an archive; cleanup removes what it was unpacked to, after which the images can no longer be read.
func read(path, tmp string) (images []Image, cleanup func(), err error) {
	dir, err := os.MkdirTemp(tmp, "archive-")
	if err != nil {
		return nil, nil, fmt.Errorf("making a folder for the archive: %w", err)
	}
	remove := func() { os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			remove()
		}
	}()
	if err := unpack(path, dir); err != nil {
		return nil, nil, fmt.Errorf("unpacking %s: %w", path, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err == nil {
		images, err = readLayout(dir)
		return images, remove, err
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
	if err != nil {
		return nil, nil, fmt.Errorf("%s is neither an OCI archive nor one of docker save: %w", path, err)
	}
	for _, m := range manifest {
		for _, ref := range m.RepoTags {
			tag, err := name.NewTag(ref)
			if err != nil {
				return nil, nil, fmt.Errorf("reading the image name %q: %w", ref, err)
			}
			img, err := tarball.ImageFromPath(path, &tag)
			if err != nil {
				return nil, nil, fmt.Errorf("reading image %s: %w", ref, err)
			}
			images = append(images, Image{ref, img})
		}
	}
	return images, remove, nil
}

func readLayout(dir string) ([]Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the archive's index: %w", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("reading the archive's index: %w", err)
	}
	var images []Image
	for _, d := range manifest.Manifests {
		ref := d.Annotations[refName]
		if ref == "" || !d.MediaType.IsImage() {
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("reading image %s: %w", ref, err)
		}
		images = append(images, Image{ref, img})
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("the archive has no named image (annotation %s)", refName)
	}
	return images, nil
}

// pack writes the files under dir as a tar, sorted and without times or owners.
func pack(dir, path string) (err error) {
	var files []string
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listing the archive's files: %w", err)
	}
	sort.Strings(files)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the archive's folder: %w", err)
	}
	out, err := os.Create(path + ".new")
	if err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for _, file := range files {
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(rel), Mode: 0o644, Size: int64(len(data))}
		if err := w.WriteHeader(h); err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return os.Rename(path+".new", path)
}

// unpack writes a tar's plain files under dir; names that lead out of it are refused by os.Root.
func unpack(path, dir string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, h.Name, r); err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
