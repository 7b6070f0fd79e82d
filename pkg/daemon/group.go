package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Group runs the named parts of a daemon. Parts start in the order they were added and are stopped in reverse, each after
// the later ones have returned; the first error ends all.
type Group struct {
	log   *zap.Logger
	parts []part
}

type part struct {
	name string
	run  func(context.Context) error
}

// NewGroup returns an empty group.
func NewGroup(log *zap.Logger) *Group { return &Group{log: log} }

// Add appends a part. run works until its context ends and then returns nil or the context's error; a return while the
// context lives, even of nil, is an error of the part unless it returned ErrDone.
func (g *Group) Add(name string, run func(context.Context) error) {
	g.parts = append(g.parts, part{name, run})
}

// ErrDone is what a part returns that has finished its work for good: the others go on.
var ErrDone = errors.New("done")

// Grace is how long one part may take to stop before it is reported and left behind.
const Grace = 30 * time.Second

// Run starts all parts, waits for ctx or for the first part that fails, stops the rest in reverse order and returns the first
// error, nil when ctx ended it.
func (g *Group) Run(ctx context.Context) error {
	type running struct {
		name   string
		cancel context.CancelFunc
		done   chan struct{}
	}
	failed := make(chan error, len(g.parts))
	all := make([]running, 0, len(g.parts))
	for _, p := range g.parts {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{p.name, cancel, make(chan struct{})}
		all = append(all, r)
		go func() {
			defer close(r.done)
			err := p.run(own)
			switch {
			case errors.Is(err, ErrDone):
			case own.Err() == nil && err == nil:
				failed <- fmt.Errorf("%s ended unasked", p.name)
			case own.Err() == nil:
				failed <- fmt.Errorf("%s: %w", p.name, err)
			case err != nil && !errors.Is(err, context.Canceled):
				g.log.Warn("part ended with an error while stopping", zap.String("part", p.name), zap.Error(err))
			}
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-failed:
	}
	for i := len(all) - 1; i >= 0; i-- {
		all[i].cancel()
		select {
		case <-all[i].done:
		case <-time.After(Grace):
			g.log.Error("part does not stop, leaving it", zap.String("part", all[i].name))
		}
	}
	return first
}
