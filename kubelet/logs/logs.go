package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

var errNotBuilt = errors.New("not built yet")

// PodDir is the folder of one pod's logs.
func PodDir(podLogsDir, namespace, name, uid string) string {
	return filepath.Join(podLogsDir, namespace+"_"+name+"_"+uid)
}

// Path is the file of one container's attempt. Its folder must be made by the caller.
func Path(podLogsDir, namespace, name, uid, container string, attempt int) string {
	return filepath.Join(PodDir(podLogsDir, namespace, name, uid), container, fmt.Sprintf("%d.log", attempt))
}

// Limits of a container's log.
type Limits struct {
	// MaxSize of one file in bytes; 0 means 10 MiB. MaxFiles, the current one included; 0 means 5.
	MaxSize  int64
	MaxFiles int
}

// Writer appends to one container's log. Its two streams may be written at the same time. It satisfies containers.Sink.
type Writer struct{}

// OpenWriter opens the file to append, making it and its folder if need be.
func OpenWriter(path string, limits Limits) (*Writer, error) { return nil, errNotBuilt }

// Stdout and Stderr take output; what has no newline at the end is kept until the rest comes, at most 16 KiB.
func (w *Writer) Stdout() io.Writer { return nil }

// Stderr is like Stdout.
func (w *Writer) Stderr() io.Writer { return nil }

// Close writes what is kept as pieces of lines and closes the file.
func (w *Writer) Close() error { return errNotBuilt }

// Options of Read; zero means everything there is, once, without time stamps.
type Options struct {
	// Follow goes on after the end until Ended is closed and all is read, or ctx ends.
	Follow bool
	// Ended is closed when the container will print no more (containers.Runtime.Finished); nil: only ctx ends it.
	Ended <-chan struct{}
	// TailLines from the end; nil: all.
	TailLines *int64
	// Since leaves out older lines; zero: all.
	Since time.Time
	// Timestamps before each line, in RFC 3339 with nanoseconds.
	Timestamps bool
	// LimitBytes ends the answer after so many bytes; nil: no limit.
	LimitBytes *int64
	// Stream is "stdout", "stderr" or "" for both.
	Stream string
}

// Read writes the log at path to w, each entry by one Write. It ends with nil at the end, when the limit is reached, or when a follow ended; with
// ctx's error when that ends; with an error matching fs.ErrNotExist when there is no log.
func Read(ctx context.Context, path string, opts Options, w io.Writer) error { return errNotBuilt }
