// Package reload reads configuration files, and reads them again when they change: for what daemons are told by a file and must
// follow without a restart.
package reload

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
)

// Every is how often a followed file is looked at. Looking is reading it: files are replaced in many ways (renamed over, a link
// turned, a mount below), and the content is the only thing that tells in all of them.
const Every = 2 * time.Second

// Read reads a file and parses it; an error names the file.
func Read[T any](file string, parse func([]byte) (T, error)) (T, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		var none T
		return none, err // names the file
	}
	v, err := parse(data)
	if err != nil {
		return v, fmt.Errorf("%s: %w", file, err)
	}
	return v, nil
}

// Follow calls changed with each new content of a file until ctx ends, beginning with what differs from known: the content that is
// in use. A file that cannot be read is told once, as an error, until it can be read again. Calls never overlap.
func Follow(ctx context.Context, file string, known []byte, changed func(data []byte, err error)) {
	follow(ctx, file, known, Every, changed)
}

func follow(ctx context.Context, file string, known []byte, every time.Duration, changed func([]byte, error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	lost := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		data, err := os.ReadFile(file)
		if err != nil {
			if !lost {
				changed(nil, err)
			}
			lost = true
			continue
		}
		lost = false
		if bytes.Equal(data, known) {
			continue
		}
		known = data
		changed(data, nil)
	}
}
