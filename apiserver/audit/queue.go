package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Modes in which a sink is fed, by the names of the flags.
const (
	Batch    = "batch"           // events wait in a buffer; requests never wait
	Blocking = "blocking"        // a request waits until its event is written, or the sink is known to be stuck
	Strict   = "blocking-strict" // as long as it takes; a request whose first event is not written is refused
)

// Modes are all of them.
var Modes = []string{Batch, Blocking, Strict}

const (
	patience  = time.Second // how long a blocking write may take before the sink is stuck
	mostBytes = 64 << 20    // of objects in a buffer, beside the number of events
	mostAtA   = 512         // events taken at a time while requests wait for them
	quiet     = 10 * time.Second
)

// Version is the only one of the events there is.
const Version = "audit.k8s.io/v1"

// Buffering is how a sink is fed.
type Buffering struct {
	Version  string
	Mode     string
	Size     int           // events that wait at most
	Max      int           // events that are written at a time
	Wait     time.Duration // how long to wait for more of them
	Throttle bool
	QPS      float64 // writes a second
	Burst    int
}

func (b Buffering) validate(flag string) error {
	switch {
	case b.Version != Version:
		return fmt.Errorf("--%s-version %q: want %s", flag, b.Version, Version)
	case !slices.Contains(Modes, b.Mode):
		return fmt.Errorf("--%s-mode %q: want one of %v", flag, b.Mode, Modes)
	case b.Size < 1:
		return fmt.Errorf("--%s-batch-buffer-size %d: must be greater than zero", flag, b.Size)
	case b.Max < 1:
		return fmt.Errorf("--%s-batch-max-size %d: must be greater than zero", flag, b.Max)
	case b.Wait < 0:
		return fmt.Errorf("--%s-batch-max-wait %v: must not be negative", flag, b.Wait)
	case b.Throttle && b.QPS <= 0:
		return fmt.Errorf("--%s-batch-throttle-qps %v: must be greater than zero when throttling is on", flag, b.QPS)
	case b.Throttle && b.Burst <= 0:
		return fmt.Errorf("--%s-batch-throttle-burst %d: must be greater than zero when throttling is on", flag, b.Burst)
	}
	return nil
}

// sink is where events end. It is used by one goroutine.
type sink interface {
	// write takes encoded events in order and says how many it has taken. It should return when ctx ends.
	write(ctx context.Context, events [][]byte) (taken int, err error)
	close() error
}

var (
	errFull   = errors.New("the buffer is full")
	errClosed = errors.New("the server is stopping")
)

// queue feeds one sink. put is safe for concurrent use; run is called once.
type queue struct {
	name    string
	cfg     Buffering
	encode  func(*auditv1.Event) ([]byte, error)
	to      sink
	limiter *rate.Limiter // nil: none
	metrics *metrics
	log     *zap.Logger
	wake    chan struct{} // something waits
	enough  chan struct{} // there is a whole batch

	mu       sync.Mutex
	events   []waiting // guarded by mu
	bytes    int       // guarded by mu; of their objects
	since    time.Time // guarded by mu; when the sink was given what it writes now, zero when it writes nothing
	closed   bool      // guarded by mu
	lost     int       // guarded by mu; not yet told in the log
	complain time.Time // guarded by mu; when the log may be told again
}

type waiting struct {
	event *auditv1.Event
	size  int
	done  chan error // nil when nobody waits; has room for the one answer
}

func newQueue(name string, cfg Buffering, encode func(*auditv1.Event) ([]byte, error), to sink, m *metrics, log *zap.Logger) *queue {
	q := &queue{
		name: name, cfg: cfg, encode: encode, to: to, metrics: m, log: log.With(zap.String("sink", name)),
		wake: make(chan struct{}, 1), enough: make(chan struct{}, 1),
	}
	if cfg.Mode != Batch {
		q.cfg.Max, q.cfg.Wait = mostAtA, 0 // what waits at the same time is written at once
	} else if cfg.Throttle {
		q.limiter = rate.NewLimiter(rate.Limit(cfg.QPS), cfg.Burst)
	}
	return q
}

