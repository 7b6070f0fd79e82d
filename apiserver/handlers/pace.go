package handlers

import (
	"context"
	"net/http"
	"runtime"
	"sync/atomic"
)

// longList is how many objects make a list one that has to take turns.
const longList = 100

// pace lets few long lists be made at a time, a piece of one and a piece of the next: half as many as there are processors. A flood of
// lists would else keep all processors busy, and then nobody looks at what comes from the network until the scheduler's monitor
// does, every 10 ms: a get, which takes a tenth of a millisecond, would wait for that at each of its steps. A client that
// does not read loses its turn, as a watch's does.
type pace struct {
	turns turns
	lists atomic.Int32 // being made
}

func newPace() *pace { return &pace{turns: make(turns, max(1, runtime.GOMAXPROCS(0)/2))} }

// begin waits for a turn; w is then to be written to instead, and end to be called. alone says that no other long list is being made:
// this one may use more than one processor.
func (p *pace) begin(ctx context.Context, w http.ResponseWriter) (paced *pacedWriter, alone bool, err error) {
	alone = p.lists.Add(1) == 1
	paced = &pacedWriter{w, ctx, p, p.turns.join()}
	if err := paced.turn.take(ctx); err != nil {
		p.lists.Add(-1)
		return nil, false, err
	}
	return paced, alone, nil
}

// pacedWriter gives its turn to another list after each write.
type pacedWriter struct {
	http.ResponseWriter
	ctx  context.Context // of the request
	pace *pace
	turn *turn // nil when the request was given up while waiting for one
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	n, err := p.ResponseWriter.Write(b)
	if err != nil || p.turn == nil || p.pace.lists.Load() == 1 {
		return n, err
	}
	p.turn.give()
	if err := p.turn.take(p.ctx); err != nil {
		p.turn = nil
		return n, err
	}
	return n, nil
}

func (p *pacedWriter) end() {
	if p.turn != nil {
		p.turn.give()
	}
	p.pace.lists.Add(-1)
}

// Unwrap lets http.ResponseController find the real writer.
func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }
