package flowcontrol

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"
)

// world runs one level in virtual time: requests come, run for their duration, and leave.
type world struct {
	l       *level
	now     time.Duration
	waiting []*job
	running []*job // by their end
	waits   map[string][]time.Duration
	given   map[string]time.Duration // seats × time, by flow
	refused map[string]int           // by flow and reason
	most    int                      // seats in use at a time
}

type job struct {
	Ticket
	who        string
	lasts, end time.Duration
	then       func() // when it has left
}

func newWorld(shape Level, seats int) *world {
	w := &world{l: newLevel("test", 0), waits: map[string][]time.Duration{}, given: map[string]time.Duration{}, refused: map[string]int{}}
	w.l.set(&shape, bounds{nominal: seats, upper: seats}, 0)
	return w
}

var fairQueues = Level{queues: 64, hand: 6, length: 50}

// come has a request of a flow come now.
func (w *world) come(who string, hash uint64, seats int, lasts time.Duration, then func()) {
	j := &job{who: who, lasts: lasts, then: then}
	j.hash, j.work, j.schema = hash, Work{Seats: seats}, "s"
	if reason := w.l.enter(&j.Ticket, w.now); reason != "" {
		w.refused[who+" "+reason]++
		return
	}
	w.waiting = append(w.waiting, j)
	w.settle()
}

// settle notes who runs by now.
func (w *world) settle() {
	w.waiting = slices.DeleteFunc(w.waiting, func(j *job) bool {
		if j.state != running {
			return false
		}
		j.end = w.now + j.lasts
		w.waits[j.who] = append(w.waits[j.who], w.now-j.arrived)
		w.given[j.who] += time.Duration(j.work.Seats) * j.lasts
		w.running = append(w.running, j)
		return true
	})
	slices.SortStableFunc(w.running, func(a, b *job) int { return cmp.Compare(a.end, b.end) })
	w.most = max(w.most, w.l.inUse)
}

// until lets time pass.
func (w *world) until(at time.Duration) {
	for len(w.running) > 0 && w.running[0].end <= at {
		j := w.running[0]
		w.running = w.running[1:]
		w.now = j.end
		w.l.leave(&j.Ticket, true, w.now)
		w.settle()
		if j.then != nil {
			j.then()
		}
	}
	w.now = at
}

// again has a flow keep one request in the level all the time.
func (w *world) again(who string, hash uint64, seats int, lasts time.Duration) {
	w.come(who, hash, seats, lasts, func() { w.again(who, hash, seats, lasts) })
}

// A flow of many waiting requests does not keep another, that has few, from its share.
func TestFlood(t *testing.T) {
	w := newWorld(fairQueues, 10)
	for range 200 {
		w.again("elephant", 1, 1, 100*time.Millisecond)
	}
	for i := range 100 {
		w.until(time.Duration(i) * 50 * time.Millisecond)
		w.come("mouse", 1<<40+12345, 1, time.Millisecond, nil)
	}
	w.until(time.Minute)
	waits := w.waits["mouse"]
	if len(waits) != 100 || w.refused["mouse queue-full"] > 0 {
		t.Fatalf("the mouse ran %d of 100, refused %v", len(waits), w.refused)
	}
	// Seats are free within the 100 ms that the elephant's take; those of his queues that have had less come first.
	if longest := slices.Max(waits); longest > 150*time.Millisecond {
		t.Errorf("the mouse waited %s", longest)
	}
	if w.most > 10 {
		t.Errorf("%d seats of 10 were in use", w.most)
	}
}

// Flows that always want more get equal parts, by seats and time and not by requests.
func TestEqualParts(t *testing.T) {
	w := newWorld(Level{queues: 4, hand: 1, length: 100}, 12)
	for range 30 {
		w.again("wide", 0, 4, 20*time.Millisecond)
		w.again("long", 1, 1, 200*time.Millisecond)
		w.again("short", 2, 1, 5*time.Millisecond)
	}
	w.until(20 * time.Second)
	all := w.given["wide"] + w.given["long"] + w.given["short"]
	for who, got := range w.given {
		if part := float64(got) / float64(all); part < 0.28 || part > 0.39 {
			t.Errorf("%s got %.2f of the level", who, part)
		}
	}
	if all < 12*20*time.Second*9/10 {
		t.Errorf("only %s of %s were used", all, 12*20*time.Second)
	}
}

// Seats too few for the wide requests of one flow go to another's narrow ones, without waiting for the end of a wide one; but
// wide ones come to their turn among any number of narrow flows.
func TestWideBesideNarrow(t *testing.T) {
	w := newWorld(Level{queues: 64, hand: 1, length: 50}, 17)
	for range 20 {
		w.again("wide", 0, 8, 400*time.Millisecond)
	}
	for i := range 100 {
		w.until(time.Duration(i) * 70 * time.Millisecond)
		w.come("narrow", 1, 1, 10*time.Millisecond, nil)
	}
	w.until(time.Minute)
	late := 0
	for _, waited := range w.waits["narrow"] {
		if waited > 0 {
			late++
		}
	}
	if late > 5 {
		t.Errorf("%d of %d narrow requests waited beside a free seat", late, len(w.waits["narrow"]))
	}
	w = newWorld(Level{queues: 64, hand: 1, length: 50}, 17)
	for i := range 40 {
		for range 3 {
			w.again("narrow", uint64(i), 1, 10*time.Millisecond)
		}
	}
	for range 5 {
		w.again("wide", 50, 8, 10*time.Millisecond)
	}
	w.until(20 * time.Second)
	if n := len(w.waits["wide"]); n < 15 {
		t.Errorf("%d wide requests ran", n)
	}
}

