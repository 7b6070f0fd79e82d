package objects

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
)

// slot holds one object; it is the store of a reflector that sees nothing else.
type slot struct {
	key     Key
	changed func(Key)
	first   chan struct{} // closed when the API has answered once

	mu     sync.Mutex
	object runtime.Object // nil: there is none; guarded by mu
	heard  bool           // guarded by mu
}

func (s *slot) get() runtime.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.object
}

func (s *slot) put(obj any) {
	s.mu.Lock()
	was := s.object
	s.object, _ = obj.(runtime.Object)
	now := s.object
	if !s.heard {
		s.heard = true
		close(s.first)
	}
	s.mu.Unlock()
	if was != nil || now != nil {
		s.changed(s.key)
	}
}

// Add, Update, Delete, Replace and Resync are what a reflector calls.
func (s *slot) Add(obj any) error { s.put(obj); return nil }

// Update is Add.
func (s *slot) Update(obj any) error { s.put(obj); return nil }

// Delete empties the slot.
func (s *slot) Delete(any) error { s.put(nil); return nil }

// Replace takes the list of the one object, or of none.
func (s *slot) Replace(list []any, _ string) error {
	if len(list) == 0 {
		s.put(nil)
		return nil
	}
	s.put(list[0])
	return nil
}

// Resync does nothing.
func (s *slot) Resync() error { return nil }
