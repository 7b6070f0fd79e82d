package handlers

import (
	"context"
	"runtime"
	"time"
)

// turns lets few watches write at a time. A change that a thousand watch wakes them all; if all were ready to run at once, every
// other request, the next write of that object first of all, would stand in line behind them for each of its steps. With
// turns it goes on at once, and the watches that wait meanwhile have more to send when they come back: fewer, fuller writes.
type turns chan struct{}

// stuck is how long a write may take, the client being slow to read, before its turn is passed on.
const stuck = 10 * time.Millisecond

func newTurns() turns { return make(turns, runtime.GOMAXPROCS(0)) }

// turn is one watch's part in turns. Not safe for concurrent use.
type turn struct {
	of    turns
	stuck *time.Timer // passes the turn on
}

func (t turns) join() *turn {
	s := time.AfterFunc(time.Hour, func() { <-t })
	s.Stop()
	return &turn{t, s}
}

// take waits for a turn; give gives it back. Every take that has no error is followed by one give.
func (t *turn) take(ctx context.Context) error {
	select {
	case t.of <- struct{}{}:
	default:
		select {
		case t.of <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t.stuck.Reset(stuck)
	return nil
}

func (t *turn) give() {
	if t.stuck.Stop() {
		<-t.of
	}
}
