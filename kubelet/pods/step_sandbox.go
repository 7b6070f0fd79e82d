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
	name, err := kernelName(p, w.cfg.DNS.Domain)
	if err != nil {
		return nil, sandboxError(err)
	}
	spec := containers.SandboxSpec{
		PodUID: string(p.UID), PodNamespace: p.Namespace, PodName: p.Name, Hostname: name,
		HostNetwork: p.Spec.HostNetwork, HostIPC: p.Spec.HostIPC, HostPID: p.Spec.HostPID,
		ShareProcessNamespace: is(p.Spec.ShareProcessNamespace), OwnUsers: p.Spec.HostUsers != nil && !*p.Spec.HostUsers,
		Labels: map[string]string{labelGrace: strconv.Itoa(int(grace(p) / time.Second))},
	}
	if spec.Handler, err = w.handler(ctx, p); err != nil {
		return nil, sandboxError(err)
	}
	if spec.ShareProcessNamespace {
		if spec.CgroupParent, err = groupNow(ctx, w, in); err != nil {
			return nil, sandboxError(err)
		}
	}
	if in.sandbox != nil {
		spec.Attempt = in.sandbox.Attempt + 1
	}
	if sc := p.Spec.SecurityContext; sc != nil && len(sc.Sysctls) > 0 {
		spec.Sysctls = map[string]string{}
		for _, ctl := range sc.Sysctls {
			spec.Sysctls[dotted(ctl.Name)] = ctl.Value
		}
	}
	connected := ""
	if !p.Spec.HostNetwork {
		spec.Connect = func(ctx context.Context, netns string) ([]netip.Addr, error) {
			to, err := joined(p, netns)
			if err != nil {
				return nil, err
			}
			connected = netns
			at, err := w.parts.Network.Setup(ctx, to)
			return at.Addresses(), err
		}
	}
	if _, err = w.parts.Sandboxes.CreateSandbox(ctx, spec); err != nil {
		if connected != "" {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			err = errors.Join(err, w.parts.Network.Teardown(ctx, connected, string(p.UID)))
		}
		return nil, sandboxError(err)
	}
	return nil, nil
}

// sandboxError is how users of Kubernetes know that a sandbox could not be made.
func sandboxError(err error) error { return fmt.Errorf("failed to create pod sandbox: %w", err) }

// handler is the OCI runtime that the pod's RuntimeClass names, empty for the usual one.
func (w *worker) handler(ctx context.Context, p *corev1.Pod) (string, error) {
	class := p.Spec.RuntimeClassName
	if class == nil || *class == "" {
		return "", nil
	}
	handler, err := w.parts.Handler(ctx, *class)
	if err != nil {
		return "", fmt.Errorf("failed to lookup RuntimeClass %s: %w", *class, err)
	}
	return handler, nil
}

// groupNow is the pod's control group, made now if the step that makes it, which runs beside this one, has not: to make it twice changes nothing.
func groupNow(ctx context.Context, w *worker, in input) (string, error) {
	if in.group != "" {
		return in.group, nil
	}
	apply, err := doGroup(ctx, w, in)
	if err != nil {
		return "", err
	}
	found := state{}
	apply(&found)
	return found.group, nil
}

func undoSandbox(ctx context.Context, w *worker, in input) error {
	return w.removeSandboxes(ctx, in.pod)
}

// removeSandboxes takes all sandboxes of the pod away, with what still runs in them. One that was not made to the end may have left the pod in the
// network.
func (w *worker) removeSandboxes(ctx context.Context, p *corev1.Pod) error {
	l, err := w.parts.Observer.ListPod(ctx, string(w.uid))
	if err != nil {
		return err
	}
	if len(l.Sandboxes) == 0 && !p.Spec.HostNetwork {
		if err := w.parts.Network.Teardown(ctx, "", string(w.uid)); err != nil {
			return fmt.Errorf("taking the pod off the network: %w", err)
		}
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
