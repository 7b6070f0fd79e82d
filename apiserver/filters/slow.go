package filters

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"pilothouse.dev/apiserver/flowcontrol"
)

const (
	// patience is how long a client may keep a request waiting before the request's seats are given to others.
	patience = 50 * time.Millisecond
	// atOnce is how much a handler writes before a slow client can stop it: the least that net/http holds back until the handler is done.
	atOnce = 2 << 10
	// Beyond its deadline, a client has this long to take what is written already, or to hear that it was too slow.
	grace = time.Second
)

// client is who asks, where he may be slow: he sends his body, and takes the answer. While he keeps a request waiting it has no seats, so that he
// costs nobody else; and he does so no longer than the request may take. A watch, which may take for ever, is not stopped for longer than
// any other request may take.
type client struct {
	http.ResponseWriter
	ticket flowcontrol.Ticket
	r      *http.Request
	body   io.ReadCloser // of the request; nil when it has none
	wrote  int
	limit  time.Duration // for one wait; 0: until deadline
	until  time.Time     // zero for watches

	timer *time.Timer // runs while the handler waits; nil before it first does

	mu    sync.Mutex
	waits waiting // guarded by mu
	lent  bool    // guarded by mu; the wait is so long that the seats were lent
}

// waiting is what a handler waits for.
type waiting uint8

const (
	notWaiting waiting = iota
	forBody
	forReader
)

func clientOf(w http.ResponseWriter, r *http.Request, most time.Duration) *client {
	c := &client{ResponseWriter: w, r: r}
	if until, ok := r.Context().Deadline(); ok {
		c.until = until.Add(grace)
	} else {
		c.limit = most
	}
	if r.Body != nil && r.Body != http.NoBody {
		c.body = r.Body
	}
	return c
}

// serve has next answer the client.
func (c *client) serve(next http.Handler) {
	if c.body != nil {
		c.r.Body = slowBody{c}
	}
	if c.r.ProtoMajor == 1 {
		// The connection is the request's alone, and its deadlines cost nothing. What is left to write when the handler is done is under them, too.
		c.deadlines(c.until)
	}
	next.ServeHTTP(c, c.r)
}

// unhurried takes away the deadlines that an earlier request has set on the connection.
func unhurried(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		(&client{ResponseWriter: w}).deadlines(time.Time{})
	}
}

// deadlines are for reading and writing; none when at is zero. A response that is kept in memory has none.
func (c *client) deadlines(at time.Time) {
	ctl := http.NewResponseController(c.ResponseWriter)
	_ = ctl.SetReadDeadline(at)
	_ = ctl.SetWriteDeadline(at)
}

// begin notes that the handler will wait for the client.
func (c *client) begin(what waiting) {
	c.mu.Lock()
	c.waits = what
	c.mu.Unlock()
	if c.timer == nil {
		c.timer = time.AfterFunc(patience, c.late)
	} else {
		c.timer.Reset(patience)
	}
}

// late is called when the handler has waited for a while.
func (c *client) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits == notWaiting || c.lent {
		return
	}
	c.lent = true
	c.ticket.Lend()
	if c.r.ProtoMajor == 1 && c.limit == 0 {
		return // has its deadlines
	}
	at := c.until
	if c.limit > 0 {
		at = time.Now().Add(c.limit)
	}
	ctl := http.NewResponseController(c.ResponseWriter)
	if c.waits == forBody {
		_ = ctl.SetReadDeadline(at) // a response in memory has none
	} else {
		_ = ctl.SetWriteDeadline(at)
	}
}

// end notes that the handler waits no more, and says whether the seats were lent.
func (c *client) end() bool {
	c.timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	lent := c.lent
	if lent && c.limit > 0 && c.waits == forReader {
		_ = http.NewResponseController(c.ResponseWriter).SetWriteDeadline(time.Time{}) // the next wait has its own
	}
	c.waits, c.lent = notWaiting, false
	return lent
}

// Write is an http.ResponseWriter's. When the reader was slow, the seats do not come back: what there was to do is done.
func (c *client) Write(b []byte) (int, error) {
	if c.wrote += len(b); c.wrote <= atOnce {
		return c.ResponseWriter.Write(b)
	}
	c.begin(forReader)
	n, err := c.ResponseWriter.Write(b)
	c.end()
	return n, err
}

// FlushError is what http.ResponseController looks for.
func (c *client) FlushError() error {
	c.begin(forReader)
	err := http.NewResponseController(c.ResponseWriter).Flush()
	c.end()
	return err
}

// Unwrap lets http.ResponseController find the real writer.
func (c *client) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// slowBody is the request's body.
type slowBody struct{ c *client }

func (s slowBody) Read(b []byte) (int, error) {
	c := s.c
	c.begin(forBody)
	n, err := c.body.Read(b)
	if c.end() {
		if full := c.again(); full != nil {
			return n, full
		}
	}
	return n, err
}

func (s slowBody) Close() error { return s.c.body.Close() }

// again asks for the seats that were lent while the body was awaited.
func (c *client) again() error {
	ctx := c.r.Context()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.ticket.Again(ctx); err != nil {
		return refusal(err.Error())
	}
	return nil
}
