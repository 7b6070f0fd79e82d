package podset

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

// Ledger remembers, for each owner, pods that were created or deleted by us and that the cache does not show so yet. It needs
// no events: a created pod is seen when the cache holds its UID or has passed its resource version, a deleted one when the
// cache shows it going or not at all. Safe for concurrent use; one key is used by one goroutine at a time.
type Ledger struct {
	mu   sync.Mutex
	keys map[loop.Key]*page // guarded by mu
}

type page struct {
	created map[types.UID]string // resource version
	deleted map[types.UID]bool
}

// NewLedger makes an empty ledger.
func NewLedger() *Ledger { return &Ledger{keys: map[loop.Key]*page{}} }

// Created notes a pod as the API server returned it.
func (l *Ledger) Created(k loop.Key, pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pageLocked(k).created[pod.UID] = pod.ResourceVersion
}

// Deleting notes a pod before it is deleted; Kept takes that back when the deletion failed.
func (l *Ledger) Deleting(k loop.Key, uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pageLocked(k).deleted[uid] = true
}

// Kept says that a pod noted by Deleting was not deleted.
func (l *Ledger) Kept(k loop.Key, uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.keys[k]; p != nil {
		delete(p.deleted, uid)
	}
}

// Forget drops what is known of an owner that is gone.
func (l *Ledger) Forget(k loop.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.keys, k)
}

func (l *Ledger) pageLocked(k loop.Key) *page {
	p := l.keys[k]
	if p == nil {
		p = &page{created: map[types.UID]string{}, deleted: map[types.UID]bool{}}
		l.keys[k] = p
	}
	return p
}

// Unseen is what the cache does not show yet.
type Unseen struct {
	Creating int                // pods that exist and are not in the cache
	Deleting map[types.UID]bool // pods in the cache that are deleted
}

// Unseen compares with the owner's pods in a cache that has reached version, and forgets what has been seen.
func (l *Ledger) Unseen(k loop.Key, cached []*corev1.Pod, version string) Unseen {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.keys[k]
	if p == nil {
		return Unseen{}
	}
	going := make(map[types.UID]bool, len(cached))
	for _, pod := range cached {
		going[pod.UID] = pod.DeletionTimestamp != nil
	}
	for uid, rv := range p.created {
		if _, there := going[uid]; there || loop.Reached(version, rv) {
			delete(p.created, uid)
		}
	}
	u := Unseen{Creating: len(p.created), Deleting: map[types.UID]bool{}}
	for uid := range p.deleted {
		if g, there := going[uid]; there && !g {
			u.Deleting[uid] = true
		} else {
			delete(p.deleted, uid)
		}
	}
	if len(p.created)+len(p.deleted) == 0 {
		delete(l.keys, k)
	}
	return u
}
