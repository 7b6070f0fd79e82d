package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"go.uber.org/zap"
)

// maxBehind is how many pieces of output an attached reader may lag before it is dropped.
const maxBehind = 512

var errTooSlow = errors.New("reader of attached output is too slow")

// hub hands output to all who are attached. A slow one is cut off, never waited for.
type hub struct {
	mu    sync.Mutex
	subs  map[*subscriber]bool
	ended bool
}

type subscriber struct {
	pieces chan piece // closed at the end of output, or when cut off
	slow   bool       // set before pieces is closed
}

type piece struct {
	data   []byte
	stderr bool
}

func (h *hub) join() *subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &subscriber{pieces: make(chan piece, maxBehind)}
	if h.ended {
		close(s.pieces)
		return s
	}
	if h.subs == nil {
		h.subs = make(map[*subscriber]bool)
	}
	h.subs[s] = true
	return s
}

func (h *hub) leave(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs[s] {
		delete(h.subs, s)
		close(s.pieces)
	}
}

func (h *hub) send(data []byte, stderr bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) == 0 {
		return
	}
	p := piece{data: append([]byte(nil), data...), stderr: stderr}
	for s := range h.subs {
		select {
		case s.pieces <- p:
		default:
			s.slow = true
			delete(h.subs, s)
			close(s.pieces)
		}
	}
}

func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for s := range h.subs {
		close(s.pieces)
	}
	h.subs = nil
}

// Attach joins the streams of a running container until it ends or ctx ends. The reader of Stdin should fail once its connection is gone:
// a read under way when Attach returns is not waited for.
func (r *Runtime) Attach(ctx context.Context, id string, spec AttachSpec) error {
	ctx, cancel := context.WithCancel(r.scope(ctx))
	defer cancel()
	rec, err := r.record(ctx, id)
	if err != nil {
		return err
	}
	s := r.streams(id)
	if s == nil {
		return fmt.Errorf("container %s: %w", id, ErrNotRunning)
	}
	sub := s.hub.join()
	defer s.hub.leave(sub)
	if spec.Stdin != nil && s.in != nil {
		once := hasWord(rec.Labels[labelStdio], "once")
		go r.feed(ctx, id, s, spec.Stdin, once)
	}
	go r.resize(ctx, id, "", spec.Resize)
	for {
		select {
		case p, more := <-sub.pieces:
			if !more && sub.slow {
				return errTooSlow
			}
			if !more {
				return nil
			}
			if err := deliver(p, spec); err != nil {
				return fmt.Errorf("writing attached output: %w", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func deliver(p piece, spec AttachSpec) error {
	to := spec.Stdout
	if p.stderr {
		to = spec.Stderr
	}
	if to == nil {
		return nil
	}
	_, err := to.Write(p.data)
	return err
}

// feed copies input to the container; with stdinOnce the end of this input is the end of the container's.
func (r *Runtime) feed(ctx context.Context, id string, s *stdio, from io.Reader, once bool) {
	if _, err := io.Copy(s.in, from); err != nil {
		r.log.Debug("copying standard input", zap.String("container", id), zap.Error(err))
	}
	if !once {
		return
	}
	s.in.Close()
	if _, err := r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, Stdin: true}); err != nil && ctx.Err() == nil {
		r.log.Debug("closing standard input", zap.String("container", id), zap.Error(err))
	}
}

// resize follows a terminal's size until the channel or ctx ends.
func (r *Runtime) resize(ctx context.Context, id, execID string, sizes <-chan Size) {
	for {
		select {
		case size, more := <-sizes:
			if !more {
				return
			}
			req := &tasks.ResizePtyRequest{ContainerID: id, ExecID: execID, Width: uint32(size.Width), Height: uint32(size.Height)}
			if _, err := r.client.TaskService().ResizePty(ctx, req); err != nil && ctx.Err() == nil {
				r.log.Debug("resizing terminal", zap.String("container", id), zap.Error(err))
			}
		case <-ctx.Done():
			return
		}
	}
}
