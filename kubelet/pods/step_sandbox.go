package pods

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
)

// doSandbox makes the pod's namespaces and connects them to the pod network.
func doSandbox(ctx context.Context, w *worker, in input) (apply func(*state), err error) {
	if in.sandbox != nil && in.sandbox.Ready {
		return nil, nil // of a former life
	}
	p := in.pod
	spec := containers.SandboxSpec{
		PodUID: string(p.UID), PodNamespace: p.Namespace, PodName: p.Name, Hostname: hostname(p),
		HostNetwork: p.Spec.HostNetwork, HostIPC: p.Spec.HostIPC, HostPID: p.Spec.HostPID,
		ShareProcessNamespace: p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace,
		Labels:                map[string]string{labelGrace: strconv.Itoa(int(grace(p) / time.Second))},
	}
	if in.sandbox != nil {
		spec.Attempt = in.sandbox.Attempt + 1
	}
	if sc := p.Spec.SecurityContext; sc != nil && len(sc.Sysctls) > 0 {
		spec.Sysctls = map[string]string{}
		for _, ctl := range sc.Sysctls {
			spec.Sysctls[ctl.Name] = ctl.Value
		}
	}
	connected := ""
	if !p.Spec.HostNetwork {
		spec.Connect = func(ctx context.Context, netns string) ([]netip.Addr, error) {
			connected = netns
			at, err := w.parts.Network.Setup(ctx, netns, string(p.UID))
			if err != nil {
				return nil, err
			}
			return []netip.Addr{at.IP.Addr()}, nil
		}
	}
	if _, err = w.parts.Sandboxes.CreateSandbox(ctx, spec); err != nil {
		if connected != "" {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			err = errors.Join(err, w.parts.Network.Teardown(ctx, connected, string(p.UID)))
		}
		return nil, fmt.Errorf("creating the pod's sandbox: %w", err)
	}
	return nil, nil
}

func undoSandbox(ctx context.Context, w *worker, _ input) error { return w.removeSandboxes(ctx) }

// removeSandboxes takes all sandboxes of the pod away, with what still runs in them.
func (w *worker) removeSandboxes(ctx context.Context) error {
	l, err := w.parts.Observer.ListPod(ctx, string(w.uid))
	if err != nil {
		return err
	}
	for _, box := range l.Sandboxes {
		if !box.HostNetwork {
			if err := w.parts.Network.Teardown(ctx, box.NetNS, string(w.uid)); err != nil {
				return fmt.Errorf("taking the pod off the network: %w", err)
			}
		}
		if err := w.parts.Sandboxes.RemoveSandbox(ctx, box.ID); err != nil {
			return fmt.Errorf("removing the sandbox: %w", err)
		}
	}
	return nil
}

// hostname of the pod, at most 63 characters as the kernel's users expect.
func hostname(p *corev1.Pod) string {
	name := p.Name
	if p.Spec.Hostname != "" {
		name = p.Spec.Hostname
	}
	if p.Spec.HostnameOverride != nil {
		name = *p.Spec.HostnameOverride
	}
	for len(name) > 63 || len(name) > 0 && (name[len(name)-1] == '-' || name[len(name)-1] == '.') {
		name = name[:min(len(name)-1, 63)]
	}
	return name
}
