package images

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/remotes"
	"github.com/containerd/containerd/remotes/docker"
	"github.com/containerd/containerd/remotes/docker/config"
	remoteerrors "github.com/containerd/containerd/remotes/errors"
	"github.com/distribution/reference"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// Ensure makes the image present as its policy wants it. It waits for a pull already under way. Errors: see above, ask with errors.Is or Reason.
func (s *Store) Ensure(ctx context.Context, spec PullSpec) (Image, error) {
	named, err := parse(spec.Image)
	if err != nil {
		return Image{}, err
	}
	policy := policyFor(spec.Policy, named)
	if policy != corev1.PullAlways {
		img, err := s.local(ctx, named.String())
		if err == nil || !errdefs.IsNotFound(err) {
			return img, err
		}
	}
	if policy == corev1.PullNever {
		return Image{}, fmt.Errorf("%s: %w", spec.Image, ErrNeverPull)
	}
	key := spec.PodUID + " " + named.String()
	if why := s.wait.waiting(key); why != nil {
		return Image{}, fmt.Errorf("%w %q: %w", ErrBackOff, spec.Image, why)
	}
	begun := time.Now()
	img, err := s.shared(ctx, named, spec)
	if err != nil && ctx.Err() != nil {
		return Image{}, ctx.Err() // the pod is leaving; says nothing about the image
	}
	if err != nil {
		s.wait.failed(key, err)
		return Image{}, fmt.Errorf("%w %q: %w", ErrPull, spec.Image, err)
	}
	s.wait.succeeded(key)
	img.Pulled, img.Took = true, time.Since(begun)
	return img, nil
}

// local is the image as it lies here, unpacked; an error of the kind NotFound if it isn't here, or not whole.
func (s *Store) local(ctx context.Context, name string) (Image, error) {
	found, err := s.daemon.Client().GetImage(ctx, name)
	if err != nil {
		return Image{}, err
	}
	if err := s.unpack(ctx, found); err != nil {
		return Image{}, err
	}
	return s.describe(ctx, found)
}

// unpack makes sure that an image's layers are there as snapshots; one that came in by another door may not be.
func (s *Store) unpack(ctx context.Context, img containerd.Image) error {
	digest := img.Target().Digest.String()
	s.mu.Lock()
	done := s.unpacked[digest]
	s.mu.Unlock()
	if done {
		return nil
	}
	if err := img.Unpack(ctx, s.cfg.Snapshotter); err != nil {
		return fmt.Errorf("unpacking image %s: %w", img.Name(), err)
	}
	s.mu.Lock()
	s.unpacked[digest] = true
	s.mu.Unlock()
	return nil
}

// shared pulls, or joins who is pulling the same image with the same credentials. A pull outlives the pod that began it: others may wait for
// it too, and what it brought stays.
func (s *Store) shared(ctx context.Context, named reference.Named, spec PullSpec) (Image, error) {
	logins, errs := loginsOf(spec.Secrets)
	for _, err := range errs {
		s.log.Warn("leaving out a pull secret", zap.String("image", spec.Image), zap.Error(err))
	}
	creds := credentialsFor(logins, named.Name())
	key, err := flightKey(named.String(), creds)
	if err != nil {
		return Image{}, err
	}
	result := s.flight.DoChan(key, func() (any, error) {
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), pullTimeout)
		defer cancel()
		s.pulls <- struct{}{}
		defer func() { <-s.pulls }()
		if spec.OnPull != nil {
			spec.OnPull()
		}
		return s.pull(work, named.String(), creds)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return Image{}, r.Err
		}
		return r.Val.(Image), nil
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
}

// flightKey keeps pulls with different rights apart, without holding a password in a key.
func flightKey(name string, creds []credential) (string, error) {
	var flat []string
	for _, c := range creds {
		flat = append(flat, c.user, c.password)
	}
	raw, err := json.Marshal(flat)
	if err != nil {
		return "", fmt.Errorf("naming pull: %w", err)
	}
	return fmt.Sprintf("%s %x", name, sha256.Sum256(raw)), nil
}

// pull tries each credential in turn, as long as the registry refuses them; without any, once without.
func (s *Store) pull(ctx context.Context, name string, creds []credential) (Image, error) {
	if len(creds) == 0 {
		creds = []credential{{}}
	}
	var failed []error
	for _, c := range creds {
		img, err := s.daemon.Client().Pull(ctx, name,
			containerd.WithPullUnpack,
			containerd.WithPullSnapshotter(s.cfg.Snapshotter),
			containerd.WithResolver(s.resolver(ctx, c)))
		if err == nil {
			if err := s.record(ctx, img); err != nil {
				return Image{}, err
			}
			return s.describe(ctx, img)
		}
		failed = append(failed, err)
		if !refused(err) {
			break
		}
	}
	return Image{}, errors.Join(failed...)
}

// refused: another credential may help.
func refused(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		return status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden
	}
	return errors.Is(err, docker.ErrInvalidAuthorization) || errdefs.IsPermissionDenied(err)
}

func (s *Store) resolver(ctx context.Context, c credential) remotes.Resolver {
	options := config.HostOptions{
		DefaultScheme: "https",
		Credentials:   func(string) (string, string, error) { return c.user, c.password, nil },
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
