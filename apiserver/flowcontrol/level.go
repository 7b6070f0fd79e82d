package flowcontrol

import (
	"math"
	"sync"
	"time"
)

// Why a request is refused, as the metric apiserver_flowcontrol_rejected_requests_total tells it.
const (
	noSeat    = "concurrency-limit"
	queueFull = "queue-full"
	timedOut  = "time-out"
	cancelled = "cancelled"
)

// guess is how long a request is taken to run until it is known (KEP-1040).
const guess = 3 * time.Millisecond

// level is a priority level at work: its seats, and the requests that have some or wait for some. Safe for concurrent use.
//
// Waiting requests stand in queues. Which queue is served next is decided by fair queueing: virtual time passes for a level as fast
// as each of its active queues would be served if all were served at once, equally; a request begins, virtually, when it came or when
// the one before it in its queue has ended, whichever is later, and ends after its seats times its duration. Whose head ends first is
// next. Time is never read here: callers say what it is.
type level struct {
	name string // set once

	mu sync.Mutex
	// Guarded by mu.
	shape     *Level
	bounds    bounds
	limit     int // seats now, with what is borrowed and lent
	gone      bool
	inUse     int // seats
	waiting   int // requests
	wanted    int // seats of those
	running   line
	queues    []*queue // nil where nobody ever stood
	active    int      // queues with requests that run or wait
	busy      []*queue // queues with requests that wait
	virtual   float64  // seat-seconds
	at        time.Duration
	demand    demand
	seen      seen    // of the last period
	smoothed  float64 // demand
	target    float64
	tallies   map[string]*tally // by schema
	timedout  int
	cancelled int
}

// queue is where the requests of some flows stand in line. Guarded by the level's mu.
type queue struct {
	index   int
	waiting line
	wanted  int     // seats of the waiting
	inUse   int     // seats
	running int     // requests
	end     float64 // in virtual time, of what it was given so far, the running counted by the guess
	begun   float64 // seats × the time at which they were given, of the running, in seconds
	busy    int     // its place in level.busy while something waits
}

// line is requests in the order in which they came.
type line struct {
	first, last *Ticket
	n           int
}

func (l *line) push(t *Ticket) {
	t.prev, t.next = l.last, nil
	if l.last != nil {
		l.last.next = t
	} else {
		l.first = t
	}
	l.last = t
	l.n++
}

func (l *line) remove(t *Ticket) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		l.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		l.last = t.prev
	}
	t.prev, t.next = nil, nil
	l.n--
}

func newLevel(name string, now time.Duration) *level {
	return &level{name: name, at: now, demand: demand{since: now, last: now}, tallies: map[string]*tally{}}
}

// set takes the whole wish for a level: what waits stays where it is, also in queues that are no longer dealt.
func (l *level) set(shape *Level, b bounds, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass(now)
	if l.shape == nil || l.bounds != b {
		l.limit = b.nominal
	}
	l.shape, l.bounds = shape, b
	if n := shape.queues; n > len(l.queues) {
		l.queues = append(l.queues, make([]*queue, n-len(l.queues))...)
	}
	l.dispatch(now)
}

// pass brings virtual time to now; to be called before anything that its speed depends on changes.
func (l *level) pass(now time.Duration) {
	if l.active > 0 {
		l.virtual += (now - l.at).Seconds() * float64(min(l.limit, l.inUse+l.wanted)) / float64(l.active)
	}
	l.at = now
}

// enter gives a request its seats, or a place in a queue: then it has to wait until ready is closed. A reason says that it gets neither.
func (l *level) enter(t *Ticket, now time.Duration) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass(now)
	t.arrived, t.level = now, l
	y := l.tally(t.schema)
	t.tally = y
	switch {
	case l.shape.exempt:
		l.run(t, now)
	case l.shape.queues == 0:
		if !l.fits(t.work.Seats) {
			return l.refuse(t, noSeat, now)
		}
		l.run(t, now)
	default:
		q := l.pick(t.hash)
		t.came = l.virtual
		if l.waiting == 0 && l.fits(t.work.Seats) {
			t.queue = q
			l.run(t, now)
			break
		}
		if q.waiting.n >= l.shape.length {
			return l.refuse(t, queueFull, now)
		}
		t.queue = q
		l.stand(t, now)
		l.dispatch(now)
	}
	return ""
}

