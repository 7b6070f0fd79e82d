package syncer_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/health"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/syncer"
)

// bench is a Syncer between a source and rules that note what they are asked.
type bench struct {
	woken, addrsWoken chan struct{}
	table             *changes.Table
	addrs             []netip.Addr
	ready             chan struct{}
	state             *health.State
	family            *health.Family

	set     []time.Duration // when, since the start
	verify  []time.Duration
	forgets int
	offers  int
	refuse  int // so many times
	start   time.Time
}

func (b *bench) Woken() <-chan struct{}               { return b.woken }
func (b *bench) Take() (*changes.Table, changes.News) { return b.table, changes.News{} }

type addresses struct{ *bench }

func (a addresses) Woken() <-chan struct{}  { return a.addrsWoken }
func (a addresses) Addresses() []netip.Addr { return a.addrs }

func (b *bench) Set(w nftables.Wish) (nftables.Stats, error) {
	b.set = append(b.set, time.Since(b.start))
	if b.refuse > 0 {
		b.refuse--
		return nftables.Stats{}, errors.New("no")
	}
	return nftables.Stats{}, nil
}

func (b *bench) Verify() (nftables.Stats, error) {
	b.verify = append(b.verify, time.Since(b.start))
	return nftables.Stats{}, nil
}

func (b *bench) Forget(was, now nftables.Wish) (int, error) {
	b.forgets++
	return 0, nil
}

func (b *bench) wake() {
	select {
	case b.woken <- struct{}{}:
	default:
	}
}

// run starts the loop in a bubble of virtual time and calls play.
func run(t *testing.T, play func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{
			woken: make(chan struct{}, 1), addrsWoken: make(chan struct{}, 1), ready: make(chan struct{}),
			table: &changes.Table{}, state: health.NewState(time.Minute), start: time.Now(),
		}
		b.family = b.state.Family()
		s := syncer.New(syncer.Parts{
			Family: "IPv4", Table: b, Addresses: addresses{b}, Rules: b, Flows: b, Health: b.family, Offer: func(*changes.Table) { b.offers++ },
			Ready: func(ctx context.Context) error {
				select {
				case <-b.ready:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			},
		}, syncer.Periods{Min: time.Second, Verify: 30 * time.Second}, zaptest.NewLogger(t))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		play(b)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func wait(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

func TestNothingIsWrittenBeforeAllIsKnown(t *testing.T) {
	run(t, func(b *bench) {
		b.wake()
		wait(time.Hour)
		if len(b.set)+len(b.verify) != 0 {
			t.Errorf("the rules were touched: %v %v", b.set, b.verify)
		}
		if b.state.Check(t.Context()) == nil {
			t.Error("healthy before the first table")
		}
		close(b.ready)
		synctest.Wait()
		if len(b.set) != 1 || b.state.Check(t.Context()) != nil {
			t.Errorf("after that: %v, %v", b.set, b.state.Check(t.Context()))
		}
	})
}

func TestPace(t *testing.T) {
	run(t, func(b *bench) {
		close(b.ready)
		synctest.Wait()
		wait(10 * time.Second)
		b.wake()
		synctest.Wait()
		if len(b.set) != 2 || b.set[1] != 10*time.Second {
			t.Errorf("a change after a quiet time is written at once: %v", b.set)
		}
		for range 20 { // for two seconds, ten a second
			b.wake()
			wait(100 * time.Millisecond)
		}
		wait(5 * time.Second)
		if n := len(b.set) - 2; n < 2 || n > 3 {
			t.Errorf("twenty changes in two seconds were written %d times: %v", n, b.set)
		}
		b.addrsWoken <- struct{}{}
		synctest.Wait()
		if b.forgets != len(b.set) || b.offers != len(b.set) {
			t.Errorf("%d writes, %d looks at flows, %d offers", len(b.set), b.forgets, b.offers)
		}
	})
}

// The API server is away for an hour: rules are looked after, never rewritten.
func TestQuietTimes(t *testing.T) {
	run(t, func(b *bench) {
		close(b.ready)
		synctest.Wait()
		wait(time.Hour)
		if len(b.set) != 1 {
			t.Errorf("written without a change: %v", b.set)
		}
		if n := len(b.verify); n < 118 || n > 120 {
			t.Errorf("looked after %d times in an hour", n)
		}
		if err := b.state.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRefusedWritesAreRetried(t *testing.T) {
	run(t, func(b *bench) {
		close(b.ready)
		synctest.Wait()
		wait(10 * time.Second)
		b.refuse = 7
		b.wake()
		wait(70 * time.Second)
		if b.state.Check(t.Context()) == nil {
			t.Error("healthy while a change has been waiting for over a minute")
		}
		wait(time.Hour)
		// at 10 s, and then after 1, 2, 4, 8, 16, 30, 30 s
		want := []time.Duration{0, 10, 11, 13, 17, 25, 41, 71, 101}
		if len(b.set) != len(want) {
			t.Fatalf("written at %v", b.set)
		}
		for i := range want {
			if b.set[i] != want[i]*time.Second {
				t.Errorf("try %d at %v, want %v s", i, b.set[i], int(want[i]))
			}
		}
		if err := b.state.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if b.forgets != 2 {
			t.Errorf("flows were looked at %d times; refused writes move nothing", b.forgets)
		}
	})
}
