package queue

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

// The clock of the queue.
const (
	firstBackoff = 1 * time.Second
	maxBackoff   = 10 * time.Second
	maxWait      = 5 * time.Minute // a waiting pod is tried again after so long, whatever happened
)

// Rules is what the queue asks of the plugins.
type Rules interface {
	PreEnqueue(p *nodeinfo.Pod) *framework.Status
	Helps(plugin string, p *nodeinfo.Pod, e framework.Event) bool
}

// Queue is safe for concurrent use; Pop is for one goroutine.
type Queue struct {
	rules Rules
	wake  chan struct{} // one slot: something became active or earlier due

	mu sync.Mutex

	// Guarded by mu. INVARIANT: every item of pods is in exactly one of active, backing, waiting or flight, as its place says.
	pods    map[types.UID]*Item
	active  heap
	backing heap
	waiting map[types.UID]*Item
	flight  map[types.UID]*Item
	hearing map[types.UID]*Item // those in flight for which events are kept
	events  journal
	arrived uint64    // numbers items by age
	sweep   time.Time // when to look for pods that have waited too long
}

// New makes an empty queue.
func New(rules Rules) *Queue {
	return &Queue{
		rules:   rules,
		wake:    make(chan struct{}, 1),
		pods:    map[types.UID]*Item{},
		active:  heap{before: moreUrgent},
		backing: heap{before: dueEarlier},
		waiting: map[types.UID]*Item{},
		flight:  map[types.UID]*Item{},
		hearing: map[types.UID]*Item{},
	}
}

type place int

const (
	inActive place = iota
	inBacking
	inWaiting
	inFlight
)

// Item is a pod in the queue. Who popped it may read Pod, Attempts and Since until the trip has ended.
type Item struct {
	Pod      *nodeinfo.Pod
	Attempts int       // trips begun
	Since    time.Time // first seen

	// Owned by the queue.
	place     place
	index     int    // in its heap
	age       uint64 // lower: seen earlier
	due       time.Time
	parkedAt  time.Time
	gated     bool
	rejectors []string // the plugins that refused it last; none: nobody knows
	latest    *nodeinfo.Pod
	helped    bool          // in flight: its own update may help
	deleted   bool          // in flight: drop it afterwards
	gone      chan struct{} // in flight, when somebody asked: closed when it is deleted
	poppedAt  uint64
}

// Set adds a pod, or brings what is known of it up to date.
func (q *Queue) Set(p *nodeinfo.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.pods[p.UID]
	if !ok {
		q.arrived++
		it = &Item{Pod: p, Since: time.Now(), age: q.arrived}
		q.pods[p.UID] = it
		q.admitLocked(it)
		return
	}
	changed := matters(it, p)
	switch it.place {
	case inFlight:
		it.latest, it.helped, it.deleted = p, it.helped || changed, false
	case inWaiting:
		it.Pod = p
		if it.gated {
			delete(q.waiting, p.UID)
			q.admitLocked(it)
		} else if changed && q.helpsLocked(it, framework.Event{Kind: framework.WaiterUpdated, Pod: p}) {
			q.moveLocked(it)
		}
	default:
		h := q.heapOf(it)
		h.remove(it.index)
		it.Pod = p
		h.push(it)
	}
}

// matters says whether a pod differs from what was known of it in something by which it is placed. Status does not count, or
// our own note that it is unschedulable would wake it.
func matters(it *Item, p *nodeinfo.Pod) bool {
	was := it.Pod
	if it.latest != nil {
		was = it.latest
	}
	return !equality.Semantic.DeepEqual(was.Spec, p.Spec) || !equality.Semantic.DeepEqual(was.Labels, p.Labels)
}

// Delete forgets a pod: it is gone, has a node, or is not ours.
func (q *Queue) Delete(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.pods[uid]
	if !ok {
		return
	}
	switch it.place {
	case inFlight:
		if it.gone != nil {
			close(it.gone)
			it.gone = nil
		}
		it.deleted = true
		return
	case inWaiting:
		delete(q.waiting, uid)
	default:
		q.heapOf(it).remove(it.index)
	}
	delete(q.pods, uid)
}

