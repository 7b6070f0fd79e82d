package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	fanOutWrites       = 300
	watchersConnection = 10 // watchers that share a connection, ours and etcd's alike
)

// fanOut measures how fast one writer's changes reach many watchers.
func (b *bench) fanOut(ctx context.Context) error {
	for _, watchers := range []int{100, 1000} {
		ours, used, err := b.fanOutAPI(ctx, watchers)
		if err != nil {
			return err
		}
		limit, err := b.fanOutEtcd(ctx, watchers)
		if err != nil {
			return err
		}
		n := watchers * fanOutWrites
		b.report.add(fmt.Sprintf("Fan-out: one writer at full speed, %d writes, until every watcher has seen all", fanOutWrites),
			row{fmt.Sprintf("deliveries to %d watchers", watchers), fmt.Sprintf("%s, %.1f µs of CPU each", perSecond(n, ours), float64(used.Microseconds())/float64(n)), perSecond(n, limit), fmt.Sprintf("%.2f of the limit", limit.Seconds()/ours.Seconds())})
	}
	return nil
}

// fan waits until all watchers stand, calls standing, writes, and waits until each has seen every write.
func fan(watchers int, watch func(i int, seen func()) error, standing func() error, write func() error) (time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(watchers * fanOutWrites))
	done := make(chan struct{})
	seen := func() {
		if left.Add(-1) == 0 {
			close(done)
		}
	}
	for i := range watchers {
		if err := watch(i, seen); err != nil {
			return 0, err
		}
	}
	if err := standing(); err != nil {
		return 0, err
	}
	began := time.Now()
	for range fanOutWrites {
		if err := write(); err != nil {
			return 0, err
		}
	}
	select {
	case <-done:
		return time.Since(began), nil
	case <-time.After(2 * time.Minute):
		return 0, fmt.Errorf("%d deliveries are missing", left.Load())
	}
}

// fanOutAPI returns how long it took and the processor time that the server used meanwhile.
func (b *bench) fanOutAPI(ctx context.Context, watchers int) (took, used time.Duration, err error) {
	api, err := b.api("application/json")
	if err != nil {
		return 0, 0, err
	}
	alone, err := b.settled(ctx)
	if err != nil {
		return 0, 0, err
	}
	const key = "fan-out"
	if err := api.create(ctx, 0, key); err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var conn *http.Client
	var before time.Duration
	pid := b.server.cmd.Process.Pid
	took, err = fan(watchers, func(i int, seen func()) error {
		if i%watchersConnection == 0 {
			t, err := b.transport()
			if err != nil {
				return err
			}
			conn = &http.Client{Transport: t}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, api.url+"?watch=true&fieldSelector=metadata.name="+key, nil)
		if err != nil {
			return err
		}
		resp, err := conn.Do(req)
		if err != nil {
			return fmt.Errorf("watching: %w", err)
		}
		lines := bufio.NewReaderSize(resp.Body, 16<<10)
		// The first event is the object as it is: once it came, the watcher stands.
		if _, err := lines.ReadSlice('\n'); err != nil {
			return fmt.Errorf("watching: %w", err)
		}
		wg.Go(func() {
			defer resp.Body.Close()
			for {
				if _, err := lines.ReadSlice('\n'); err != nil {
					return // the end of the run; what is missing is counted
				}
				seen()
			}
		})
		return nil
	}, func() error {
		with, err := b.settled(ctx)
		if err != nil {
			return err
		}
		b.report.add("Memory of a watcher more, ten on a connection", row{fmt.Sprintf("with %d watchers", watchers),
			fmt.Sprintf("%.1f KiB", float64(with.anon-alone.anon)/float64(watchers)), "aim: 12 KiB", ""})
		before, err = cpu(pid)
		return err
	}, func() error { return api.update(ctx, 0, key) })
	if err != nil {
		return 0, 0, err
	}
	after, err := cpu(pid)
	if err != nil {
		return 0, 0, err
	}
	return took, after - before, api.remove(ctx, 0, key)
}

func (b *bench) fanOutEtcd(ctx context.Context, watchers int) (time.Duration, error) {
	raw, err := b.etcd()
	if err != nil {
		return 0, err
	}
	defer raw.close()
	cfg, endpoint, err := b.etcdAccess()
	if err != nil {
		return 0, err
	}
	const key = "fan-out"
	if err := raw.create(ctx, 0, key); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var conns []*clientv3.Client
	defer func() {
		cancel()
		wg.Wait()
		for _, c := range conns {
			c.Close()
		}
	}()
	took, err := fan(watchers, func(i int, seen func()) error {
		if i%watchersConnection == 0 {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: cfg, DialTimeout: 10 * time.Second})
			if err != nil {
				return fmt.Errorf("opening etcd: %w", err)
			}
			conns = append(conns, c)
		}
		events := conns[len(conns)-1].Watch(ctx, rawPrefix+key, clientv3.WithCreatedNotify())
		if _, ok := <-events; !ok {
			return fmt.Errorf("watching etcd: the watch ended at once")
		}
		wg.Go(func() {
			for resp := range events {
				for range resp.Events {
					seen()
				}
			}
		})
		return nil
	}, func() error { return nil }, func() error { return raw.update(ctx, 0, key) })
	if err != nil {
		return 0, err
	}
	return took, raw.remove(ctx, 0, key)
}
