package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// FileConfig says where events are logged. Without a path they are not.
type FileConfig struct {
	Path string // "-": standard output
	Rotation
	Format string
	Buffering
	Truncation
}

// Rotation is how large a log gets, and what is kept of the ones before it.
type Rotation struct {
	MaxAge    int // days; 0: for ever
	MaxBackup int // 0: all
	MaxSize   int // megabytes; 0: 100
	Compress  bool
}

const (
	megabyte    = 1 << 20
	defaultSize = 100
	secret      = 0o600 // what it tells is for the administrator
)

// file is a log that is renamed when it has grown, and begun anew. A line is in it whole or not at all: what a full disk took
// only in part is taken back. Standard output, devices and pipes are written as they are.
type file struct {
	path  string
	most  int64 // bytes; 0: it is not rotated
	keep  *keeper
	grown func(error) // told when it could not be rotated

	f    *os.File
	size int64
	torn bool // its last line is not whole
	buf  bytes.Buffer
	ends []int // of the lines in buf
}

// openFile opens the log, to go on at its end.
func openFile(c FileConfig, grown func(error)) (*file, error) {
	if c.Path == "-" {
		return &file{path: c.Path, f: os.Stdout, grown: grown}, nil
	}
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o700); err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	f, err := os.OpenFile(c.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, secret)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	is, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the audit log: %w", err), f.Close())
	}
	l := &file{path: c.Path, f: f, grown: grown}
	if is.Mode().IsRegular() {
		if c.MaxSize == 0 {
			c.MaxSize = defaultSize
		}
		l.size, l.most = is.Size(), int64(c.MaxSize)*megabyte
		l.keep = newKeeper(c.Path, c.Rotation)
	}
	return l, nil
}

func (l *file) write(_ context.Context, events [][]byte) (taken int, err error) {
	for _, e := range events {
		if l.most > 0 && l.size+int64(l.buf.Len()+len(e)+1) > l.most && l.size+int64(l.buf.Len()) > 0 {
			n, err := l.flush()
			if taken += n; err != nil {
				return taken, err
			}
			if err := l.rotate(); err != nil {
				l.grown(err) // it grows beyond its size instead
			}
		}
		l.buf.Write(e)
		l.buf.WriteByte('\n')
		l.ends = append(l.ends, l.buf.Len())
	}
	n, err := l.flush()
	return taken + n, err
}

// flush writes what is gathered in one write and says how many lines went out.
func (l *file) flush() (lines int, err error) {
	defer func() {
		if l.buf.Cap() > megabyte {
			l.buf = bytes.Buffer{}
		}
		l.buf.Reset()
		l.ends = l.ends[:0]
	}()
	if l.buf.Len() == 0 {
		return 0, nil
	}
	if l.torn {
		if _, err := l.f.Write([]byte{'\n'}); err != nil {
			return 0, fmt.Errorf("writing the audit log: %w", err)
		}
		l.torn = false
		l.size++
	}
	n, err := l.f.Write(l.buf.Bytes())
	whole := 0
	for lines < len(l.ends) && l.ends[lines] <= n {
		whole = l.ends[lines]
		lines++
	}
	if n > whole && (l.most == 0 || l.f.Truncate(l.size+int64(whole)) != nil) {
		l.torn, whole = true, n
	}
	l.size += int64(whole)
	if err != nil {
		return lines, fmt.Errorf("writing the audit log: %w", err)
	}
	return lines, nil
}

// rotate renames the log and begins a new one with the same mode. When that fails the old one goes on.
func (l *file) rotate() error {
	mode := fs.FileMode(secret)
	if is, err := l.f.Stat(); err == nil {
		mode = is.Mode().Perm()
	}
	old := l.keep.name(time.Now())
	if err := os.Rename(l.path, old); err != nil && !errors.Is(err, fs.ErrNotExist) { // somebody took it away: begin a new one
		return fmt.Errorf("rotating the audit log: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("rotating the audit log: %w", errors.Join(err, os.Rename(old, l.path)))
	}
	err = l.f.Close()
	l.f, l.size, l.torn = f, 0, false
	signal(l.keep.wake)
	return err
}

func (l *file) close() error {
	if l.path == "-" {
		return nil
	}
	return l.f.Close()
}