// fits says whether there are seats. A request that is wider than the level runs when it has the level for itself.
func (l *level) fits(seats int) bool { return l.inUse+seats <= l.limit || l.inUse == 0 && l.limit > 0 }

func (l *level) refuse(t *Ticket, reason string, now time.Duration) string {
	t.state = ended
	t.tally.refuse(reason, (now - t.arrived).Seconds())
	return reason
}

// pick finds the queue of the flow's hand in which least is to be done before; one that is full only if all are.
func (l *level) pick(hash uint64) *queue {
	var cards [mostHand]int32
	hand := cards[:l.shape.hand]
	deal(hash, l.shape.queues, hand)
	best, least := int32(-1), 0
	for _, card := range hand {
		load := 0
		if q := l.queues[card]; q != nil {
			load = q.wanted + q.inUse
			if q.waiting.n >= l.shape.length {
				load = math.MaxInt
			}
		}
		if best < 0 || load < least {
			best, least = card, load
		}
	}
	q := l.queues[best]
	if q == nil {
		q = &queue{index: int(best)}
		l.queues[best] = q
	}
	return q
}

func (q *queue) idle() bool { return q.waiting.n+q.running == 0 }

// stand puts a request into its queue.
func (l *level) stand(t *Ticket, now time.Duration) {
	q := t.queue
	if q.idle() {
		l.active++
	}
	if q.waiting.n == 0 {
		q.busy = len(l.busy)
		l.busy = append(l.busy, q)
	}
	q.waiting.push(t)
	q.wanted += t.work.Seats
	l.waiting++
	l.wanted += t.work.Seats
	t.state, t.ready = waiting, make(chan struct{})
	t.tally.inQueue++
	t.tally.inQueueSeats += t.work.Seats
	l.demand.set(now, l.inUse+l.wanted)
}

// leaveQueue takes a waiting request out of its queue.
func (l *level) leaveQueue(t *Ticket) {
	q := t.queue
	q.waiting.remove(t)
	q.wanted -= t.work.Seats
	l.waiting--
	l.wanted -= t.work.Seats
	t.tally.inQueue--
	t.tally.inQueueSeats -= t.work.Seats
	if q.waiting.n == 0 {
		last := l.busy[len(l.busy)-1]
		l.busy[q.busy], last.busy = last, q.busy
		l.busy = l.busy[:len(l.busy)-1]
	}
	if q.idle() {
		l.active--
	}
}

// run gives a request, which is in no line, its seats.
func (l *level) run(t *Ticket, now time.Duration) {
	t.state, t.began = running, now
	if q := t.queue; q != nil {
		if q.idle() {
			l.active++
		}
		q.end = max(q.end, t.came-q.beyond(now)) + float64(t.work.Seats)*guess.Seconds()
		q.begun += float64(t.work.Seats) * now.Seconds()
		q.running++
		q.inUse += t.work.Seats
	}
	l.running.push(t)
	l.inUse += t.work.Seats
	t.tally.run(t.work.Seats, (now - t.arrived).Seconds())
	l.demand.set(now, l.inUse+l.wanted)
}

// beyond is what the running requests of a queue have taken beyond the guess so far: a queue of long ones is not to be taken for one of
// short ones until they are over.
func (q *queue) beyond(now time.Duration) float64 {
	return max(0, float64(q.inUse)*(now-guess).Seconds()-q.begun)
}

