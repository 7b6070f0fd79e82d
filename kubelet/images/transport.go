package images

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// A registry that asks for fewer requests is heard, within limits: a pull waits no longer than patience, and not more often than tries.
const (
	patience = 30 * time.Second
	tries    = 4
)

// transport counts what a pull brings, waits where the registry asks for that, and makes a connection that broke look like one that ended
// early, which the fetcher goes on from.
type transport struct {
	next  http.RoundTripper
	meter *meter
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	for i := 1; ; i++ {
		t.meter.active.Add(1)
		resp, err := t.next.RoundTrip(req)
		if err != nil {
			t.meter.active.Add(-1)
			return nil, err
		}
		wait, again := retryAfter(resp)
		if !again || i == tries || req.Body != nil {
			if resp.Body == nil || resp.Body == http.NoBody || req.Method == http.MethodHead {
				t.meter.active.Add(-1)
				return resp, nil
			}
			resp.Body = &body{ReadCloser: resp.Body, meter: t.meter}
			return resp, nil
		}
		t.meter.active.Add(-1)
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}

// retryAfter says whether, and after how long, a request is to be made again.
func retryAfter(resp *http.Response) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests {
		return 0, false
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil {
		seconds = 1
	}
	wait := time.Duration(max(seconds, 0)) * time.Second
	return wait, wait <= patience
}

// body is an answer that is counted while it is read.
type body struct {
	io.ReadCloser
	meter *meter
	over  atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.meter.moved.Add(int64(n))
	if err != nil {
		b.end()
	}
	if errors.Is(err, syscall.ECONNRESET) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *body) Close() error {
	b.end()
	return b.ReadCloser.Close()
}

func (b *body) end() {
	if b.over.CompareAndSwap(false, true) {
		b.meter.active.Add(-1)
	}
}

// meter is what a pull is doing: requests without their whole answer, and bytes so far.
type meter struct {
	active, moved atomic.Int64
}

// watch calls stalled once if answers are awaited and none has moved on for the time given. Its result ends the watch.
func (m *meter) watch(limit time.Duration, stalled func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(max(limit/10, time.Millisecond))
		defer tick.Stop()
		last, since := int64(-1), time.Now()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if now := m.moved.Load(); m.active.Load() == 0 || now != last {
				last, since = now, time.Now()
			} else if time.Since(since) >= limit {
				stalled()
				return
			}
		}
	}()
	return func() { close(done) }
}
