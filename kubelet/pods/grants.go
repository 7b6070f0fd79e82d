package pods

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
)

// Grants is a room that gives containers what others then cannot have: processors, devices. Its Admit reserves for a pod that comes; what it
// refuses later, in Grant, is tried again.
type Grants interface {
	Guard
	// Found is told once, before any pod is admitted, what was there when the kubelet started. The containers' labels say what they hold.
	Found(l containers.Listing)
	// Grant puts what a container gets into its spec, with a label by which Found finds it again. Called before each start of a container, on
	// a goroutine of its own: it may wait.
	Grant(ctx context.Context, p *corev1.Pod, c *corev1.Container, spec *containers.ContainerSpec) error
	// Release takes back all that a pod had. Called when its containers have ended for good, before the API hears it, and maybe again.
	Release(uid types.UID)
}

// grant lets all rooms add to a container's spec.
func (w *worker) grant(ctx context.Context, p *corev1.Pod, c *corev1.Container, spec *containers.ContainerSpec) error {
	for _, g := range w.parts.Grants {
		if err := g.Grant(ctx, p, c, spec); err != nil {
			return err
		}
	}
	return nil
}

func (parts *Parts) release(uid types.UID) {
	for _, g := range parts.Grants {
		g.Release(uid)
	}
}

// guards are all that may refuse a pod.
func (parts *Parts) guards() []Guard {
	all := parts.Guards
	for _, g := range parts.Grants {
		all = append(all[:len(all):len(all)], g)
	}
	return all
}
