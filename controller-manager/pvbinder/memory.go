package pvbinder

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
)

// memory keeps objects as the API server returned them to a write, until a cache shows them so or newer. Safe for concurrent use.
type memory[T metav1.Object] struct {
	mu      sync.Mutex
	written map[loop.Key]T // guarded by mu
}

func newMemory[T metav1.Object]() *memory[T] { return &memory[T]{written: map[loop.Key]T{}} }

func (m *memory[T]) wrote(o T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written[loop.KeyOf(o)] = o
}

// newest is the newer one of a cached object and what was written last.
func (m *memory[T]) newest(cached T) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := loop.KeyOf(cached)
	own, ok := m.written[k]
	switch {
	case !ok:
		return cached
	case own.GetUID() != cached.GetUID() || loop.Reached(cached.GetResourceVersion(), own.GetResourceVersion()):
		delete(m.written, k)
		return cached
	}
	return own
}

func (m *memory[T]) forget(k loop.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.written, k)
}
