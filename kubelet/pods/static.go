package pods

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/source"
	"pilothouse.dev/pkg/pod"
)

// A static pod that is changed is another pod with the same name: it waits until the old one has ended.

func sameName(a, b *corev1.Pod) bool { return a.Name == b.Name && a.Namespace == b.Namespace }

// holdBack says that a new static pod has to wait for a namesake, and keeps the wish until then. A namesake of which only the runtime knows is ended
// for it: its file was changed while no kubelet ran.
func (ws *Workers) holdBack(ctx context.Context, u source.Update, found map[types.UID]*corev1.Pod, all *sync.WaitGroup, over chan types.UID) bool {
	if !pod.Static(u.Pod) {
		return false
	}
	for uid, p := range found {
		if uid != u.Pod.UID && sameName(p, u.Pod) {
			delete(found, uid)
			if ws.worker(uid) == nil {
				ws.employ(ctx, p, nil, all, over, func(s *state) { s.gone = true })
			}
		}
	}
	for _, w := range ws.all() {
		p := w.newest()
		if w.uid != u.Pod.UID && sameName(p, u.Pod) && (pod.Static(p) || p.Spec.NodeName == "") { // one that was found has only a name
			ws.queued[u.Pod.UID] = u
			return true
		}
	}
	return false
}

// release lets those in that waited for a pod that is gone now; who has to wait for another one waits again.
func (ws *Workers) release(ctx context.Context, found map[types.UID]*corev1.Pod, all *sync.WaitGroup, over chan types.UID) {
	for uid, u := range ws.queued {
		delete(ws.queued, uid)
		ws.told(ctx, u, found, all, over)
	}
}

func (ws *Workers) all() []*worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	list := make([]*worker, 0, len(ws.pods))
	for _, w := range ws.pods {
		list = append(list, w)
	}
	return list
}
