package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, path string, limits Limits) *Writer {
	t.Helper()
	w, err := OpenWriter(path, limits)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func closeLog(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, opts Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := Read(t.Context(), path, opts, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func ptr(n int64) *int64 { return &n }

func TestEntryForm(t *testing.T) {
	at := time.Date(2026, 11, 21, 22, 0, 0, 1, time.UTC)
	line := appendEntry(nil, entry{at: at, stream: "stderr", partial: true, text: []byte("half a line")})
	if want := "2026-11-21T22:00:00.000000001Z stderr P half a line\n"; string(line) != want {
		t.Fatalf("got %q, want %q", line, want)
	}
	for name, text := range map[string]string{
		"empty":          "",
		"no time":        "yesterday stdout F x",
		"unknown stream": "2026-11-21T22:00:00Z stdin F x",
		"unknown tag":    "2026-11-21T22:00:00Z stdout X x",
		"torn":           "2026-11-21T22:00:00Z std",
	} {
		if _, err := parseEntry([]byte(text)); !errors.Is(err, errNotEntry) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	e, err := parseEntry([]byte("2026-11-21T22:00:00.5Z stdout F:more  two spaces"))
	if err != nil || string(e.text) != " two spaces" || e.partial {
		t.Fatalf("got %+v, %v", e, err)
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte("2026-11-21T22:00:00.5Z stdout F x"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseEntry(line)
		if err != nil || bytes.ContainsRune(line, '\n') {
			return
		}
		again, err := parseEntry(bytes.TrimSuffix(appendEntry(nil, e), []byte{'\n'}))
		if err != nil && e.at.Year() < 10000 {
			t.Fatalf("%q does not survive: %v", line, err)
		}
		if err == nil && !bytes.Equal(again.text, e.text) {
			t.Fatalf("%q became %q", e.text, again.text)
		}
	})
}

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c", "0.log")
	w := open(t, path, Limits{})
	long := strings.Repeat("x", maxPiece*2+5)
	for _, part := range []string{"one\ntw", "o\n", long + "\n", "three\n\nno end"} {
		if _, err := w.Stdout().Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Stderr().Write([]byte("oops\n")); err != nil {
		t.Fatal(err)
	}
	closeLog(t, w)
	all := "one\ntwo\n" + long + "\nthree\n\n"
	for name, c := range map[string]struct {
		opts Options
		want string
	}{
		"all":             {Options{}, all + "oops\nno end"},
		"stdout":          {Options{Stream: "stdout"}, all + "no end"},
		"stderr":          {Options{Stream: "stderr"}, "oops\n"},
		"tail 0":          {Options{TailLines: ptr(0)}, ""},
		"tail 2":          {Options{TailLines: ptr(2)}, "oops\nno end"},
		"tail over long":  {Options{TailLines: ptr(5)}, long + "\nthree\n\noops\nno end"},
		"tail of stdout":  {Options{TailLines: ptr(2), Stream: "stdout"}, "\nno end"},
		"tail too many":   {Options{TailLines: ptr(99)}, all + "oops\nno end"},
		"limit":           {Options{LimitBytes: ptr(5)}, "one\nt"},
		"limit at a line": {Options{LimitBytes: ptr(4)}, "one\n"},
		"since later":     {Options{Since: time.Now().Add(time.Hour)}, ""},
	} {
		if got := read(t, path, c.opts); got != c.want {
			t.Errorf("%s: got %.80q…, want %.80q…", name, got, c.want)
		}
	}
	stamped := read(t, path, Options{Timestamps: true, LimitBytes: ptr(40)})
	at, _, _ := strings.Cut(stamped, " ")
	if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
		t.Errorf("no time stamp in %q", stamped)
	}
	err := Read(t.Context(), filepath.Join(t.TempDir(), "none.log"), Options{}, &bytes.Buffer{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading no log: got %v", err)
	}
}

func TestReopenGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	w := open(t, path, Limits{})
	if _, err := w.Stdout().Write([]byte("a\nhalf ")); err != nil {
		t.Fatal(err)
	}
	closeLog(t, w)
	w = open(t, path, Limits{})
	if _, err := w.Stdout().Write([]byte("line\nb\n")); err != nil {
		t.Fatal(err)
	}
	closeLog(t, w)
	if got := read(t, path, Options{}); got != "a\nhalf line\nb\n" {
		t.Fatalf("got %q", got)
	}
	// A torn entry at the end, as after a power loss, spoils neither what was nor what comes.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("2026-11-21T22:00:0"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	w = open(t, path, Limits{})
	if _, err := w.Stdout().Write([]byte("c\n")); err != nil {
		t.Fatal(err)
	}
	closeLog(t, w)
	if got := read(t, path, Options{}); got != "a\nhalf line\nb\nc\n" {
		t.Fatalf("got %q", got)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	w := open(t, path, Limits{MaxSize: 1000, MaxFiles: 3})
	for i := range 200 {
		if _, err := fmt.Fprintf(w.Stdout(), "line %03d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, w)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Fatalf("got %d files, want 3", len(files))
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Size() > 1000 {
			t.Fatalf("%s: %v, %v", f.Name(), info.Size(), err)
		}
	}
	got := read(t, path, Options{})
	if !strings.HasSuffix(got, "line 198\nline 199\n") || strings.Contains(got, "line 000") {
		t.Fatalf("got %q", got)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	for i, line := range lines {
		if want := fmt.Sprintf("line %03d", 200-len(lines)+i); line != want {
			t.Fatalf("line %d: got %q, want %q", i, line, want)
		}
	}
	// A tail longer than the current file begins in an older one.
	if got := read(t, path, Options{TailLines: ptr(30)}); got != strings.Join(lines[len(lines)-30:], "\n")+"\n" {
		t.Fatalf("tail over files: got %q", got)
	}
}

// lockedBuffer is written by a follower and read by the test.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestFollowOverRotations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	w := open(t, path, Limits{MaxSize: 20_000, MaxFiles: 50})
	ended := make(chan struct{})
	var out lockedBuffer
	finished := make(chan error, 1)
	go func() {
		finished <- Read(context.Background(), path, Options{Follow: true, Ended: ended}, &out)
	}()
	const lines = 10_000
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "%d\n", i)
		if _, err := fmt.Fprintf(w.Stdout(), "%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, w)
	close(ended)
	select {
	case err := <-finished:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the follower did not end")
	}
	if out.String() != want.String() {
		t.Fatalf("the follower saw %d bytes, want %d", len(out.String()), want.Len())
	}
}

func TestFollowEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	w := open(t, path, Limits{})
	defer closeLog(t, w)
	ctx, cancel := context.WithCancel(context.Background())
	var out lockedBuffer
	finished := make(chan error, 1)
	go func() { finished <- Read(ctx, path, Options{Follow: true}, &out) }()
	if _, err := w.Stdout().Write([]byte("seen\n")); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for out.String() != "seen\n" {
		select {
		case <-deadline:
			t.Fatalf("got %q", out.String())
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-finished; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