// Pop waits for the next pod and takes it in flight; its trip must end with Done, Park or Retry. The error is that of ctx.
func (q *Queue) Pop(ctx context.Context) (*Item, error) {
	for {
		it, wait := q.next()
		if it != nil {
			return it, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-q.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// next takes the most urgent active pod, or says when to ask again.
func (q *Queue) next() (*Item, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for q.backing.len() > 0 && !q.backing.top().due.After(now) {
		q.activateLocked(q.backing.pop())
	}
	if !q.sweep.After(now) {
		q.sweep = now.Add(q.overdueLocked(now))
	}
	if q.active.len() == 0 {
		wait := q.sweep.Sub(now)
		if q.backing.len() > 0 {
			wait = min(wait, q.backing.top().due.Sub(now))
		}
		return nil, wait
	}
	it := q.active.pop()
	it.place = inFlight
	it.Attempts++
	it.latest, it.helped, it.deleted, it.gone = nil, false, false, nil
	it.poppedAt = q.events.next()
	q.flight[it.Pod.UID], q.hearing[it.Pod.UID] = it, it
	return it, 0
}

// overdueLocked activates pods that have waited too long and says when the next one will have.
func (q *Queue) overdueLocked(now time.Time) time.Duration {
	next := maxWait
	for uid, it := range q.waiting {
		if it.gated {
			continue
		}
		if left := it.parkedAt.Add(maxWait).Sub(now); left > 0 {
			next = min(next, left)
			continue
		}
		delete(q.waiting, uid)
		q.activateLocked(it)
	}
	return next
}

// Done ends a trip that gave the pod its node, or found that it needs none.
func (q *Queue) Done(it *Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.landLocked(it)
	delete(q.pods, it.Pod.UID)
}

// Park ends a trip on which these plugins refused the pod: it waits until something happens that may help, or backs off if
// that happened already.
func (q *Queue) Park(it *Item, rejectors []string) {
	q.end(it, rejectors, func() bool {
		return it.helped || q.hearing[it.Pod.UID] != it || q.events.since(it.poppedAt, func(e framework.Event) bool { return q.helpsLocked(it, e) })
	})
}

// Retry ends a trip that failed for another reason than the pod itself: it backs off.
func (q *Queue) Retry(it *Item) {
	q.end(it, nil, func() bool { return true })
}

func (q *Queue) end(it *Item, rejectors []string, again func() bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.rejectors = rejectors
	if it.latest != nil {
		it.Pod = it.latest
	}
	retry := again()
	q.landLocked(it)
	if it.deleted {
		delete(q.pods, it.Pod.UID)
		return
	}
	now := time.Now()
	it.parkedAt, it.due = now, now.Add(backoff(it.Attempts))
	if q.gateLocked(it) {
		return
	}
	if retry {
		q.backOffLocked(it)
		return
	}
	it.place = inWaiting
	q.waiting[it.Pod.UID] = it
}

// Gone is closed when a pod in flight is deleted, or has got a node: its trip need not go on. To be called once a trip, by one that may
// take minutes and ends with Done or Retry: no events are kept for it from now on.
func (q *Queue) Gone(it *Item) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deafenLocked(it)
	it.gone = make(chan struct{})
	if it.deleted {
		close(it.gone)
	}
	return it.gone
}

// landLocked takes a pod out of the air.
func (q *Queue) landLocked(it *Item) {
	delete(q.flight, it.Pod.UID)
	q.deafenLocked(it)
}

// deafenLocked forgets the events that only this pod had still to hear of.
func (q *Queue) deafenLocked(it *Item) {
	delete(q.hearing, it.Pod.UID)
	if len(q.events.events) == 0 {
		return
	}
	oldest := q.events.next()
	for _, other := range q.hearing {
		oldest = min(oldest, other.poppedAt)
	}
	q.events.forget(oldest)
}

// Event tells of something that may make waiting pods schedulable. Tell the cache first.
func (q *Queue) Event(e framework.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.hearing) > 0 {
		q.events.add(e)
	}
	for _, it := range q.waiting {
		if !it.gated && q.helpsLocked(it, e) {
			q.moveLocked(it)
		}
	}
}

// moveLocked wakes a waiting pod: it becomes active, or backs off for what is left of its backoff.
func (q *Queue) moveLocked(it *Item) {
	delete(q.waiting, it.Pod.UID)
	if it.due.After(time.Now()) {
		q.backOffLocked(it)
		return
	}
	q.activateLocked(it)
}

// admitLocked lets a pod that is in no place in, unless a plugin bars the door.
func (q *Queue) admitLocked(it *Item) {
	if !q.gateLocked(it) {
		q.activateLocked(it)
	}
}

func (q *Queue) gateLocked(it *Item) bool {
	if it.gated = q.rules.PreEnqueue(it.Pod) != nil; it.gated {
		it.place = inWaiting
		q.waiting[it.Pod.UID] = it
	}
	return it.gated
}

func (q *Queue) activateLocked(it *Item) {
	it.place = inActive
	q.active.push(it)
	q.signal()
}

func (q *Queue) backOffLocked(it *Item) {
	it.place = inBacking
	q.backing.push(it)
	q.signal()
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *Queue) heapOf(it *Item) *heap {
	if it.place == inActive {
		return &q.active
	}
	return &q.backing
}

func backoff(attempts int) time.Duration {
	d := firstBackoff
	for i := 1; i < attempts && d < maxBackoff; i++ {
		d *= 2
	}
	return min(d, maxBackoff)
}

// Counts is how many pods are where.
type Counts struct{ Active, Backing, Waiting, Gated, InFlight int }

// Counts tells how many pods are where.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := Counts{Active: q.active.len(), Backing: q.backing.len(), InFlight: len(q.flight)}
	for _, it := range q.waiting {
		if it.gated {
			c.Gated++
		} else {
			c.Waiting++
		}
	}
	return c
}
