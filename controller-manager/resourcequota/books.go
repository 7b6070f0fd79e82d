package resourcequota

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/quota"
)

// settle is how long after a quota was charged the object may still come: longer than a request may take.
const settle = 70 * time.Second

// books is what is remembered of quotas: what they were charged lately, and what was seen to go and is not given back yet. Safe for
// concurrent use.
type books struct {
	mu         sync.Mutex
	by         map[string]map[string]*book // guarded by mu: by namespace and name
	writtenOff map[types.UID]bool          // guarded by mu: pods that are there and count no more since their time has passed
}

type book struct {
	since   time.Time // charges are known from then on; zero: from the beginning
	charges []charge  // the oldest first
	gone    corev1.ResourceList
	added   bool // something was made in its namespace
}

// charge is what was charged within a second.
type charge struct {
	at   time.Time
	what corev1.ResourceList
}

func newBooks() *books {
	return &books{by: map[string]map[string]*book{}, writtenOff: map[types.UID]bool{}}
}

// open begins a quota's book. Of a fresh one, which has never been reckoned, nobody was charged before.
func (b *books) open(k loop.Key, fresh bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by[k.Namespace] == nil {
		b.by[k.Namespace] = map[string]*book{}
	}
	n := &book{since: now}
	if fresh {
		n.since = time.Time{}
	}
	b.by[k.Namespace][k.Name] = n
}

func (b *books) close(k loop.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.by[k.Namespace], k.Name)
	if len(b.by[k.Namespace]) == 0 {
		delete(b.by, k.Namespace)
	}
}

// has says whether a namespace has quotas.
func (b *books) has(namespace string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.by[namespace]) > 0
}

// raised notes what a quota says is used more than before.
func (b *books) raised(k loop.Key, more corev1.ResourceList, now time.Time) {
	if len(more) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.by[k.Namespace][k.Name]
	if n == nil {
		return
	}
	if last := len(n.charges) - 1; last >= 0 && now.Sub(n.charges[last].at) < time.Second {
		n.charges[last].what = quota.Add(n.charges[last].what, more)
		return
	}
	n.charges = append(n.charges, charge{now, more})
}

// freed notes what of a quota somebody was seen to use no more.
func (b *books) freed(k loop.Key, less corev1.ResourceList) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.by[k.Namespace][k.Name]; n != nil {
		n.gone = quota.Add(n.gone, less)
	}
}

// returned notes that what was seen to go is given back.
func (b *books) returned(k loop.Key, what corev1.ResourceList) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.by[k.Namespace][k.Name]; n != nil {
		n.gone = quota.Positive(quota.Less(n.gone, what))
	}
}

// account is what the book of a quota says at a moment.
type account struct {
	gone    corev1.ResourceList // may be given back at once
	lately  corev1.ResourceList // was charged lately; what is there may not have it yet
	unknown bool                // what was charged lately is not known
	until   time.Time           // then that is settled; zero when it is
}

// read is the account at a moment. A quota without a book has one of which nothing is known.
func (b *books) read(k loop.Key, now time.Time) account {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.by[k.Namespace][k.Name]
	if n == nil {
		return account{unknown: true, until: now.Add(settle)}
	}
	for len(n.charges) > 0 && now.Sub(n.charges[0].at) > settle+time.Second {
		n.charges = n.charges[1:]
	}
	a := account{gone: quota.Add(n.gone, nil)}
	for _, c := range n.charges {
		a.lately = quota.Add(a.lately, c.what)
		a.until = c.at.Add(settle + 2*time.Second)
	}
	if known := n.since.Add(settle); !n.since.IsZero() && now.Before(known) {
		a.unknown = true
		if known.After(a.until) {
			a.until = known
		}
	}
	return a
}

// added notes that something was made in a namespace.
func (b *books) added(namespace string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.by[namespace] {
		n.added = true
	}
}

// takeAdded returns the quotas in whose namespaces something was made since it was last called.
func (b *books) takeAdded() []loop.Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []loop.Key
	for ns, quotas := range b.by {
		for name, n := range quotas {
			if n.added {
				n.added = false
				keys = append(keys, loop.Key{Namespace: ns, Name: name})
			}
		}
	}
	return keys
}

func (b *books) isWrittenOff(pod types.UID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writtenOff[pod]
}

// writeOff notes that a pod counts no more, and says whether that is new.
func (b *books) writeOff(pod types.UID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writtenOff[pod] {
		return false
	}
	b.writtenOff[pod] = true
	return true
}

func (b *books) forget(pod types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.writtenOff, pod)
}
