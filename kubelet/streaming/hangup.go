package streaming

import (
	"bufio"
	"context"
	"net"
	"net/http"
)

// watch gives a request a context that ends when its client hangs up after the upgrade: from then on the HTTP server does not look any more.
func watch(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	return &watched{w, cancel}, r.WithContext(ctx), cancel
}

type watched struct {
	http.ResponseWriter
	gone context.CancelFunc
}

// Hijack gives the connection away with an eye on it.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	eyed := &eyedConn{Conn: conn, gone: w.gone}
	if n := rw.Reader.Buffered(); n > 0 { // what was read already comes first
		eyed.early, err = rw.Reader.Peek(n)
		if err != nil {
			return nil, nil, err
		}
	}
	return eyed, bufio.NewReadWriter(bufio.NewReader(eyed), bufio.NewWriter(eyed)), nil
}

// Unwrap lets others find what the writer can do.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// eyedConn notices that its other end has hung up. Read by one goroutine at a time.
type eyedConn struct {
	net.Conn
	early []byte
	gone  context.CancelFunc
}

func (c *eyedConn) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if err != nil {
		c.gone()
	}
	return n, err
}

func (c *eyedConn) Close() error {
	c.gone()
	return c.Conn.Close()
}
