package garbagecollector

import (
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

// store is where a reflector puts the objects of one kind: into the graph. It keeps only which UID a name has.
type store struct {
	graph *graph
	kind  *kind
	wake  func(loop.Key)
	// changed is called after a change of any object.
	changed func()

	mu     sync.Mutex
	uids   map[string]types.UID // guarded by mu: by namespace/name
	full   bool                 // guarded by mu: listed once
	closed bool                 // guarded by mu: the kind is gone
}

func key(o *metav1.PartialObjectMetadata) string { return o.Namespace + "/" + o.Name }

func (s *store) filled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// Add and the methods below are the reflector's.
func (s *store) Add(obj any) error { return s.Update(obj) }

func (s *store) Update(obj any) error {
	o, err := meta(obj)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(o)
	return nil
}

func (s *store) putLocked(o *metav1.PartialObjectMetadata) {
	if s.closed {
		return
	}
	k := key(o)
	if old, there := s.uids[k]; there && old != o.UID { // deleted and made again while we did not look
		send(s.wake, s.graph.drop(old, true))
	}
	s.uids[k] = o.UID
	send(s.wake, s.graph.put(s.kind, o))
	s.changed()
}

func (s *store) Delete(obj any) error {
	o, err := meta(obj)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	delete(s.uids, key(o))
	send(s.wake, s.graph.drop(o.UID, true))
	s.changed()
	return nil
}

func (s *store) Replace(list []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	there := make(map[string]bool, len(list))
	for _, obj := range list {
		o, err := meta(obj)
		if err != nil {
			return err
		}
		there[key(o)] = true
		s.putLocked(o)
	}
	for k, uid := range s.uids {
		if !there[k] {
			delete(s.uids, k)
			send(s.wake, s.graph.drop(uid, true))
			s.changed()
		}
	}
	s.full = true
	return nil
}

func (s *store) Resync() error { return nil }

// abandon takes all objects of a kind out of the graph that is no longer served.
func (s *store) abandon() (wake []types.UID) {
	for _, uid := range s.close() {
		wake = append(wake, s.graph.drop(uid, false)...)
	}
	return wake
}

// close takes nothing in any more and hands out what it has.
func (s *store) close() map[string]types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.uids
}

func meta(obj any) (*metav1.PartialObjectMetadata, error) {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil, fmt.Errorf("a watch of metadata brought a %T", obj)
	}
	return o, nil
}
