// Package objects keeps the ConfigMaps, Secrets and ClusterTrustBundles that this node's pods refer to, and only those: a watch an object, by
// name (bundles also by their signer), counted by the pods that want it. What is marked immutable is read once for each pod that comes to want
// it, and not watched (https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable). A ConfigMap or bundle is followed for a
// while after its last pod, for the next (rest.go).
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

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// patience is how long a read waits for the first answer of the API.
const patience = 10 * time.Second

// The kinds that are kept.
const (
	ConfigMap   = "configmaps"
	Secret      = "secrets"
	TrustBundle = "clustertrustbundles"
)

// Key names an object, or all bundles of a signer.
type Key struct{ Kind, Namespace, Name, Signer string }

// Store keeps the objects.
type Store struct {
	kube    kubernetes.Interface // set once, as all in this group
	wake    chan struct{}
	changes chan struct{}
	rest    time.Duration

	mu      sync.Mutex
	pods    map[types.UID]map[Key]bool // what each pod refers to; guarded by mu
	slots   map[Key]*slot              // guarded by mu
	idle    map[Key]time.Time          // since when no pod wants a slot; guarded by mu
	changed map[Key]bool               // since TakeChanged; guarded by mu
}

// New stores what it is given.
func New(kube kubernetes.Interface) *Store {
	return &Store{
		kube: kube, wake: make(chan struct{}, 1), changes: make(chan struct{}, 1), rest: rest,
		pods: map[types.UID]map[Key]bool{}, slots: map[Key]*slot{}, idle: map[Key]time.Time{}, changed: map[Key]bool{},
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
	had := s.pods[pod.UID]
	s.pods[pod.UID] = refs
	for key := range refs {
		if _, rested := s.idle[key]; rested && !s.slots[key].current() {
			s.endLocked(key) // what it holds may be old
		}
		delete(s.idle, key)
		switch sl := s.slots[key]; {
		case sl == nil:
			s.slots[key] = newSlot(key, s.note)
		case !had[key]:
			sl.thaw()
		}
	}
	s.wakeUp()
}

// Drop forgets what the pod referred to.
func (s *Store) Drop(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, uid)
	s.wakeUp()
}

func (s *Store) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run follows the objects until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	clock := time.NewTimer(0)
	defer clock.Stop()
	for {
		s.mu.Lock()
		next := s.retireLocked(time.Now())
		for _, sl := range s.slots {
			own, stop := context.WithCancel(ctx)
			if !sl.begin(stop) {
				stop()
				continue
			}
			all.Go(func() { s.follow(own, sl) })
		}
		s.mu.Unlock()
		if clock.Stop(); !next.IsZero() {
			clock.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-clock.C:
		}
	}
}

// ConfigMap reads one that some pod refers to.
func (s *Store) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	obj, err := s.one(Key{Kind: ConfigMap, Namespace: namespace, Name: name}, corev1.Resource(ConfigMap))
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.ConfigMap), nil
}

// Secret reads one that some pod refers to.
func (s *Store) Secret(namespace, name string) (*corev1.Secret, error) {
	obj, err := s.one(Key{Kind: Secret, Namespace: namespace, Name: name}, corev1.Resource(Secret))
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Secret), nil
}

// TrustBundle reads one that some pod refers to by its name.
func (s *Store) TrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error) {
	obj, err := s.one(Key{Kind: TrustBundle, Name: name}, certificatesv1.Resource(TrustBundle))
	if err != nil {
		return nil, err
	}
	return obj.(*certificatesv1.ClusterTrustBundle), nil
}

// TrustBundles reads those of a signer that some pod refers to.
func (s *Store) TrustBundles(signer string) ([]*certificatesv1.ClusterTrustBundle, error) {
	objs, err := s.read(Key{Kind: TrustBundle, Signer: signer})
	if err != nil {
		return nil, err
	}
	bundles := make([]*certificatesv1.ClusterTrustBundle, 0, len(objs))
	for _, o := range objs {
		bundles = append(bundles, o.(*certificatesv1.ClusterTrustBundle))
	}
	return bundles, nil
}

func (s *Store) one(key Key, resource schema.GroupResource) (runtime.Object, error) {
	objs, err := s.read(key)
	if err != nil {
		return nil, err
	}
	if len(objs) == 0 {
		return nil, apierrors.NewNotFound(resource, key.Name)
	}
	return objs[0], nil
}

func (s *Store) read(key Key) ([]runtime.Object, error) {
	s.mu.Lock()
	sl := s.slots[key]
	s.mu.Unlock()
	if sl == nil {
		return nil, fmt.Errorf("%s %s/%s is not kept for any pod", key.Kind, key.Namespace, key.Name)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	silent := false
	select {
	case <-sl.answered():
	case <-timer.C:
		silent = true
	}
	objs, err := sl.all()
	switch {
	case len(objs) > 0: // also what was last known, while the API is away or does not let us read any more
		return objs, nil
	case silent:
		return nil, fmt.Errorf("reading %s %s/%s: no answer from the API for %s", key.Kind, key.Namespace, key.Name, patience)
	}
	return nil, err
}
