package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// table gathers the facts of one kind of object. It is the store of a reflector,
// so that nothing is held twice: the fact is all that is kept of an object.
// Safe for concurrent use.
type table[T any] struct {
	read func(any) *T // the fact of an API object; nil: nothing to policies
	same func(a, b *T) bool
	wake func()

	mu     sync.Mutex
	facts  map[Name]*T
	dirty  map[Name]struct{} // changed since the last take
	filled bool              // all that were there at the start have been heard of
}

func newTable[T any](read func(any) *T, same func(a, b *T) bool, wake func()) *table[T] {
	return &table[T]{read: read, same: same, wake: wake, facts: map[Name]*T{}, dirty: map[Name]struct{}{}}
}

// nothing stands for an object that is nothing to policies, in a reflector's hands.
type nothing struct{ name Name }

// GetObjectMeta names the object, for stores of client-go.
func (n *nothing) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: n.name.Namespace, Name: n.name.Name}
}

func nameOf(obj any) (Name, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return Name{}, fmt.Errorf("reading the name of a %T: %w", obj, err)
	}
	return Name{m.GetNamespace(), m.GetName()}, nil
}

// fact makes the fact of what a reflector hands over, an API object or a fact.
func (t *table[T]) fact(obj any) *T {
	switch v := obj.(type) {
	case *T:
		return v
	case *nothing:
		return nil
	}
	return t.read(obj)
}

// Add notes an object. So does Update.
func (t *table[T]) Add(obj any) error {
	name, err := nameOf(obj)
	if err != nil {
		return err
	}
	t.set(name, t.fact(obj))
	return nil
}

// Update notes the newest state of an object.
func (t *table[T]) Update(obj any) error { return t.Add(obj) }

// Delete notes that an object is gone.
func (t *table[T]) Delete(obj any) error {
	name, err := nameOf(obj)
	if err != nil {
		return err
	}
	t.set(name, nil)
	return nil
}

func (t *table[T]) set(name Name, now *T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.setLocked(name, now) {
		t.wake()
	}
}

func (t *table[T]) setLocked(name Name, now *T) bool {
	was := t.facts[name]
	switch {
	case was == nil && now == nil:
		return false
	case was != nil && now != nil && t.same(was, now):
		return false
	case now == nil:
		delete(t.facts, name)
	default:
		t.facts[name] = now
	}
	t.dirty[name] = struct{}{}
	return true
}

// Replace notes that these are all objects there are.
func (t *table[T]) Replace(all []any, _ string) error {
	now := make(map[Name]*T, len(all))
	for _, obj := range all {
		name, err := nameOf(obj)
		if err != nil {
			return err
		}
		if f := t.fact(obj); f != nil {
			now[name] = f
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.facts {
		if now[name] == nil {
			t.setLocked(name, nil)
		}
	}
	for name, f := range now {
		t.setLocked(name, f)
	}
	t.filled = true
	t.wake()
	return nil
}

// Resync has nothing to do.
func (t *table[T]) Resync() error { return nil }

// Transformer makes facts of objects while the first of them still come in.
func (t *table[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		name, err := nameOf(obj)
		if err != nil {
			return nil, err
		}
		if f := t.fact(obj); f != nil {
			return f, nil
		}
		return &nothing{name}, nil
	}
}

// take gives what has changed since the last time.
func (t *table[T]) take() map[Name]*T {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.dirty) == 0 {
		return nil
	}
	out := make(map[Name]*T, len(t.dirty))
	for name := range t.dirty {
		out[name] = t.facts[name]
	}
	t.dirty = map[Name]struct{}{}
	return out
}

// count tells how many there are, and whether all have been heard of.
func (t *table[T]) count() (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.facts), t.filled
}

// forget lets everything go.
func (t *table[T]) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.facts, t.dirty, t.filled = map[Name]*T{}, map[Name]struct{}{}, false
}

// ranges is where this node's pods have their addresses. Safe for concurrent use.
type ranges struct {
	wake func()

	mu  sync.Mutex
	all []netip.Prefix
}

func (r *ranges) set(texts []string) {
	var all []netip.Prefix
	for _, s := range texts {
		if p, err := netip.ParsePrefix(s); err == nil {
			all = append(all, p.Masked())
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.all, all) {
		r.all = all
		r.wake()
	}
}

func (r *ranges) take() []netip.Prefix {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}
