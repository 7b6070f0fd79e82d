package containers

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// stdio is the kubelet's end of one process's streams. The shim holds both ends of the output FIFOs, so they live on while no kubelet reads:
// a container then waits once 64 KiB are in a FIFO, and nothing is lost.
type stdio struct {
	dir string
	log *zap.Logger

	// set once, before pumps start
	in       *os.File // nil without stdin; read-write, so that opening it never waits for the shim
	out, err *pump    // err is nil with a terminal
	sink     Sink
	hub      hub

	pumps sync.WaitGroup
	done  chan struct{} // closed when the process has ended and all it printed is written
}

// makeStdio makes FIFOs in dir and opens them; openStdio opens those that are there.
func makeStdio(dir string, tty, stdin bool, log *zap.Logger) (*stdio, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making stream folder: %w", err)
	}
	names := []string{"out"}
	if !tty {
		names = append(names, "err")
	}
	if stdin {
		names = append(names, "in")
	}
	for _, name := range names {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("making FIFO: %w", err)
		}
	}
	return openStdio(dir, tty, stdin, log)
}

// openStdio opens for reading without waiting for a writer: reading must begin only when the shim has opened its end, because until then a FIFO
// reads as ended.
func openStdio(dir string, tty, stdin bool, log *zap.Logger) (_ *stdio, err error) {
	s := &stdio{dir: dir, log: log, sink: discard{}, done: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.out, err = openPump(filepath.Join(dir, "out")); err != nil {
		return nil, err
	}
	if !tty {
		if s.err, err = openPump(filepath.Join(dir, "err")); err != nil {
			return nil, err
		}
	}
	if stdin {
		if s.in, err = os.OpenFile(filepath.Join(dir, "in"), os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
			return nil, fmt.Errorf("opening FIFO: %w", err)
		}
	}
	return s, nil
}

// paths as containerd wants them.
func (s *stdio) paths() (in, out, err string) {
	out = filepath.Join(s.dir, "out")
	if s.err != nil {
		err = filepath.Join(s.dir, "err")
	}
	if s.in != nil {
		in = filepath.Join(s.dir, "in")
	}
	return in, out, err
}

// start reads from now on: into sink and to all who attached. The sink is closed at the end.
func (s *stdio) start(sink Sink) {
	s.sink = sink
	s.pumps.Go(func() { s.carry(s.out, false) })
	if s.err != nil {
		s.pumps.Go(func() { s.carry(s.err, true) })
	}
}

// carry goes on reading when the sink fails: a full disk must not stop the container.
func (s *stdio) carry(p *pump, stderr bool) {
	to := s.sink.Stdout()
	if stderr {
		to = s.sink.Stderr()
	}
	failing := false
	p.run(func(data []byte) {
		_, err := to.Write(data)
		if err != nil && !failing {
			s.log.Error("writing container log", zap.Error(err))
		}
		failing = err != nil
		s.hub.send(data, stderr)
	})
}

// finish ends a process's streams after it exited: what is still in the FIFOs is read, for as long as more comes within idle.
func (s *stdio) finish(idle time.Duration) error {
	s.expire(idle)
	err := s.release()
	close(s.done)
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *stdio) expire(idle time.Duration) {
	s.out.expire(idle)
	if s.err != nil {
		s.err.expire(idle)
	}
	s.pumps.Wait()
}

// release stops reading and closes the sink, the process may go on.
func (s *stdio) release() error {
	s.close()
	s.pumps.Wait()
	s.hub.end()
	if err := s.sink.Close(); err != nil {
		return fmt.Errorf("closing container log: %w", err)
	}
	return nil
}

// close closes the files; a second close of an os.File is harmless.
func (s *stdio) close() {
	for _, p := range []*pump{s.out, s.err} {
		if p != nil {
			p.f.Close()
		}
	}
	if s.in != nil {
		s.in.Close()
	}
}

// pump reads one FIFO.
type pump struct {
	f    *os.File
	idle atomic.Int64 // ns; once set, a read waits no longer than that
}

func openPump(path string) (*pump, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening FIFO: %w", err)
	}
	return &pump{f: f}, nil
}

// run hands over what it reads until the writers are gone, the file is closed or the deadline passed. What was read is always handed over.
func (p *pump) run(take func([]byte)) {
	buf := make([]byte, 16<<10)
	for {
		n, err := p.f.Read(buf)
		if n > 0 {
			take(buf[:n])
		}
		if err != nil {
			return
		}
		if idle := p.idle.Load(); idle > 0 {
			// A FIFO can be polled, so a deadline can be set; if not, reading ends by EOF as usual.
			_ = p.f.SetReadDeadline(time.Now().Add(time.Duration(idle)))
		}
	}
}

func (p *pump) expire(idle time.Duration) {
	p.idle.Store(int64(idle))
	_ = p.f.SetReadDeadline(time.Now().Add(idle)) // as in run
}

// discard is the sink of a container without a log.
type discard struct{}

func (discard) Stdout() io.Writer { return io.Discard }
func (discard) Stderr() io.Writer { return io.Discard }
func (discard) Close() error      { return nil }

// openSink opens the container's log.
func (r *Runtime) openSink(path string) (Sink, error) {
	if r.openLog == nil || path == "" {
		return discard{}, nil
	}
	sink, err := r.openLog(path)
	if err != nil {
		return nil, fmt.Errorf("opening container log: %w", err)
	}
	return sink, nil
}

func (r *Runtime) stdioDir(id string) string { return filepath.Join(r.ioDir(), id) }

// streams of a running container, or nil.
func (r *Runtime) streams(id string) *stdio {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[id]
}

func (r *Runtime) setStreams(id string, s *stdio) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[id] = s
}

// takeStreams forgets the streams and gives them to the caller, who ends them.
func (r *Runtime) takeStreams(id string) *stdio {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.live[id]
	delete(r.live, id)
	return s
}

// dropStdio ends streams that nobody finished and removes their folder.
func (r *Runtime) dropStdio(id string) error {
	if s := r.takeStreams(id); s != nil {
		return s.finish(drainIdle)
	}
	if err := os.RemoveAll(r.stdioDir(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing stream folder: %w", err)
	}
	return nil
}
