package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/content"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/mount"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageFacts are what an image's content says; content never changes, so they are kept for as long as the process lives.
type imageFacts struct {
	id            string // digest of the config
	ref           string // name@digest, or the digest
	parent        string // snapshot of the unpacked layers
	config        ocispec.ImageConfig
	passwd, group []byte
}

// image finds an image by id or name, and what its content says. The image's files are read once, through a mount of the snapshot it
// is unpacked in.
func (r *Runtime) image(ctx context.Context, name string) (imageFacts, error) {
	img, err := r.client.GetImage(ctx, name)
	if errdefs.IsNotFound(err) {
		return imageFacts{}, fmt.Errorf("%s: %w", name, ErrNoImage)
	}
	if err != nil {
		return imageFacts{}, fmt.Errorf("finding image: %w", err)
	}
	digest := img.Target().Digest.String()
	r.mu.Lock()
	facts, ok := r.facts[digest]
	r.mu.Unlock()
	if ok {
		return facts, nil
	}
	if facts, err = r.readImage(ctx, img); err != nil {
		return imageFacts{}, fmt.Errorf("reading image %s: %w", name, err)
	}
	r.mu.Lock()
	r.facts[digest] = facts
	r.mu.Unlock()
	return facts, nil
}

func (r *Runtime) readImage(ctx context.Context, img containerd.Image) (imageFacts, error) {
	desc, err := img.Config(ctx)
	if err != nil {
		return imageFacts{}, err
	}
	raw, err := content.ReadBlob(ctx, img.ContentStore(), desc)
	if err != nil {
		return imageFacts{}, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return imageFacts{}, fmt.Errorf("decoding config: %w", err)
	}
	facts := imageFacts{
		id:     desc.Digest.String(),
		parent: identity.ChainID(config.RootFS.DiffIDs).String(),
		config: config.Config,
	}
	if facts.ref, err = r.reference(ctx, img); err != nil {
		return imageFacts{}, err
	}
	err = r.viewSnapshot(ctx, facts.parent, func(root string) error {
		if facts.passwd, err = readIn(root, "etc/passwd"); err != nil {
			return err
		}
		facts.group, err = readIn(root, "etc/group")
		return err
	})
	return facts, err
}

// reference is name@digest, as a pod's status shows an image; the digest alone if the image has no name but its ID.
func (r *Runtime) reference(ctx context.Context, img containerd.Image) (string, error) {
	digest := img.Target().Digest.String()
	same, err := r.client.ListImages(ctx, fmt.Sprintf("target.digest==%s", digest))
	if err != nil {
		return "", err
	}
	names := []string{img.Name()}
	for _, other := range same {
		names = append(names, other.Name())
	}
	for _, name := range names {
		if strings.Contains(name, "@") {
			return name, nil
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "sha256:") {
			continue
		}
		if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
			name = name[:i]
		}
		return name + "@" + digest, nil
	}
	return digest, nil
}

// viewSnapshot mounts a read-only view of a snapshot while f runs.
func (r *Runtime) viewSnapshot(ctx context.Context, parent string, f func(root string) error) (err error) {
	snapshotter := r.client.SnapshotService(r.cfg.Snapshotter)
	key := "view-" + newID()
	mounts, err := snapshotter.View(ctx, key, parent, keptSnapshot())
	if err != nil {
		return fmt.Errorf("viewing snapshot: %w", err)
	}
	defer func() {
		clean, cancel := r.undo(ctx)
		defer cancel()
		err = errors.Join(err, snapshotter.Remove(clean, key))
	}()
	return mount.WithReadonlyTempMount(ctx, mounts, f)
}

// readIn reads a file below root, never leaving it by a link; a file that isn't there is empty.
func readIn(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
