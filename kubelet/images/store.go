package images

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/content"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"pilothouse.dev/kubelet/credentials"
)

// describe reads what an image's config says; that never changes, so once a digest.
func (s *Store) describe(ctx context.Context, img containerd.Image) (Image, error) {
	digest := img.Target().Digest.String()
	s.mu.Lock()
	d, ok := s.facts[digest]
	s.mu.Unlock()
	if ok {
		d.Name, d.Ref = img.Name(), refOf(img)
		return d, nil
	}
	desc, err := img.Config(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("reading image %s: %w", img.Name(), err)
	}
	raw, err := content.ReadBlob(ctx, img.ContentStore(), desc)
	if err != nil {
		return Image{}, fmt.Errorf("reading config of image %s: %w", img.Name(), err)
	}
	var oci ocispec.Image
	if err := json.Unmarshal(raw, &oci); err != nil {
		return Image{}, fmt.Errorf("decoding config of image %s: %w", img.Name(), err)
	}
	size, err := img.Size(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("measuring image %s: %w", img.Name(), err)
	}
	d = Image{
		ID:         desc.Digest.String(),
		Size:       size,
		Entrypoint: oci.Config.Entrypoint,
		Cmd:        oci.Config.Cmd,
		Env:        oci.Config.Env,
		User:       oci.Config.User,
		WorkingDir: oci.Config.WorkingDir,
		StopSignal: oci.Config.StopSignal,
		chain:      identity.ChainID(oci.RootFS.DiffIDs).String(),
	}
	s.mu.Lock()
	s.facts[digest] = d
	s.mu.Unlock()
	d.Name, d.Ref = img.Name(), refOf(img)
	return d, nil
}

// refOf is name@digest of an image; the digest alone of one that has no name but its ID.
func refOf(img containerd.Image) string {
	digest := img.Target().Digest
	named, err := reference.ParseDockerRef(img.Name())
	if err != nil || strings.HasPrefix(img.Name(), "sha256:") {
		return digest.String()
	}
	return reference.TrimNamed(named).Name() + "@" + digest.String()
}

// record gives a pulled image its other two names, name@digest and its ID, by which containers refer to it when a tag has moved on; and notes at each
// name who may have it.
func (s *Store) record(ctx context.Context, img pulled, proven []credentials.Credential) error {
	digest := img.Target().Digest.String()
	before := ""
	if img.before.Target.Digest == img.Target().Digest {
		before = img.before.Labels[labelAccess]
	}
	labels := map[string]string{labelPulled: img.Labels()[labelPulled], labelAccess: access(before, digest, proven)}
	names, err := s.otherNames(ctx, img)
	if err != nil {
		return err
	}
	for _, name := range append([]string{img.Name()}, names...) {
		if err := s.name(ctx, name, img.Target(), labels); err != nil {
			return fmt.Errorf("recording image %s: %w", name, err)
		}
	}
	return nil
}

// otherNames are name@digest and the ID of an image.
func (s *Store) otherNames(ctx context.Context, img containerd.Image) ([]string, error) {
	named, err := parse(img.Name())
	if err != nil {
		return nil, err
	}
	config, err := img.Config(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", img.Name(), err)
	}
	byDigest, err := reference.WithDigest(reference.TrimNamed(named), img.Target().Digest)
	if err != nil {
		return nil, fmt.Errorf("naming image %s by digest: %w", img.Name(), err)
	}
	if byDigest.String() == img.Name() {
		return []string{config.Digest.String()}, nil
	}
	return []string{byDigest.String(), config.Digest.String()}, nil
}

// name records a name with labels; others that a record of that name has stay.
func (s *Store) name(ctx context.Context, name string, target ocispec.Descriptor, labels map[string]string) error {
	service := s.daemon.Client().ImageService()
	_, err := service.Create(ctx, images.Image{Name: name, Target: target, Labels: labels})
	if !errdefs.IsAlreadyExists(err) {
		return err
	}
	paths := []string{"target"}
	for key := range labels {
		paths = append(paths, "labels."+key)
	}
	_, err = service.Update(ctx, images.Image{Name: name, Target: target, Labels: labels}, paths...)
	return err
}