// dispatch gives seats to those who wait, as long as there are any for the next in line.
func (l *level) dispatch(now time.Duration) {
	for l.waiting > 0 {
		var next *Ticket
		var ends float64
		for _, q := range l.busy {
			t := q.waiting.first
			end := max(q.end+q.beyond(now), t.came) + float64(t.work.Seats)*guess.Seconds()
			if next == nil || end < ends || end == ends && t.arrived < next.arrived {
				next, ends = t, end
			}
		}
		if !l.fits(next.work.Seats) {
			return // nobody passes it: narrow requests would else keep a wide one waiting for ever
		}
		l.leaveQueue(next)
		l.run(next, now)
		close(next.ready)
	}
}

// leave takes the seats of a running request back; any number of times. A request that is over and has caused work for others holds
// the seats for that, and is to be told to go when the time is over.
func (l *level) leave(t *Ticket, over bool, now time.Duration) (later time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.state != running {
		return 0
	}
	t.tally.running--
	t.tally.took.add((now - t.began).Seconds())
	if !over || t.work.Final == 0 || l.shape.exempt {
		l.end(t, now)
		return 0
	}
	l.pass(now)
	l.charge(t, now)
	l.widen(t, t.work.Final-t.work.Seats, now)
	t.work.Seats, t.began, t.state = t.work.Final, now, lingering
	if q := t.queue; q != nil {
		q.begun += float64(t.work.Seats) * now.Seconds()
	}
	l.dispatch(now)
	return t.work.Extra
}

// linger ends what leave began.
func (l *level) linger(t *Ticket, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(t, now)
}

func (l *level) end(t *Ticket, now time.Duration) {
	l.pass(now)
	l.charge(t, now)
	t.state = ended
	l.widen(t, -t.work.Seats, now)
	l.running.remove(t)
	if q := t.queue; q != nil {
		if q.running--; q.idle() {
			l.active--
			q.end, q.begun = 0, 0 // who comes next begins when he comes
		}
	}
	l.dispatch(now)
}

// charge puts what a request took in place of the guess.
func (l *level) charge(t *Ticket, now time.Duration) {
	if q := t.queue; q != nil {
		took := now - t.began
		if t.state == running {
			took -= guess
		}
		q.end += float64(t.work.Seats) * took.Seconds()
		q.begun -= float64(t.work.Seats) * t.began.Seconds()
	}
}

// widen changes how many seats a running request has.
func (l *level) widen(t *Ticket, by int, now time.Duration) {
	l.inUse += by
	if t.queue != nil {
		t.queue.inUse += by
	}
	t.tally.runningSeats += by
	l.demand.set(now, l.inUse+l.wanted)
}

// giveUp takes a request out of its queue, unless it was given its seats meanwhile.
func (l *level) giveUp(t *Ticket, reason string, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.state != waiting {
		return false
	}
	l.pass(now)
	l.leaveQueue(t)
	l.demand.set(now, l.inUse+l.wanted)
	if reason == timedOut {
		l.timedout++
	} else {
		l.cancelled++
	}
	l.refuse(t, reason, now)
	l.dispatch(now) // it may have been the widest, that the others waited for
	return true
}

// period ends a period: what the level wishes for the next.
func (l *level) period(now time.Duration) (w wish, exempt bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = l.demand.end(now)
	l.smoothed = l.seen.smooth(l.smoothed)
	lower := float64(l.bounds.lower)
	if l.shape.exempt { // takes what it needs
		l.target = max(lower, l.seen.most)
		return wish{target: l.target}, true
	}
	lower = max(lower, min(float64(l.bounds.nominal), l.seen.most))
	l.target = max(lower, l.smoothed)
	return wish{lower: lower, upper: float64(l.bounds.upper), target: l.target}, false
}

func (l *level) allow(limit int, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass(now)
	l.limit = limit
	l.dispatch(now)
}

func (l *level) nominal() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bounds.nominal
}

// empty says that nobody runs or waits.
func (l *level) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running.n+l.waiting == 0
}
