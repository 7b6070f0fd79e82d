package plugins

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/quota"
)

// ledger charges quotas, each by one writer of this process at a time: who comes while a quota is being written waits, and the next
// write takes along all who wait. So a quota is written as often as etcd can, and not as often as objects are made. Between several
// servers the write itself decides: it is made upon the state it was decided on, or decided anew.
type ledger struct {
	change ChangeQuota

	mu    sync.Mutex
	pages map[account]*page // guarded by mu: of the quotas that are being written
}

// account names a quota.
type account struct{ namespace, name string }

type page struct{ waiting []*entry } // guarded by ledger.mu

// entry is what one write charges or gives back.
type entry struct {
	resource  quota.Meter
	need      corev1.ResourceList // to be charged
	back      corev1.ResourceList // to be given back
	uid       types.UID           // of the quota that back was charged to; the one that was charged
	unbounded bool                // charge beyond the bounds too
	dry       bool                // only ask

	taken corev1.ResourceList // what was charged
	err   error               // of the decision
	turn  chan struct{}       // closed when the entry is decided, or is to write
	done  bool                // it is decided
}

// refusal is why a quota does not take a charge.
type refusal string

func (r refusal) Error() string { return string(r) }

// ledgerLimit bounds one write of a quota: who waits for it must not wait for ever.
const ledgerLimit = 10 * time.Second

func newLedger(change ChangeQuota) *ledger {
	return &ledger{change: change, pages: map[account]*page{}}
}

// enter returns when the entry was written, or refused by the newest state of the quota. A quota that is gone takes everything and
// charges nothing. It outlives ctx by the time of two writes at most: what is decided must be known, to be given back.
func (l *ledger) enter(ctx context.Context, at account, e *entry) error {
	e.turn = make(chan struct{})
	l.mu.Lock()
	p, busy := l.pages[at]
	if !busy {
		p = &page{}
		l.pages[at] = p
	}
	p.waiting = append(p.waiting, e)
	l.mu.Unlock()
	if busy {
		<-e.turn
		if e.done {
			return e.err
		}
	}
	// This entry's turn to write, for all who wait.
	l.mu.Lock()
	batch := p.waiting
	p.waiting = nil
	l.mu.Unlock()
	defer l.handOver(at, p, e, batch)
	l.write(ctx, at, batch)
	return e.err
}

// handOver lets the next one write, and tells the others of e's batch what became of them.
func (l *ledger) handOver(at account, p *page, e *entry, batch []*entry) {
	l.mu.Lock()
	if len(p.waiting) == 0 {
		delete(l.pages, at)
	} else {
		close(p.waiting[0].turn)
	}
	l.mu.Unlock()
	for _, other := range batch {
		if other != e {
			other.done = true
			close(other.turn)
		}
	}
}

// errUndecided stays when a write ended by a panic.
var errUndecided = errors.New("the write was not decided")

// write decides all entries in one write of the quota.
func (l *ledger) write(ctx context.Context, at account, batch []*entry) {
	for _, e := range batch {
		e.err = errUndecided
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledgerLimit)
	defer cancel()
	err := l.change(ctx, at.namespace, at.name, func(q *corev1.ResourceQuota) { q.Status.Used = decide(q, batch) })
	if err == nil {
		return
	}
	if apierrors.IsNotFound(err) {
		err = nil
	}
	for _, e := range batch {
		e.taken, e.err = nil, err
	}
}

// decide sets what becomes of each entry, and returns what is used after those that are taken. What is given back comes first, so
// that others find room.
func decide(q *corev1.ResourceQuota, batch []*entry) corev1.ResourceList {
	used := q.Status.Used
	for _, e := range batch {
		if e.back != nil && e.uid == q.UID {
			used = quota.Less(used, e.back)
		}
	}
	for _, e := range batch {
		e.taken, e.err = nil, nil
		if e.back != nil {
			continue
		}
		e.uid = q.UID
		sum, need, err := charged(q, used, e)
		if e.err = err; err != nil || e.dry {
			continue
		}
		used, e.taken = sum, need
	}
	return used
}

// charged is what would be used with the entry, and what of it the quota counts.
func charged(q *corev1.ResourceQuota, used corev1.ResourceList, e *entry) (sum, need corev1.ResourceList, err error) {
	names := e.resource.Names(q.Status.Hard)
	for _, name := range names {
		if _, known := used[name]; !known {
			return nil, nil, refusal(fmt.Sprintf("status unknown for quota: %s, resources: %s", q.Name, quota.Join(names)))
		}
	}
	need = quota.Only(e.need, names)
	sum = quota.Add(used, need)
	if e.unbounded {
		return sum, need, nil
	}
	if over := quota.Beyond(quota.Only(sum, keys(need)), q.Status.Hard); len(over) > 0 {
		return nil, nil, refusal(fmt.Sprintf("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
			quota.Text(quota.Only(need, over)), quota.Text(quota.Only(used, over)), quota.Text(quota.Only(q.Status.Hard, over))))
	}
	return sum, need, nil
}