// A flow that was quiet has no claim to make up for it.
func TestNoCredit(t *testing.T) {
	w := newWorld(Level{queues: 4, hand: 1, length: 100}, 4)
	for range 20 {
		w.again("steady", 0, 1, 10*time.Millisecond)
	}
	w.until(10 * time.Second)
	before := w.given["steady"]
	for range 50 {
		w.again("late", 1, 1, 10*time.Millisecond)
	}
	w.until(11 * time.Second)
	if got := w.given["steady"] - before; got < 1800*time.Millisecond {
		t.Errorf("within the second after, the steady flow got %s of 4s", got)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(Level{}, 2)
	for range 3 {
		w.come("a", 1, 1, time.Second, nil)
	}
	if fmt.Sprint(w.refused) != "map[a concurrency-limit:1]" {
		t.Errorf("no queues: %v", w.refused)
	}
	w = newWorld(Level{queues: 2, hand: 1, length: 3}, 2)
	for range 10 {
		w.come("a", 0, 1, time.Second, nil)
	}
	w.come("b", 1, 1, time.Second, nil)
	if fmt.Sprint(w.refused, w.l.waiting, w.l.active, len(w.l.busy)) != "map[a queue-full:5] 4 2 2" {
		t.Errorf("queues of three: %v, %d wait, %d active, %d busy", w.refused, w.l.waiting, w.l.active, len(w.l.busy))
	}
	w = newWorld(Level{exempt: true}, 0)
	for range 100 {
		w.come("a", 0, 10, time.Second, nil)
	}
	if len(w.refused) > 0 || len(w.running) != 100 {
		t.Errorf("exempt: %v", w.refused)
	}
	w = newWorld(fairQueues, 3)
	w.come("wide", 0, 10, time.Second, nil)
	w.come("narrow", 0, 1, time.Second, nil)
	if len(w.running) != 1 || w.l.waiting != 1 {
		t.Errorf("wider than the level: %d run, %d wait", len(w.running), w.l.waiting)
	}
	w = newWorld(fairQueues, 0)
	w.come("nobody", 0, 1, time.Second, nil)
	if w.l.waiting != 1 {
		t.Error("a level without seats ran a request")
	}
}

// Whoever gives up leaves the others as they were, and makes room for those behind him.
func TestGiveUp(t *testing.T) {
	w := newWorld(Level{queues: 1, hand: 1, length: 10}, 2)
	w.come("a", 0, 1, time.Second, nil)
	w.come("wide", 0, 2, time.Second, nil)
	w.come("b", 0, 1, time.Second, nil)
	wide := w.waiting[0]
	if !w.l.giveUp(&wide.Ticket, timedOut, w.now) || w.l.giveUp(&wide.Ticket, timedOut, w.now) {
		t.Error("giving up works once")
	}
	w.settle()
	if len(w.running) != 2 || w.l.waiting != 0 || w.l.timedout != 1 || w.l.inUse != 2 {
		t.Errorf("%d run, %d wait, %d seats", len(w.running), w.l.waiting, w.l.inUse)
	}
	if w.l.giveUp(&w.running[1].Ticket, cancelled, w.now) {
		t.Error("a running request gave up its place in a queue")
	}
	w.until(time.Minute)
	if w.l.inUse != 0 || w.l.active != 0 || w.l.running.n != 0 || !w.l.empty() {
		t.Errorf("something is left: %+v", w.l)
	}
}

// Leaving and lending any number of times, in any order, counts once.
func TestLeave(t *testing.T) {
	l := newLevel("test", 0)
	shape := fairQueues
	l.set(&shape, bounds{nominal: 10, upper: 10}, 0)
	j := &Ticket{work: Work{Seats: 2, Final: 5, Extra: 20 * time.Millisecond}, schema: "s"}
	if l.enter(j, 0) != "" || l.inUse != 2 {
		t.Fatalf("%d seats", l.inUse)
	}
	l.leave(j, false, 1) // lends
	l.leave(j, false, 2)
	if l.inUse != 0 || l.active != 0 {
		t.Errorf("lent: %d seats, %d active", l.inUse, l.active)
	}
	if l.enter(j, 3) != "" || l.inUse != 2 {
		t.Errorf("again: %d seats", l.inUse)
	}
	if later := l.leave(j, true, 4); later != 20*time.Millisecond || l.inUse != 5 || l.leave(j, true, 5) != 0 {
		t.Errorf("over: %s later, %d seats", later, l.inUse)
	}
	if l.linger(j, 6); l.inUse != 0 || l.active != 0 || !l.empty() {
		t.Errorf("gone: %d seats", l.inUse)
	}
}

// Fewer queues than before: who waits in those that are gone is served.
func TestFewerQueues(t *testing.T) {
	w := newWorld(Level{queues: 8, hand: 1, length: 10}, 1)
	for i := range 8 {
		w.come(fmt.Sprint(i), uint64(i), 1, time.Second, nil)
	}
	for _, shape := range []Level{{queues: 2, hand: 1, length: 10}, {}} { // the second refuses
		w.l.set(&shape, bounds{nominal: 1, upper: 1}, w.now)
		w.until(w.now + 3*time.Second)
	}
	w.come("new", 7, 1, time.Second, nil)
	if w.refused["new concurrency-limit"] != 1 {
		t.Errorf("refused: %v", w.refused)
	}
	w.until(time.Minute)
	if len(w.waits) != 8 || !w.l.empty() {
		t.Errorf("%d of 8 ran", len(w.waits))
	}
}

func TestLimitGrows(t *testing.T) {
	w := newWorld(fairQueues, 1)
	for range 3 {
		w.come("a", 0, 1, time.Second, nil)
	}
	w.l.allow(3, w.now)
	if w.settle(); len(w.running) != 3 {
		t.Errorf("%d run", len(w.running))
	}
}
