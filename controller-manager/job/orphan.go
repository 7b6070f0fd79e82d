package job

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
)

// podPrefix marks the keys of pods among those of jobs: no name has a slash.
const podPrefix = "pod/"

func podKey(p *corev1.Pod) loop.Key {
	return loop.Key{Namespace: p.Namespace, Name: podPrefix + p.Name}
}

func podName(k loop.Key) (string, bool) { return strings.CutPrefix(k.Name, podPrefix) }

// release takes the finalizer from a pod that no job will ever count: nobody controls or may adopt it, or something else than a
// job does, or its job is gone. That the cache does not have the job is not believed before the API server says so, too.
func (c *controller) release(ctx context.Context, namespace, name string) error {
	p, err := c.byName.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !guarded(p) {
		return nil
	}
	switch ref := metav1.GetControllerOfNoCopy(p); {
	case ref == nil:
		if len(c.adopters(p)) > 0 {
			return nil
		}
	case isJob(ref):
		if c.owner(p) != nil {
			return nil
		}
		j, err := c.t.Clients.Kube.BatchV1().Jobs(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err == nil && j.UID == ref.UID {
			return loop.ErrStale
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("reading the job of pod %s: %w", name, err)
		}
	}
	if err := c.world.guard(ctx, p, false); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("taking the finalizer from orphan pod %s: %w", name, err)
	}
	return nil
}
