package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// stalled is a look-up that has taken so long: C libraries wait for five seconds before they ask again.
const stalled = time.Second

// stalls looks names up, count times or until the time -after is over, as C libraries do: A and AAAA at once from one socket, a new one each time;
// and says how long that took. An answer that does not come within a second is a stall, and the program fails if there was one. The two
// questions are sent by two threads, so that they meet anything between here and the server at the very same time.
func stalls(ctx context.Context, o options) error {
	r, err := readResolver("/etc/resolv.conf")
	if err != nil {
		return err
	}
	if len(o.args) == 0 {
		return errors.New("want names")
	}
	var (
		next   atomic.Int64
		mu     sync.Mutex
		took   []time.Duration
		failed []error
		all    sync.WaitGroup
	)
	began := time.Now()
	if o.after > 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, o.after)
		defer end()
	}
	// One at a time for each two processors: each has two threads.
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		all.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(o.count) || ctx.Err() != nil {
					return
				}
				once := time.Now()
				err := lookUpBoth(r.servers[0], o.args[int(i)%len(o.args)])
				mu.Lock()
				if err != nil {
					failed = append(failed, fmt.Errorf("after %v: %w", time.Since(once).Round(time.Millisecond), err))
				} else {
					took = append(took, time.Since(once))
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	at := func(part float64) time.Duration {
		if len(took) == 0 {
			return 0
		}
		return took[int(part*float64(len(took)-1))].Round(10 * time.Microsecond)
	}
	fmt.Printf("%d look-ups in %v, %d stalls; half within %v, 99 %% within %v, all answered ones within %v\n",
		len(took)+len(failed), time.Since(began).Round(time.Millisecond), len(failed), at(0.5), at(0.99), at(1))
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d look-ups stalled: %w", len(failed), len(took)+len(failed), errors.Join(failed[:min(5, len(failed))]...))
	}
	return nil
}

// lookUpBoth asks for both families from one socket.
func lookUpBoth(server netip.AddrPort, name string) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(stalled)); err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var waiting atomic.Int32
	var sent sync.WaitGroup
	waiting.Store(2)
	open := map[uint16]string{}
	errs := make([]error, 2)
	for i, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		q, err := question(name, kind)
		if err != nil {
			return err
		}
		q.ID = q.ID&^1 | uint16(i) // they differ
		packed, err := q.Pack()
		if err != nil {
			return err
		}
		open[q.ID] = kind.String()
		sent.Go(func() {
			// Not by Write, which lets only one in at a time; and spinning, or they would not leave together.
			err := raw.Control(func(fd uintptr) {
				for waiting.Add(-1); waiting.Load() > 0; {
				}
				_, errs[i] = syscall.Write(int(fd), packed)
			})
			errs[i] = errors.Join(errs[i], err)
		})
	}
	sent.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for len(open) > 0 {
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%s has no answer to %v", name, open)
		}
		if err != nil {
			return err
		}
		var p dnsmessage.Parser
		h, err := p.Start(buf[:n])
		if err != nil {
			return err
		}
		delete(open, h.ID)
	}
	return nil
}
