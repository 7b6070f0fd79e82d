package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	returningPods     = 5000
	returningWatchers = 500
	podVolume         = 1500 // bytes of annotation that make a pod as large as usual ones
	maxFrame          = 4 << 20
)

// endOfInitial is how the bookmark is marked that ends the initial events of a watch.
var endOfInitial = []byte("k8s.io/initial-events-end")

// returning cuts the connections of many watchers at once; all come back and ask for everything again (a streamed list, as
// client-go's informers do), and the server's memory is watched meanwhile.
func (b *bench) returning(ctx context.Context) error {
	api, err := b.api("application/json")
	if err != nil {
		return err
	}
	base := b.server.rest.Host + "/api/v1/namespaces/default/"
	if _, err := api.call(ctx, 0, http.MethodPost, base+"serviceaccounts",
		`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}`); err != nil {
		return err
	}
	pod := func(key string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"annotations":{"bench":%q}},`+
			`"spec":{"containers":[{"name":"c","image":"pause"}]}}`, key, strings.Repeat("x", podVolume))
	}
	if _, err := many(ctx, returningPods, func(ctx context.Context, w int, key string) error {
		_, err := api.call(ctx, w, http.MethodPost, base+"pods", pod(key))
		return err
	}); err != nil {
		return fmt.Errorf("creating pods: %w", err)
	}
	pid := b.server.cmd.Process.Pid
	first, err := b.watchAll(ctx, base+"pods")
	if err != nil {
		return err
	}
	quiet, err := b.settled(ctx)
	if err != nil {
		return errors.Join(err, first.cut())
	}
	// 5 resets the peak that the kernel keeps (proc(5), clear_refs).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return errors.Join(fmt.Errorf("resetting the peak of memory: %w", err), first.cut())
	}
	if err := first.cut(); err != nil {
		return err
	}
	began := time.Now()
	second, err := b.watchAll(ctx, base+"pods")
	if err != nil {
		return err
	}
	took := time.Since(began)
	peak, err := peakResident(pid)
	if err != nil {
		return errors.Join(err, second.cut())
	}
	b.report.add(fmt.Sprintf("%d watchers on %d pods, cut at once, all returning with a list each", returningWatchers, returningPods),
		row{"resident memory: quiet, then the peak, MiB", fmt.Sprintf("%d, %d", quiet.rss>>10, peak>>10), "aim: 2 × quiet", fmt.Sprintf("%.2f", float64(peak)/float64(quiet.rss))},
		row{"until all have everything again", seconds(took), "", ""})
	if err := second.cut(); err != nil {
		return err
	}
	_, err = api.call(ctx, 0, http.MethodDelete, base+"pods?gracePeriodSeconds=0", "")
	return err
}

// crowd is watchers that stand.
type crowd struct {
	stop  context.CancelFunc
	wg    sync.WaitGroup
	conns []*http.Transport
}

// cut ends all of them at once.
func (c *crowd) cut() error {
	c.stop()
	c.wg.Wait()
	for _, t := range c.conns {
		t.CloseIdleConnections()
	}
	return nil
}

// watchAll starts every watcher and returns when each has got everything.
func (b *bench) watchAll(ctx context.Context, url string) (*crowd, error) {
	ctx, stop := context.WithCancel(ctx)
	c := &crowd{stop: stop}
	errs := make(chan error, returningWatchers)
	for i := range returningWatchers {
		if i%watchersConnection == 0 {
			t, err := b.transport()
			if err != nil {
				return nil, errors.Join(err, c.cut())
			}
			c.conns = append(c.conns, t)
		}
		conn := &http.Client{Transport: c.conns[len(c.conns)-1]}
		c.wg.Go(func() {
			standing := false
			err := everything(ctx, conn, url, func() { standing = true; errs <- nil })
			if !standing {
				errs <- fmt.Errorf("watching pods: %w", err)
			}
		})
	}
	for range returningWatchers {
		if err := <-errs; err != nil {
			return nil, errors.Join(err, c.cut())
		}
	}
	return c, nil
}

// everything reads a streamed list to its end, says so, and watches on until ctx ends.
func everything(ctx context.Context, conn *http.Client, url string, standing func()) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		url+"?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/vnd.kubernetes.protobuf;type=watch")
	resp, err := conn.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	in := bufio.NewReaderSize(resp.Body, 16<<10)
	var frame []byte
	for n := 0; ; n++ {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return err
		}
		length := binary.BigEndian.Uint32(size[:])
		if length > maxFrame {
			return fmt.Errorf("a frame of %d bytes", length)
		}
		if int(length) > cap(frame) {
			frame = make([]byte, length)
		}
		frame = frame[:length]
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		if length < 1024 && bytes.Contains(frame, endOfInitial) {
			if n < returningPods {
				return fmt.Errorf("only %d pods came", n)
			}
			standing()
		}
	}
}

// peakResident is the most memory a process has had since the peak was reset, in KiB.
func peakResident(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib int
			if _, err := fmt.Sscan(v, &kib); err != nil {
				return 0, fmt.Errorf("reading memory: %w", err)
			}
			return kib, nil
		}
	}
	return 0, errors.New("reading memory: no peak")
}
