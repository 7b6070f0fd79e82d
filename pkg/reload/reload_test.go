package reload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	parse := func(b []byte) (string, error) {
		if len(b) == 0 {
			return "", errors.New("line 1: nothing there")
		}
		return string(b), nil
	}
	if _, err := Read(file, parse); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), file) {
		t.Errorf("no file: %v", err)
	}
	put(t, file, "")
	if _, err := Read(file, parse); err == nil || err.Error() != file+": line 1: nothing there" {
		t.Errorf("a bad file: %v", err)
	}
	put(t, file, "x")
	if v, err := Read(file, parse); err != nil || v != "x" {
		t.Errorf("a good file: %q, %v", v, err)
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	put(t, file, "one")
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan string), make(chan struct{})
	go func() {
		defer close(done)
		follow(ctx, file, []byte("one"), time.Millisecond, func(b []byte, err error) {
			text := string(b)
			if err != nil {
				text = "error"
			}
			told <- text
		})
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Fatalf("told %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("not told of %q", want)
		}
	}
	put(t, file, "two")
	next("two")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	next("error") // once, or the next would be another
	put(t, file, "three")
	next("three")
	cancel()
	<-done
}
