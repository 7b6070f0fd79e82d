package server

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// bounded is a listener that closes what is one connection too many as soon as it is accepted. Leaving it unaccepted would have
// its client wait; and without a bound whoever opens connections and says nothing would take all files that the process may
// open, those for etcd among them.
type bounded struct {
	net.Listener
	most    int64
	open    atomic.Int64
	refused prometheus.Counter
	log     *zap.Logger
	told    time.Time // owned by Accept
}

// bound checks what is said of connections, and bounds those of a listener.
func (s *Server) bound(ln net.Listener) (net.Listener, error) {
	switch {
	case s.cfg.Connections < 0:
		return nil, fmt.Errorf("--max-connections %d: must not be negative", s.cfg.Connections)
	case s.cfg.Streams < 0:
		return nil, fmt.Errorf("--http2-max-streams-per-connection %d: must not be negative", s.cfg.Streams)
	case s.cfg.Goaway < 0 || s.cfg.Goaway > 0.02:
		return nil, fmt.Errorf("--goaway-chance %v: must be from 0 to 0.02", s.cfg.Goaway)
	}
	most := int64(s.cfg.Connections)
	if most == 0 {
		var files syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
			return nil, fmt.Errorf("reading how many files may be open: %w", err)
		}
		most = int64(min(files.Cur, 1<<30) / 4 * 3)
	}
	return &bounded{Listener: ln, most: most, refused: s.refused, log: s.log}, nil
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= b.most {
			return &counted{Conn: c, of: b}, nil
		}
		b.open.Add(-1)
		b.refused.Inc()
		if now := time.Now(); now.Sub(b.told) > time.Second {
			b.told = now
			b.log.Warn("too many connections: closing new ones (--max-connections, or the limit of open files)",
				zap.Int64("most", b.most), zap.Stringer("peer", c.RemoteAddr()))
		}
		_ = c.Close() // nothing was said on it
	}
}

// counted is one of the open connections.
type counted struct {
	net.Conn
	of   *bounded
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.of.open.Add(-1) })
	return c.Conn.Close()
}
