package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDo(t *testing.T) {
	f := filepath.Join(t.TempDir(), "f")
	if err := do(t.Context(), options{args: []string{"write=" + f + "=a=b", "append=" + f + "=c", "await=" + f, "sleep=1ms", "read=" + f, "list=" + filepath.Dir(f)}}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f); err != nil || string(got) != "a=bc" {
		t.Errorf("the file has %q, %v", got, err)
	}
	for step, want := range map[string]string{"dance": `no step "dance"`, "read=/no/such": "no such file", "sleep=long": "invalid duration"} {
		if err := do(t.Context(), options{args: []string{step, "write=" + f + "=never"}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", step, err)
		}
	}
	if got, err := os.ReadFile(f); err != nil || string(got) != "a=bc" {
		t.Errorf("a step was done after one that failed: %q, %v", got, err)
	}
}

func TestWitnessEnds(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if err := witness(ctx, options{port: port}); err != nil {
		t.Error(err)
	}
}
