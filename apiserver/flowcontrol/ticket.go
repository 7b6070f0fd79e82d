package flowcontrol

import (
	"context"
	"time"

	"pilothouse.dev/apiserver/request"
)

// Ticket is one request at the gate. The zero value is ready for Enter; it is used once at a time, and must not be copied.
type Ticket struct {
	gate *Gate
	user *request.User
	info *request.Info

	schema string
	flow   string // distinguishes it
	hash   uint64
	work   Work

	// Guarded by the level's mu once it has entered.
	level      *level
	tally      *tally
	queue      *queue // nil where there are none
	state      state
	arrived    time.Duration
	began      time.Duration
	came       float64       // in virtual time
	ready      chan struct{} // closed when it runs; nil when it never waited
	prev, next *Ticket
}

type state uint8

const (
	ended state = iota
	waiting
	running
	lingering // over, but what it caused is not
)

// Leave gives the seats back: the request is over, or needs them no longer. Any number of times, from any goroutine.
func (t *Ticket) Leave() {
	if t.level == nil {
		return
	}
	if later := t.level.leave(t, true, t.gate.now()); later > 0 {
		time.AfterFunc(later, func() { t.level.linger(t, t.gate.now()) })
	}
}

// Lend gives the seats back for as long as the request can do nothing: it waits for its client. From any goroutine.
func (t *Ticket) Lend() {
	if t.level != nil {
		t.level.leave(t, false, t.gate.now())
	}
}

// Again asks once more for seats that were lent, as one who has just come. Errors are those of Gate.Enter.
func (t *Ticket) Again(ctx context.Context) error {
	if t.level == nil {
		return nil
	}
	return t.gate.admit(ctx, t, t.level)
}