// put hands an event over, which must not change any more. Only in the mode Strict it has an error: the event is not written.
func (q *queue) put(ctx context.Context, e *auditv1.Event) error {
	w := waiting{event: e}
	if e.RequestObject != nil {
		w.size += len(e.RequestObject.Raw)
	}
	if e.ResponseObject != nil {
		w.size += len(e.ResponseObject.Raw)
	}
	if q.cfg.Mode != Batch {
		w.done = make(chan error, 1)
	}
	stuck, err := q.add(w)
	if err != nil {
		q.drop("buffered", 1, err)
		if q.cfg.Mode == Strict {
			return err
		}
		return nil
	}
	switch q.cfg.Mode {
	case Strict:
		select {
		case err := <-w.done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("waiting for the audit %s: %w", q.name, ctx.Err())
		}
	case Blocking:
		if stuck {
			return nil
		}
		limit := time.NewTimer(patience)
		defer limit.Stop()
		select {
		case <-w.done:
		case <-limit.C:
		case <-ctx.Done():
		}
	}
	return nil
}

func (q *queue) add(w waiting) (stuck bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return false, errClosed
	case len(q.events) >= q.cfg.Size || q.bytes > mostBytes:
		return false, errFull
	}
	q.events = append(q.events, w)
	q.bytes += w.size
	signal(q.wake)
	if len(q.events) >= q.cfg.Max {
		signal(q.enough)
	}
	return !q.since.IsZero() && time.Since(q.since) > patience, nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is already to be seen
	}
}

// run writes until ctx ends, then what is left. All that must be done within drain after the end of ctx.
func (q *queue) run(ctx context.Context, drain time.Duration) {
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })()
	for ctx.Err() == nil {
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
		q.gather(ctx)
		for ctx.Err() == nil {
			if q.limiter != nil && q.limiter.Wait(ctx) != nil {
				break // we are to stop
			}
			left := q.writeSome(last)
			if left == 0 {
				break
			}
			if left < q.cfg.Max && q.cfg.Wait > 0 {
				signal(q.wake) // they may wait for more
				break
			}
		}
	}
	for last.Err() == nil && q.writeSome(last) > 0 {
	}
	q.end()
	if err := q.to.close(); err != nil {
		q.log.Warn("closing the audit sink", zap.Error(err))
	}
}

// gather waits for more events, as long as one write may wait for them.
func (q *queue) gather(ctx context.Context) {
	if q.cfg.Wait == 0 {
		return
	}
	limit := time.NewTimer(q.cfg.Wait)
	defer limit.Stop()
	select {
	case <-q.enough:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// writeSome writes a batch and says how many events are left.
func (q *queue) writeSome(ctx context.Context) (left int) {
	batch, left := q.take()
	if len(batch) == 0 {
		return 0
	}
	lines := make([][]byte, 0, len(batch))
	asked := make([]waiting, 0, len(batch)) // whose lines they are
	for _, w := range batch {
		line, err := q.encode(w.event)
		if err != nil {
			q.drop("truncate", 1, err)
			w.answer(err)
			continue
		}
		lines, asked = append(lines, line), append(asked, w)
	}
	taken, err := q.to.write(ctx, lines)
	q.mu.Lock()
	q.since = time.Time{}
	q.mu.Unlock()
	if err != nil {
		q.drop(q.name, len(lines)-taken, err)
	}
	for i, w := range asked {
		if i < taken {
			w.answer(nil)
		} else {
			w.answer(err)
		}
	}
	return left
}

func (w waiting) answer(err error) {
	if w.done != nil {
		w.done <- err
	}
}

// take removes the next batch; left is how many stay.
func (q *queue) take() (batch []waiting, left int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.events), q.cfg.Max)
	if n == 0 {
		return nil, 0
	}
	batch = slices.Clone(q.events[:n])
	clear(q.events[:n])
	if q.events = q.events[n:]; len(q.events) == 0 {
		q.events = nil
	}
	for _, w := range batch {
		q.bytes -= w.size
	}
	q.since = time.Now()
	return batch, len(q.events)
}

// end drops what is left, and all that still comes.
func (q *queue) end() {
	q.mu.Lock()
	q.closed = true
	left := q.events
	q.events = nil
	q.mu.Unlock()
	for _, w := range left {
		w.answer(errClosed)
	}
	if len(left) > 0 {
		q.drop("buffered", len(left), errClosed)
	}
}

// drop counts events that are lost, and says so in the log now and then.
func (q *queue) drop(plugin string, n int, cause error) {
	q.metrics.errors.WithLabelValues(plugin).Add(float64(n))
	q.mu.Lock()
	q.lost += n
	lost, now := q.lost, time.Now()
	tell := !now.Before(q.complain)
	if tell {
		q.lost, q.complain = 0, now.Add(quiet)
	}
	q.mu.Unlock()
	if tell {
		q.log.Error("audit events are lost", zap.Int("events", lost), zap.Error(cause))
	}
}
