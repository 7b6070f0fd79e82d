package containers

import (
	"context"
	"fmt"
)

// Folder is where the runtime keeps images and the layers that containers write to: the image file system of the node. It is empty if containerd
// does not say.
func (r *Runtime) Folder(ctx context.Context) (string, error) {
	found, err := r.client.IntrospectionService().Plugins(r.scope(ctx), []string{"type==io.containerd.snapshotter.v1,id==" + r.cfg.Snapshotter})
	if err != nil {
		return "", fmt.Errorf("asking containerd for its folder: %w", err)
	}
	for _, p := range found.Plugins {
		if root := p.Exports["root"]; root != "" {
			return root, nil
		}
	}
	return "", nil
}
