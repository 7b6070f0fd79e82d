package pods

import "context"

// doVolumes makes the pod's volumes.
func doVolumes(ctx context.Context, w *worker, in input) (func(*state), error) {
	made, err := w.parts.Volumes.Setup(ctx, in.pod, in.facts)
	if err != nil {
		return nil, err
	}
	return func(s *state) { s.volumes = made }, nil
}

func undoVolumes(ctx context.Context, w *worker, _ input) error {
	return w.parts.Volumes.Teardown(ctx, w.uid)
}
