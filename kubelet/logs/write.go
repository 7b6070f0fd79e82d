package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	defaultMaxSize  = 10 << 20
	defaultMaxFiles = 5
	maxPiece        = 16 << 10 // a longer line is written in pieces
)

// Writer appends to one container's log. Its two streams may be written at the same time. It satisfies containers.Sink.
type Writer struct {
	path   string
	limits Limits
	out    stream
	err    stream

	mu   sync.Mutex // guards the file; a stream's own rest belongs to its one writer
	file *os.File
	size int64
	buf  []byte
}

// OpenWriter opens the file to append, making it and its folder if need be. A file that ends amid an entry (the node lost power) gets a newline.
func OpenWriter(path string, limits Limits) (*Writer, error) {
	if limits.MaxSize <= 0 {
		limits.MaxSize = defaultMaxSize
	}
	if limits.MaxFiles <= 0 {
		limits.MaxFiles = defaultMaxFiles
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making log folder: %w", err)
	}
	w := &Writer{path: path, limits: limits}
	w.out, w.err = stream{w: w, name: "stdout"}, stream{w: w, name: "stderr"}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size > 0 {
		err = endLine(f, size)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("finding end of log: %w", err), f.Close())
	}
	w.file, w.size = f, size
	return nil
}

func endLine(f *os.File, size int64) error {
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, size-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	_, err := f.WriteString("\n")
	return err
}

// Stdout takes what the container prints; what has no newline at the end is kept until the rest comes, at most 16 KiB.
func (w *Writer) Stdout() io.Writer { return &w.out }

// Stderr is like Stdout.
func (w *Writer) Stderr() io.Writer { return &w.err }

// Close writes what is kept as pieces of lines and closes the file. Both streams have ended before.
func (w *Writer) Close() error {
	err := errors.Join(w.out.flush(), w.err.flush())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return err
	}
	err = errors.Join(err, w.file.Close())
	w.file = nil
	return err
}

// stream cuts one stream into entries.
type stream struct {
	w    *Writer
	name string
	rest []byte // the start of a line not yet ended
}

// Write takes all or fails; entries of one call are written by one system call.
func (s *stream) Write(p []byte) (int, error) {
	at := time.Now().UTC()
	var entries []entry
	data := p
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		switch {
		case i >= 0 && len(s.rest)+i <= maxPiece:
			entries = append(entries, entry{at: at, stream: s.name, text: s.take(data[:i])})
			data = data[i+1:]
		case len(s.rest)+len(data) < maxPiece:
			s.rest = append(s.rest, data...)
			data = nil
		default:
			n := maxPiece - len(s.rest)
			entries = append(entries, entry{at: at, stream: s.name, partial: true, text: s.take(data[:n])})
			data = data[n:]
		}
	}
	if err := s.w.append(entries); err != nil {
		return 0, err
	}
	return len(p), nil
}

// take joins what was kept with what came.
func (s *stream) take(data []byte) []byte {
	if len(s.rest) == 0 {
		return data
	}
	whole := append(s.rest, data...)
	s.rest = nil
	return whole
}

func (s *stream) flush() error {
	if len(s.rest) == 0 {
		return nil
	}
	e := entry{at: time.Now().UTC(), stream: s.name, partial: true, text: s.take(nil)}
	return s.w.append([]entry{e})
}

func (w *Writer) append(entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return fmt.Errorf("writing log: %w", os.ErrClosed)
	}
	w.buf = w.buf[:0]
	for _, e := range entries {
		w.buf = appendEntry(w.buf, e)
	}
	if w.size > 0 && w.size+int64(len(w.buf)) > w.limits.MaxSize {
		if err := w.rotateLocked(); err != nil {
			return err
		}
	}
	n, err := w.file.Write(w.buf)
	w.size += int64(n)
	if err != nil {
		return fmt.Errorf("writing log: %w", err)
	}
	return nil
}

// rotateLocked renames from the oldest to the newest, so that a name is always free, and opens a new file.
func (w *Writer) rotateLocked() error {
	if w.limits.MaxFiles == 1 {
		if err := os.Remove(w.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotating log: %w", err)
		}
	}
	for n := w.limits.MaxFiles - 1; n > 0; n-- {
		if err := os.Rename(rotated(w.path, n-1), rotated(w.path, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotating log: %w", err)
		}
	}
	old := w.file
	if err := w.open(); err != nil {
		return err // the old file stays in use
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("closing rotated log: %w", err)
	}
	return nil
}
