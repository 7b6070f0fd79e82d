package pods

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
)

// sweepTime is how long the runtime may take to list all: meanwhile no pod hears anything.
const sweepTime = 10 * time.Second

// collect ends what no worker knows: containers, control groups, folders and logs that are left of pods long gone, or that somebody else made while this
// kubelet ran. Only the owner of the workers calls it, once all wishes are known.
func (ws *Workers) collect(ctx context.Context, all *sync.WaitGroup, over chan types.UID) {
	look, cancel := context.WithTimeout(ctx, sweepTime)
	l, err := ws.parts.Observer.List(look)
	cancel()
	if err != nil {
		ws.log.Warn("looking for leftover containers", zap.Error(err))
		return
	}
	found := map[types.UID]*corev1.Pod{}
	for _, box := range l.Sandboxes {
		found[types.UID(box.PodUID)] = stub(types.UID(box.PodUID), box)
	}
	for _, c := range l.Containers {
		if uid := types.UID(c.PodUID); found[uid] == nil {
			found[uid] = stub(uid, containers.Sandbox{})
		}
	}
	ws.adopt(ctx, found, all, over)
}
