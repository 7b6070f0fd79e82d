package pods

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/pod"
)

// pull makes a container's image present.
func (w *worker) pull(ctx context.Context, a Action, in input) (func(*state), error) {
	c, _ := pod.Container(in.pod, a.Name)
	if c == nil {
		return nil, fmt.Errorf("container %s is not in the pod", a.Name)
	}
	tell := func(kind, reason, format string, args ...any) { w.tell(in.pod, c.Name, kind, reason, format, args...) }
	img, err := w.parts.Images.Ensure(ctx, pullSpec(in.pod, c.Image, c.ImagePullPolicy, w.parts.Objects, tell))
	if err != nil {
		return nil, err
	}
	tellPulled(c.Image, img, tell)
	return func(s *state) {
		s.seen.Images[c.Name], s.images[c.Name] = true, img
	}, nil
}

// teller records an event about what an image is for.
type teller func(kind, reason, format string, args ...any)

// pullSpec is a pod's wish for an image, with the secrets that are there: one that is missing is no reason not to try.
func pullSpec(p *corev1.Pod, image string, policy corev1.PullPolicy, look resolve.Lookup, tell teller) images.PullSpec {
	spec := images.PullSpec{Image: image, Policy: policy, Pod: p, PodUID: string(p.UID)}
	var missing []string
	for _, ref := range p.Spec.ImagePullSecrets {
		if s, err := look.Secret(p.Namespace, ref.Name); err == nil {
			spec.Secrets = append(spec.Secrets, *s)
		} else {
			missing = append(missing, ref.Name)
		}
	}
	spec.OnPull = func() {
		if len(missing) > 0 {
			tell(corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
				"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", "))
		}
		tell(corev1.EventTypeNormal, "Pulling", "Pulling image %q", image)
	}
	return spec
}

// tellPulled records how an image came to be here.
func tellPulled(image string, img images.Image, tell teller) {
	if !img.Pulled {
		tell(corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", image)
		return
	}
	tell(corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.",
		image, img.Took.Truncate(time.Millisecond), img.Waited.Truncate(time.Millisecond), img.Size)
}

// complainOfImage makes of a failed pull what the pod's status and events say. A back-off is told once, not each time it is looked at.
func (w *worker) complainOfImage(s *state, a Action, err error) (reason, message string) {
	f, ok := images.FailureOf(err)
	if !ok {
		f = &images.Failure{Reason: images.PullError, Message: err.Error()}
	}
	before := s.seen.Faults[a.key()]
	container := a.Name
	if a.Verb == Step {
		container = ""
	}
	tell := func(kind, reason, format string, args ...any) {
		w.tell(s.pod, container, kind, reason, format, args...)
	}
	switch f.Reason {
	case images.BackOff:
		if before.Reason == f.Reason && before.Message == f.Message {
			return f.Reason, f.Message
		}
		tell(corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", f.Image)
	case images.NeverPull:
		tell(corev1.EventTypeWarning, "ErrImageNeverPull", "%s", f.Message)
	case images.InvalidName, images.InspectError:
		tell(corev1.EventTypeWarning, "InspectFailed", "%s", f.Message)
	default:
		tell(corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %s", f.Image, f.Message)
	}
	tell(corev1.EventTypeWarning, "Failed", "Error: %s", f.Reason)
	return f.Reason, f.Message
}

// ImageMounts are the images that volumes are made of; images.Store does it.
type ImageMounts interface {
	Mount(ctx context.Context, spec images.PullSpec, volume, dir string) (images.Image, error)
	Release(ctx context.Context, uid types.UID) error
}

// ImageVolumes makes volumes of images as pods may have them: with their pull secrets, and told as events.
type ImageVolumes struct {
	Images  ImageMounts
	Objects resolve.Lookup
	Events  Recorder
}

// Mount makes the files of the volume's image seen at dir, and says which image it is. An error that is about the image is an images.Failure.
func (v ImageVolumes) Mount(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, dir string) (ref string, _ error) {
	if vol.Image.Reference == "" {
		return "", errors.New("it names no image")
	}
	about := &corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion}
	tell := func(kind, reason, format string, args ...any) { v.Events.Eventf(about, kind, reason, format, args...) }
	img, err := v.Images.Mount(ctx, pullSpec(p, vol.Image.Reference, vol.Image.PullPolicy, v.Objects, tell), vol.Name, dir)
	if err != nil {
		return "", err
	}
	if img.ID != "" { // else it was mounted before
		tellPulled(vol.Image.Reference, img, tell)
	}
	return img.Ref, nil
}

// imageRefs are the images that volumes show, for the pod's status: as they were told before while the volumes have not been looked at in this life of
// the kubelet.
func imageRefs(p *corev1.Pod, made map[string]volumes.Volume) map[string]string {
	refs := map[string]string{}
	for name, v := range made {
		if v.ImageRef != "" {
			refs[name] = v.ImageRef
		}
	}
	if made != nil {
		return refs
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for _, cs := range list {
			for _, m := range cs.VolumeMounts {
				if m.VolumeStatus != nil && m.VolumeStatus.Image != nil {
					refs[m.Name] = m.VolumeStatus.Image.ImageRef
				}
			}
		}
	}
	return refs
}

// Release gives back what the image volumes of a pod took; they are unmounted.
func (v ImageVolumes) Release(ctx context.Context, uid types.UID) error {
	return v.Images.Release(ctx, uid)
}
