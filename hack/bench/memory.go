package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const memoryTitle = "Resident memory, MiB (anonymous part in brackets)"

// settle is how long the cluster is left alone before its memory is read.
const settle = 10 * time.Second

func (b *bench) idleMemory(ctx context.Context) error { return b.memory(ctx, "idle") }

// loadedMemory reads memory with pods in place.
func (b *bench) loadedMemory(ctx context.Context) error {
	w, err := b.watchPods(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	for i := range podsTogether {
		if err := b.createPod(ctx, fmt.Sprintf("memory-%d", i)); err != nil {
			return err
		}
	}
	for i := range podsTogether {
		if _, err := w.running(ctx, fmt.Sprintf("memory-%d", i)); err != nil {
			return err
		}
	}
	return b.memory(ctx, fmt.Sprintf("with %d pods, after all of the above", podsTogether))
}

func (b *bench) memory(ctx context.Context, when string) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	pids, err := b.processes()
	if err != nil {
		return err
	}
	// Daemons of nodes are given as their mean.
	type sum struct{ rss, anon, n int }
	sums := map[string]*sum{}
	for name, pid := range pids {
		if _, part, ok := strings.Cut(name, "/"); ok {
			name = part + ", mean of nodes"
		}
		rss, anon, err := resident(pid)
		if err != nil {
			return err
		}
		s := sums[name]
		if s == nil {
			s = &sum{}
			sums[name] = s
		}
		s.rss, s.anon, s.n = s.rss+rss, s.anon+anon, s.n+1
	}
	names := make([]string, 0, len(sums))
	for name := range sums {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s := sums[name]
		b.report.add(memoryTitle, row{name + ", " + when, fmt.Sprintf("%d (%d)", s.rss/s.n>>10, s.anon/s.n>>10), "", ""})
	}
	return nil
}

// resident is a process's memory in KiB: all of it, and what is not backed by a file.
func resident(pid int) (rss, anon int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("reading memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		into := map[string]*int{"VmRSS": &rss, "RssAnon": &anon}[key]
		if into == nil {
			continue
		}
		if _, err := fmt.Sscan(value, into); err != nil {
			return 0, 0, fmt.Errorf("reading memory: %w", err)
		}
	}
	return rss, anon, nil
}