// List is every image on the node, sorted by size, largest first, as the node's status wants it.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	all, err := s.daemon.Client().ListImages(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	byID := make(map[string]*Image)
	for _, img := range all {
		d, err := s.describe(ctx, img)
		if errdefs.IsNotFound(err) {
			continue // half pulled, or being removed
		}
		if err != nil {
			return nil, err
		}
		have := byID[d.ID]
		if have == nil {
			have = &d
			have.Name, have.Ref = "", ""
			byID[d.ID] = have
		}
		have.Pinned = have.Pinned || img.Labels()[labelPinned] != "" || slices.Contains(s.cfg.Pinned, img.Name())
		if at := img.Metadata().CreatedAt; have.Here.IsZero() || at.Before(have.Here) {
			have.Here = at
		}
		switch name := img.Name(); {
		case name == d.ID:
		case strings.Contains(name, "@"):
			have.Digests = append(have.Digests, name)
		default:
			have.Names = append(have.Names, name)
		}
	}
	list := make([]Image, 0, len(byID))
	for _, img := range byID {
		slices.Sort(img.Names)
		slices.Sort(img.Digests)
		img.Name = first(img.Names, img.Digests, []string{img.ID})
		list = append(list, *img)
	}
	slices.SortFunc(list, func(a, b Image) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

func first(lists ...[]string) string {
	for _, l := range lists {
		if len(l) > 0 {
			return l[0]
		}
	}
	return ""
}

// Import loads an OCI or docker archive from a file and unpacks it; it returns the images' names.
func (s *Store) Import(ctx context.Context, path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening image archive: %w", err)
	}
	defer f.Close()
	client := s.daemon.Client()
	imported, err := client.Import(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("importing image archive: %w", err)
	}
	var names []string
	for _, i := range imported {
		if i, err = s.rename(ctx, i); err != nil {
			return nil, err
		}
		img := containerd.NewImage(client, i)
		if err := s.unpack(ctx, img); err != nil {
			return nil, err
		}
		others, err := s.otherNames(ctx, img)
		if err != nil {
			return nil, err
		}
		for _, name := range others {
			if err := s.name(ctx, name, i.Target, nil); err != nil {
				return nil, fmt.Errorf("recording image %s: %w", name, err)
			}
		}
		names = append(names, i.Name)
	}
	return names, nil
}

// rename spells an imported image's name out, by which pods will ask for it.
func (s *Store) rename(ctx context.Context, i images.Image) (images.Image, error) {
	full, err := Normalize(i.Name)
	if err != nil || full == i.Name {
		return i, err
	}
	if err := s.name(ctx, full, i.Target, nil); err != nil {
		return i, fmt.Errorf("recording image %s: %w", full, err)
	}
	if err := s.daemon.Client().ImageService().Delete(ctx, i.Name); err != nil && !errdefs.IsNotFound(err) {
		return i, fmt.Errorf("removing name %s of image: %w", i.Name, err)
	}
	i.Name = full
	return i, nil
}

// Remove forgets an image by ID or name, with all its names if by ID. Removing what is gone is no error.
func (s *Store) Remove(ctx context.Context, image string) error {
	list, err := s.List(ctx)
	if err != nil {
		return err
	}
	names := []string{image}
	if full, err := Normalize(image); err == nil && !strings.HasPrefix(image, "sha256:") {
		names = []string{full}
	}
	for _, img := range list {
		// Without its last tag an image has nobody to ask for it.
		last := len(img.Names) == 1 && img.Names[0] == names[0]
		if img.ID == image || last {
			names = slices.Concat(img.Names, img.Digests, []string{img.ID})
		}
	}
	s.mu.Lock()
	clear(s.unpacked) // what is removed and imported again must be unpacked again
	s.mu.Unlock()
	for i, name := range names {
		var opts []images.DeleteOpt
		if i == len(names)-1 {
			opts = append(opts, images.SynchronousDelete()) // so that the space is free on return
		}
		if err := s.daemon.Client().ImageService().Delete(ctx, name, opts...); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing image %s: %w", name, err)
		}
	}
	return nil
}
