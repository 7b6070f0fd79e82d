package pods

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/probes"
)

// hook runs a postStart or preStop handler.
func (w *worker) hook(ctx context.Context, h *corev1.LifecycleHandler, c *corev1.Container, id string, in input) error {
	switch {
	case h.Exec != nil:
		var out strings.Builder
		code, err := w.parts.Containers.Exec(ctx, id, containers.ExecSpec{Args: h.Exec.Command, Stdout: &out, Stderr: &out})
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("command %q ended with exit code %d: %s", strings.Join(h.Exec.Command, " "), code, strings.TrimSpace(out.String()))
		}
		return nil
	case h.HTTPGet != nil:
		if len(in.facts.PodIPs) == 0 {
			return fmt.Errorf("the pod has no address")
		}
		return probes.Get(ctx, h.HTTPGet, c, in.facts.PodIPs[0].String())
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	default:
		return nil // a TCP handler does nothing, as the API says
	}
}
