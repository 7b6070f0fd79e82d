package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// story notes what parts do, in order.
type story struct {
	mu    sync.Mutex
	lines []string
}

func (s *story) tell(line string) {
	s.mu.Lock()
	s.lines = append(s.lines, line)
	s.mu.Unlock()
}

func (s *story) part(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		s.tell(name + " stops")
		return ctx.Err()
	}
}

func TestGroupStopsInReverse(t *testing.T) {
	s := &story{}
	g := NewGroup(zap.NewNop())
	for _, n := range []string{"a", "b", "c"} {
		g.Add(n, s.part(n))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Errorf("asked to stop: %v", err)
	}
	if want := []string{"c stops", "b stops", "a stops"}; !slices.Equal(s.lines, want) {
		t.Errorf("got %v, want %v", s.lines, want)
	}
}

func TestGroupEndsWithTheFirstError(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		run  func(context.Context) error
		want string
	}{
		{"error", func(context.Context) error { return boom }, "bad: boom"},
		{"nothing", func(context.Context) error { return nil }, "bad ended unasked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &story{}
			g := NewGroup(zap.NewNop())
			g.Add("good", s.part("good"))
			g.Add("finished", func(context.Context) error { return ErrDone })
			g.Add("bad", c.run)
			err := g.Run(t.Context())
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if !slices.Equal(s.lines, []string{"good stops"}) {
				t.Errorf("the others: %v", s.lines)
			}
		})
	}
}

func TestGroupLeavesBehindWhatDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(zap.NewNop())
		stuck := make(chan struct{})
		g.Add("stuck", func(context.Context) error { <-stuck; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != Grace {
			t.Errorf("took %v", took)
		}
		close(stuck)
	})
}

func TestBadFlagsEndWithTwo(t *testing.T) {
	spec := Spec{Name: "x", Run: func(context.Context, *zap.Logger) error { return errors.New("broken") }}
	for args, want := range map[string]int{"--nonsense": 2, "word": 2, "--log-level=loud": 2, "--log-level=error": 1} {
		if got := run(spec, append([]string{"x"}, strings.Fields(args)...)); got != want {
			t.Errorf("%s: exit code %d, want %d", args, got, want)
		}
	}
}
