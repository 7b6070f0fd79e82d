// Package objects keeps the ConfigMaps and Secrets that this node's pods refer to, and only those: a watch an object, by name,
// counted by the pods that want it.
//
// The pod workers Keep a pod before they need its objects and Drop it once it is gone; resolve and volumes read. What always holds: a read
// waits (bounded) until the object was read from the API once, so «not found» means that the API said so; when the API is away, what was
// last known is served. Objects belong to the store: readers don't change them.
package objects

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// patience is how long a read waits for the first answer of the API.
const patience = 10 * time.Second

// The kinds that are kept.
const (
	ConfigMap = "configmaps"
	Secret    = "secrets"
)

// Key names an object.
type Key struct{ Kind, Namespace, Name string }

// Store keeps the objects.
type Store struct {
	kube    kubernetes.Interface // set once, as all in this group
	wake    chan struct{}
	changes chan struct{}

	mu      sync.Mutex
	pods    map[types.UID]map[Key]bool // what each pod refers to; guarded by mu
	slots   map[Key]*slot              // guarded by mu
	changed map[Key]bool               // since TakeChanged; guarded by mu
}

// New stores what it is given.
func New(kube kubernetes.Interface) *Store {
	return &Store{
		kube: kube, wake: make(chan struct{}, 1), changes: make(chan struct{}, 1),
		pods: map[types.UID]map[Key]bool{}, slots: map[Key]*slot{}, changed: map[Key]bool{},
	}
}

// Changes has something to read when objects were changed, appeared or went: ask TakeChanged which pods that concerns. For one reader.
func (s *Store) Changes() <-chan struct{} { return s.changes }

// TakeChanged are the pods that refer to objects that changed since it was called last.
func (s *Store) TakeChanged() []types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var uids []types.UID
	for uid, refs := range s.pods {
		for key := range refs {
			if s.changed[key] {
				uids = append(uids, uid)
				break
			}
		}
	}
	clear(s.changed)
	return uids
}

func (s *Store) note(key Key) {
	s.mu.Lock()
	s.changed[key] = true
	s.mu.Unlock()
	select {
	case s.changes <- struct{}{}:
	default:
	}
}

// Keep follows what the pod refers to, until Drop. Calling it again with a newer pod follows the difference.
func (s *Store) Keep(pod *corev1.Pod) {
	refs := References(pod)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[pod.UID] = refs
	for key := range refs {
		if s.slots[key] == nil {
			s.slots[key] = &slot{key: key, first: make(chan struct{}), changed: s.note}
		}
	}
	s.wakeLocked()
}

// Drop forgets what the pod referred to.
func (s *Store) Drop(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, uid)
	s.wakeLocked()
}

func (s *Store) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run follows the objects until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	running := map[Key]context.CancelFunc{}
	var all sync.WaitGroup
	defer all.Wait()
	for {
		s.mu.Lock()
		wanted := map[Key]bool{}
		for _, refs := range s.pods {
			for key := range refs {
				wanted[key] = true
			}
		}
		for key, sl := range s.slots {
			switch {
			case !wanted[key]:
				delete(s.slots, key)
				if stop := running[key]; stop != nil {
					stop()
					delete(running, key)
				}
			case running[key] == nil:
				own, stop := context.WithCancel(ctx)
				running[key] = stop
				all.Go(func() { s.follow(own, sl) })
			}
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return nil
		case <-s.wake:
		}
	}
}

// follow lists and watches one object until ctx ends; the reflector retries by itself.
func (s *Store) follow(ctx context.Context, sl *slot) {
	only := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, sl.key.Name).String()
	}
	lw, example := &cache.ListWatch{}, runtime.Object(&corev1.ConfigMap{})
	switch core := s.kube.CoreV1(); sl.key.Kind {
	case ConfigMap:
		lw.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			only(&o)
			return core.ConfigMaps(sl.key.Namespace).List(ctx, o)
		}
		lw.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			only(&o)
			return core.ConfigMaps(sl.key.Namespace).Watch(ctx, o)
		}
	default:
		example = &corev1.Secret{}
		lw.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			only(&o)
			return core.Secrets(sl.key.Namespace).List(ctx, o)
		}
		lw.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			only(&o)
			return core.Secrets(sl.key.Namespace).Watch(ctx, o)
		}
	}
	name := fmt.Sprintf("%s/%s/%s", sl.key.Kind, sl.key.Namespace, sl.key.Name)
	cache.NewReflectorWithOptions(lw, example, sl, cache.ReflectorOptions{Name: name}).RunWithContext(ctx)
}

// ConfigMap reads one that some pod refers to.
func (s *Store) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	obj, err := s.read(Key{ConfigMap, namespace, name})
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.ConfigMap), nil
}

// Secret reads one that some pod refers to.
func (s *Store) Secret(namespace, name string) (*corev1.Secret, error) {
	obj, err := s.read(Key{Secret, namespace, name})
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Secret), nil
}

func (s *Store) read(key Key) (runtime.Object, error) {
	s.mu.Lock()
	sl := s.slots[key]
	s.mu.Unlock()
	if sl == nil {
		return nil, fmt.Errorf("%s %s/%s is not kept for any pod", key.Kind, key.Namespace, key.Name)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-sl.first:
	case <-timer.C:
		return nil, fmt.Errorf("reading %s %s/%s: no answer from the API for %s", key.Kind, key.Namespace, key.Name, patience)
	}
	if obj := sl.get(); obj != nil {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource(key.Kind), key.Name)
}
