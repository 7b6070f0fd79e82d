package pods

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/pkg/pod"
)

// doGroup makes the pod's control group with the limits of the pod as a whole.
func doGroup(_ context.Context, w *worker, in input) (func(*state), error) {
	path, err := w.parts.Groups.CreatePod(pod.QoS(in.pod), string(w.uid), podResources(in.pod))
	if err != nil {
		return nil, err
	}
	return func(s *state) { s.group = path }, nil
}

func undoGroup(ctx context.Context, w *worker, _ input) error {
	return w.parts.Groups.RemovePod(ctx, string(w.uid))
}

// podResources are the limits of the pod as a whole: a hard limit only where every container has one.
func podResources(p *corev1.Pod) cgroups.Resources {
	requests, limits := pod.SpecRequests(p), pod.Limits(p)
	var cpu, memory int64
	if pod.Bounded(p, corev1.ResourceCPU) {
		cpu = limits.Cpu().MilliValue()
	}
	if pod.Bounded(p, corev1.ResourceMemory) {
		memory = limits.Memory().Value()
	}
	return cgroups.Limits(requests.Cpu().MilliValue(), cpu, memory)
}
