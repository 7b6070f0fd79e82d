package images

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/images"
	"github.com/containerd/containerd/remotes"
	"github.com/containerd/containerd/remotes/docker"
	"github.com/containerd/containerd/remotes/docker/config"
	"github.com/containerd/log"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"pilothouse.dev/kubelet/credentials"
)

// pull tries each credential in turn, as long as the registry refuses them; without any, once without.
func (s *Store) pull(ctx context.Context, named reference.Named, k *keys, key string) (Image, error) {
	creds := k.list(ctx)
	tries := creds
	if len(tries) == 0 {
		tries = []credentials.Credential{{}}
	}
	ctx, done, err := s.lease(ctx, key)
	if err != nil {
		return Image{}, pullFailure(k.spec.Image, []error{err}, nil)
	}
	var errs []error
	for i, c := range tries {
		if slices.ContainsFunc(tries[:i], c.Same) {
			continue
		}
		img, err := s.attempt(ctx, named, k, c)
		if err == nil {
			var d Image
			if err = s.record(ctx, img, open(c, creds)); err == nil {
				if d, err = s.describe(ctx, img.Image); err == nil {
					s.mu.Lock()
					s.unpacked[img.Target().Digest.String()] = true
					s.mu.Unlock()
					return d, done(ctx)
				}
			}
		}
		if ctx.Err() != nil {
			return Image{}, ctx.Err()
		}
		errs = append(errs, err)
		if !refused(err) {
			break
		}
	}
	return Image{}, pullFailure(k.spec.Image, errs, k.problems)
}

// pulled is an image that was pulled, and containerd's record of what had the name before.
type pulled struct {
	containerd.Image
	before images.Image
}

// attempt pulls with one credential. It is given up when no bytes arrive for too long.
func (s *Store) attempt(ctx context.Context, named reference.Named, k *keys, c credentials.Credential) (pulled, error) {
	client := s.daemon.Client()
	before, err := client.ImageService().Get(ctx, named.String())
	if err != nil && !errdefs.IsNotFound(err) {
		return pulled{}, err
	}
	labels := map[string]string{labelPulled: time.Now().UTC().Format(time.RFC3339)}
	for key, value := range before.Labels {
		if key != labelPulled && key != labelAccess {
			labels[key] = value // a pinned image stays so
		}
	}
	work, cancel := context.WithCancelCause(log.WithLogger(ctx, s.quiet()))
	defer cancel(nil)
	m := &meter{}
	stop := m.watch(s.cfg.Progress, func() { cancel(errStalled) })
	defer stop()
	img, err := client.Pull(work, named.String(),
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(s.cfg.Snapshotter),
		containerd.WithMaxConcurrentDownloads(blobsAtOnce),
		containerd.WithPullLabels(labels),
		containerd.WithImageHandlerWrapper(onlyImages),
		containerd.WithResolver(s.resolver(work, named, k, c, m)))
	if err != nil && context.Cause(work) == errStalled {
		return pulled{}, fmt.Errorf("%w: nothing has arrived for %s", errStalled, s.cfg.Progress)
	}
	return pulled{img, before}, err
}

// onlyImages ends the pull of an OCI artifact before its blobs are fetched: this containerd cannot unpack one.
func onlyImages(next images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := next.Handle(ctx, desc)
		if err == nil && images.IsManifestType(desc.MediaType) &&
			!slices.ContainsFunc(children, func(d ocispec.Descriptor) bool { return images.IsConfigType(d.MediaType) }) {
			kind := desc.ArtifactType
			if kind == "" && len(children) > 0 {
				kind = children[0].MediaType
			}
			return nil, fmt.Errorf("%w (its type is %s)", errArtifact, kind)
		}
		return children, err
	})
}

// resolver speaks to the registry, or to its mirrors if there is a hosts.toml. The credential is for the registry alone: a mirror gets what the
// pod or the node has for the mirror.
func (s *Store) resolver(ctx context.Context, named reference.Named, k *keys, c credentials.Credential, m *meter) remotes.Resolver {
	domain := reference.Domain(named)
	options := config.HostOptions{
		DefaultScheme: "https",
		Credentials: func(host string) (string, string, error) {
			if host != domain && (domain != "docker.io" || host != "registry-1.docker.io") {
				found, _ := k.other(ctx, host+"/"+reference.Path(named)) // what could not be asked was told for the registry
				if len(found) == 0 {
					return "", "", nil
				}
				return found[0].Username, found[0].Password, nil
			}
			return c.Username, c.Password, nil
		},
		UpdateClient: func(c *http.Client) error {
			c.Transport = &transport{next: c.Transport, meter: m}
			return nil
		},
	}
	if s.cfg.HostsDir != "" {
		options.HostDir = config.HostDirFromRoot(s.cfg.HostsDir)
	}
	plain := options
	plain.DefaultScheme = "http"
	secureHosts, plainHosts := config.ConfigureHosts(ctx, options), config.ConfigureHosts(ctx, plain)
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: func(host string) ([]docker.RegistryHost, error) {
			if slices.Contains(s.cfg.PlainHTTP, host) {
				return plainHosts(host)
			}
			return secureHosts(host)
		},
	})
}
