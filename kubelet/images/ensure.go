package images

import (
	"context"
	"fmt"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/images"
	"github.com/distribution/reference"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/credentials"
)

// Ensure makes the image present as its policy wants it. It waits for a pull already under way. An error is a Failure, or that of ctx.
func (s *Store) Ensure(ctx context.Context, spec PullSpec) (Image, error) {
	img, here, err := s.ensure(ctx, spec)
	if err == nil {
		s.mu.Lock()
		s.asked[img.ID] = s.now()
		s.mu.Unlock()
	}
	s.numbers.ensured(spec.Policy, here, img.Pulled, err)
	return img, err
}

// ensure also says whether the image was here before; nil if that was not asked.
func (s *Store) ensure(ctx context.Context, spec PullSpec) (_ Image, here *bool, _ error) {
	named, err := parse(spec.Image)
	if err != nil {
		return Image{}, nil, err
	}
	keys := &keys{store: s, spec: spec, named: named}
	policy := policyFor(spec.Policy, named)
	if policy != corev1.PullAlways {
		img, record, err := s.local(ctx, named.String())
		if ctx.Err() != nil {
			return Image{}, nil, ctx.Err()
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return Image{}, nil, &Failure{Reason: InspectError, Image: spec.Image, Message: fmt.Sprintf("Failed to inspect image %q: %v", spec.Image, err)}
		}
		here = new(err == nil)
		if err == nil && s.may(ctx, record, keys) {
			return img, here, nil
		}
	}
	if policy == corev1.PullNever { // the same words for an image that is here, but not for this pod: it is not to learn that
		return Image{}, here, &Failure{Reason: NeverPull, Image: spec.Image, Message: fmt.Sprintf("Container image %q is not present with pull policy of Never", spec.Image)}
	}
	creds := keys.list(ctx)
	wait := spec.PodUID + " " + flightKey(named.String(), creds)
	if why := s.wait.waiting(wait); why != nil {
		return Image{}, here, &Failure{Reason: BackOff, Image: spec.Image, Message: fmt.Sprintf("Back-off pulling image %q: %s: %v", spec.Image, Reason(why), why)}
	}
	begun := s.now()
	if spec.OnPull != nil {
		spec.OnPull()
	}
	img, err := s.shared(ctx, named, keys)
	if err != nil && ctx.Err() != nil {
		return Image{}, here, ctx.Err() // the pod is leaving; says nothing about the image
	}
	if err != nil {
		s.wait.failed(wait, err)
		return Image{}, here, err
	}
	s.wait.succeeded(wait)
	img.Pulled, img.Waited = true, s.now().Sub(begun)
	img.Took = min(img.Took, img.Waited) // of one who joined late
	s.numbers.pulled(img)
	return img, here, nil
}

// keys are the credentials for one wish, looked up when they are needed first.
type keys struct {
	store *Store
	spec  PullSpec
	named reference.Named

	asked    bool
	found    []credentials.Credential
	problems []error
}

func (k *keys) list(ctx context.Context) []credentials.Credential {
	if !k.asked {
		k.found, k.problems = k.other(ctx, k.named.Name())
		k.asked = true
		for _, err := range k.problems {
			k.store.log.Warn("leaving out credentials", zap.String("image", k.spec.Image), zap.Error(err))
		}
	}
	return k.found
}

// other looks up what opens another repository: the same image in a mirror.
func (k *keys) other(ctx context.Context, repository string) ([]credentials.Credential, []error) {
	return k.store.keys.Lookup(ctx, credentials.Request{Repository: repository, Pod: k.spec.Pod, Secrets: k.spec.Secrets})
}

// local is the image as it lies here, unpacked, and containerd's record of it; an error of the kind NotFound if it isn't here, or not whole.
func (s *Store) local(ctx context.Context, name string) (Image, images.Image, error) {
	found, err := s.daemon.Client().GetImage(ctx, name)
	if err != nil {
		return Image{}, images.Image{}, err
	}
	if err := s.unpack(ctx, found); err != nil {
		return Image{}, images.Image{}, err
	}
	img, err := s.describe(ctx, found)
	return img, found.Metadata(), err
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
	select {
	case s.unpacks <- struct{}{}:
		defer func() { <-s.unpacks }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := img.Unpack(ctx, s.cfg.Snapshotter); err != nil {
		return fmt.Errorf("unpacking image %s: %w", img.Name(), err)
	}
	s.mu.Lock()
	s.unpacked[digest] = true
	s.mu.Unlock()
	return nil
}
