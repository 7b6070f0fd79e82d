package pods

import (
	"context"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// doGroup makes the pod's control group with the limits of the pod as a whole. Where containers of a former life of the kubelet run, a resize may have
// been under way, which must go on in its own order: then only what a resize does not change is set.
func doGroup(_ context.Context, w *worker, in input) (func(*state), error) {
	if err := w.keep(); err != nil {
		return nil, err
	}
	z := w.sizing()
	res, running := z.pod(in.pod), false
	for _, rs := range in.records {
		running = running || rs[0].State == containers.Running
	}
	if running {
		res = cgroups.Resources{PIDs: res.PIDs, NoSwap: res.NoSwap, HugePages: res.HugePages}
	}
	path, err := w.parts.Groups.CreatePod(pod.QoS(in.pod), string(w.uid), res)
	if err != nil {
		return nil, err
	}
	return func(s *state) {
		if s.group = path; running {
			s.dirty = true // what the group has is to be read
			return
		}
		size := z.podSize(in.pod)
		s.seen.Group = &size
	}, nil
}

func undoGroup(ctx context.Context, w *worker, _ input) error {
	return w.parts.Groups.RemovePod(ctx, string(w.uid))
}
