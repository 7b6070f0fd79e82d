package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// Read writes the log at path to w, each line by one Write. It ends with nil at the end, when the limit is reached, or when a follow ended; with
// ctx's error when that ends; with an error matching fs.ErrNotExist when there is no log.
func Read(ctx context.Context, path string, opts Options, w io.Writer) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	r := &reader{path: path, opts: opts, out: newPrinter(w, opts)}
	defer r.close()
	// Watch before the first look, so that nothing falls between.
	if opts.Follow {
		if err := r.watch(); err != nil {
			return fmt.Errorf("watching log: %w", err)
		}
	}
	if err := r.begin(); err != nil {
		return err
	}
	err := r.run(ctx)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// reader goes through the files of one log, the oldest first.
type reader struct {
	path    string
	opts    Options
	out     *printer
	watcher *fsnotify.Watcher // nil without follow

	file *os.File
	in   *bufio.Reader
	line []byte // the start of an entry whose end is not written yet
}

func (r *reader) watch() (err error) {
	r.watcher, err = fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	// The folder, not the file: it also tells of the new file after a rotation.
	return r.watcher.Add(filepath.Dir(r.path))
}

func (r *reader) close() {
	if r.watcher != nil {
		r.watcher.Close()
	}
	if r.file != nil {
		r.file.Close()
	}
}

// begin opens where reading starts: the oldest file, or where the wanted tail begins. It begins anew when the log was rotated
// meanwhile, for the numbers then mean other files.
func (r *reader) begin() error {
	for {
		first, err := os.Stat(r.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("opening log: %w", err)
		}
		there := err == nil // not amid a rotation
		err = r.beginAt(r.oldest())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if there && same(first, r.path) || !there && !exists(r.path) {
			return err
		}
	}
}

// oldest is the highest number there is. A rotation renames from the oldest to the newest, so one number may be missing at a time.
func (r *reader) oldest() int {
	oldest := 0
	for n := 1; exists(rotated(r.path, n)) || exists(rotated(r.path, n+1)); n++ {
		oldest = n
	}
	return oldest
}

func (r *reader) beginAt(oldest int) error {
	if r.opts.TailLines == nil {
		return r.open(oldest)
	}
	left := *r.opts.TailLines
	for n := 0; ; n++ {
		offset, found, err := tailOffset(rotated(r.path, n), left, r.opts.Stream)
		if err != nil {
			return err
		}
		left -= found
		if left <= 0 || n >= oldest {
			if err := r.open(n); err != nil {
				return err
			}
			_, err := r.file.Seek(offset, io.SeekStart)
			return err
		}
	}
}

func (r *reader) open(n int) error {
	f, err := os.Open(rotated(r.path, n))
	if err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	r.use(f)
	return nil
}

func (r *reader) use(f *os.File) {
	if r.file != nil {
		r.file.Close()
	}
	r.file, r.in, r.line = f, bufio.NewReaderSize(f, 64<<10), nil
}

func (r *reader) run(ctx context.Context) error {
	for {
		// Ask before reading: what was printed before the end is then read for certain.
		ended := r.ended()
		if err := r.drain(ctx); err != nil {
			return err
		}
		moved, err := r.next()
		if err != nil {
			return err
		}
		if moved {
			continue
		}
		if !r.opts.Follow || ended {
			return r.out.flush()
		}
		if err := r.wait(ctx); err != nil {
			return err
		}
	}
}

func (r *reader) ended() bool {
	select {
	case <-r.opts.Ended:
		return true
	default:
		return false
	}
}

// drain prints every whole entry up to the end of the file.
func (r *reader) drain(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece, err := r.in.ReadSlice('\n')
		r.line = append(r.line, piece...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading log: %w", err)
		}
		e, err := parseEntry(bytes.TrimSuffix(r.line, []byte{'\n'}))
		if err == nil { // what is no entry was torn by a power loss; skip it
			err = r.out.print(e)
			if err != nil {
				return err
			}
		}
		r.line = r.line[:0]
	}
}

// next moves on to the file after this one, if this one was rotated. It is found by identity: several rotations may have happened,
// and others may happen while it looks. What was found holds only if the newest file is still the same afterwards.
func (r *reader) next() (bool, error) {
	here, err := r.file.Stat()
	if err != nil {
		return false, fmt.Errorf("looking at log: %w", err)
	}
	for {
		first, err := os.Stat(r.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && os.SameFile(here, first) {
			return false, nil // amid a rotation, or the log was removed; or this is the newest
		}
		if err != nil {
			return false, fmt.Errorf("looking at log: %w", err)
		}
		n, oldest := r.find(here)
		if !same(first, r.path) {
			continue
		}
		if n == 0 { // rotated out of existence: read what was still added to it, and go on with the oldest there is
			if err := r.drain(context.Background()); err != nil {
				return false, err
			}
			if err := r.open(oldest); !errors.Is(err, fs.ErrNotExist) {
				return err == nil, err
			}
			continue
		}
		// A last read of this one: a writer may have added to it before it was renamed.
		if err := r.drain(context.Background()); err != nil {
			return false, err
		}
		newer, err := os.Open(rotated(r.path, n-1))
		if errors.Is(err, fs.ErrNotExist) {
			continue // amid a rotation
		}
		if err != nil {
			return false, fmt.Errorf("opening log: %w", err)
		}
		// Renaming begins with the oldest: while this one is where it was, so was the next when it was opened.
		if !same(here, rotated(r.path, n)) {
			newer.Close()
			continue
		}
		r.use(newer)
		return true, nil
	}
}

// find returns the number of a rotated file, 0 when it is none, and the highest number there is. A rotation under way moves every
// file up by one, the oldest first, so that looking upwards none is missed and one number may be free.
func (r *reader) find(here os.FileInfo) (n, oldest int) {
	for free, i := 0, 1; free < 2; i++ {
		there, err := os.Stat(rotated(r.path, i))
		switch {
		case err != nil:
			free++
		case os.SameFile(here, there):
			return i, i
		default:
			free, oldest = 0, i
		}
	}
	return 0, oldest
}

// same says whether the file at path is still the one that was.
func same(was os.FileInfo, path string) bool {
	now, err := os.Stat(path)
	return err == nil && os.SameFile(was, now)
}

func (r *reader) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.opts.Ended:
		return nil
	case _, ok := <-r.watcher.Events:
		if !ok {
			return fmt.Errorf("watching log: %w", fsnotify.ErrClosed)
		}
		return nil
	case err := <-r.watcher.Errors:
		if errors.Is(err, fsnotify.ErrEventOverflow) {
			return nil // something happened, that much is known
		}
		return fmt.Errorf("watching log: %w", err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
