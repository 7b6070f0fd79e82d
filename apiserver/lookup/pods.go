package lookup

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/storage"
)

// PodsIn reads at most so many pods of a namespace, those that are at hand, and says how many there are.
func (l *Lookup) PodsIn(ctx context.Context, namespace string, most int) (pods []*corev1.Pod, all int, err error) {
	r := l.reg.Find(core("pods"))
	if r == nil {
		return nil, 0, nil
	}
	page, err := r.Store.List(ctx, storage.ListOptions{Selector: storage.Selector{Namespace: namespace}, Read: storage.Cached})
	if err != nil {
		return nil, 0, fmt.Errorf("listing %s: %w", r.Plural, err)
	}
	all = len(page.Entries)
	for _, e := range page.Entries[:min(most, all)] {
		if ctx.Err() != nil {
			break
		}
		obj, err := r.Decode(e)
		if err != nil {
			return nil, 0, fmt.Errorf("listing %s: %w", r.Plural, err)
		}
		pods = append(pods, obj.(*corev1.Pod))
	}
	return pods, all, nil
}
