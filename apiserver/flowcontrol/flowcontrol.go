// Package flowcontrol is the gate at which requests wait for their turn: API Priority and Fairness
// (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/). FlowSchemas sort requests into flows and flows into priority
// levels; each level has seats, queues in which its flows stand in line without one crowding out the others, and limits that
// follow its demand: idle levels lend their seats.
//
// The filter flowcontrol calls it once a request. The objects come compiled from lookup, and take effect with the next request. What
// always holds: no request has seats that its level does not have, but for one that is wider than its level; exempt levels never
// refuse; every ticket that entered leaves. What to do about refusals is left to the filter. Limits is the plain bound on requests in flight for
// when all this is turned off.
//
// schemas.go and levels.go compile objects; level.go is a level at work, shuffle.go how a flow's queues are chosen, demand.go and
// borrow.go how limits move: all pure, with time as an argument. estimate.go says how many seats a request takes.
package flowcontrol

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"pilothouse.dev/apiserver/request"
)

// Config is filled from flags.
type Config struct {
	Fair bool // by priority levels and flows
	// Reading and Changing are how many requests run at a time. In fair flow control, their sum is the seats of all levels together.
	Reading, Changing int
}

// Objects are the flow schemas and priority levels as they are now. The same pointer means that nothing has changed; nil that
// nothing is known yet. It never waits for storage. Safe for concurrent use.
type Objects interface {
	FlowSchemas(ctx context.Context) (*Schemas, error)
	PriorityLevels(ctx context.Context) (*Levels, error)
}

// Gate gives requests their seats. Safe for concurrent use.
type Gate struct {
	seats   int
	objects Objects
	sizes   Sizes
	started time.Time
	seed    maphash.Seed
	watches watches

	setup atomic.Pointer[setup]

	mu     sync.Mutex        // held while the setup is made anew and while limits move
	levels map[string]*level // guarded by mu
	going  []*level          // guarded by mu; no longer configured, not yet empty
	fair   float64           // guarded by mu
}

// setup is what all objects together mean. Nothing of it is changed.
type setup struct {
	schemas *Schemas
	levels  *Levels
	flows   []*Flow // in the order in which they are tried; those without a level are left out
	rest    *Flow   // for what no schema matches
}

// Flow is a schema with its level: what the filter is told of a request.
type Flow struct {
	schema *Schema
	config *Level
	level  *level
	hash   uint64
	widest int // seats of one request
}

// SchemaUID and LevelUID are header values; nobody may change them.
func (f *Flow) SchemaUID() []string { return f.schema.header }

// LevelUID is like SchemaUID.
func (f *Flow) LevelUID() []string { return f.config.header }

// New makes the gate, and the limits that there are instead of it if the configuration says so. The gate knows the mandatory objects only; it
// looks at the others when a request comes.
func New(cfg Config, objects Objects, sizes Sizes) (*Gate, *Limits, error) {
	var limits *Limits
	switch {
	case cfg.Reading < 0:
		return nil, nil, fmt.Errorf("--max-requests-inflight %d: must not be negative", cfg.Reading)
	case cfg.Changing < 0:
		return nil, nil, fmt.Errorf("--max-mutating-requests-inflight %d: must not be negative", cfg.Changing)
	case !cfg.Fair:
		limits = newLimits(cfg.Reading, cfg.Changing)
	case cfg.Reading+cfg.Changing == 0:
		return nil, nil, errors.New("--max-requests-inflight and --max-mutating-requests-inflight: priority and fairness divides their sum, which must not be 0")
	}
	return newGate(cfg.Reading+cfg.Changing, objects, sizes), limits, nil
}

func newGate(seats int, objects Objects, sizes Sizes) *Gate {
	g := &Gate{
		seats: seats, objects: objects, sizes: sizes, started: time.Now(), seed: maphash.MakeSeed(),
		levels: map[string]*level{}, watches: watches{count: map[interest]int{}},
	}
	g.build(nil, nil)
	return g
}

func (g *Gate) now() time.Duration { return time.Since(g.started) }

// Adjust is how often limits follow demand.
const adjust = 10 * time.Second

// Run moves limits after demand until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	tick := time.NewTicker(adjust)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.current(ctx) // when no request comes, too
			g.adjust(g.now())
		}
	}
}

// current is the setup of now. When the objects cannot be read, the one of before stays.
func (g *Gate) current(ctx context.Context) *setup {
	have := g.setup.Load()
	schemas, err := g.objects.FlowSchemas(ctx)
	if err != nil || schemas == nil {
		return have
	}
	levels, err := g.objects.PriorityLevels(ctx)
	if err != nil || levels == nil || schemas == have.schemas && levels == have.levels {
		return have
	}
	return g.build(schemas, levels)
}

// build makes the setup of these objects, the mandatory ones added where they are missing.
func (g *Gate) build(schemas *Schemas, levels *Levels) *setup {
	g.mu.Lock()
	defer g.mu.Unlock()
	if have := g.setup.Load(); have != nil && have.schemas == schemas && have.levels == levels {
		return have // another request was first
	}
	next := &setup{schemas: schemas, levels: levels}
	configs := map[string]*Level{}
	for _, l := range mandatoryLevels {
		configs[l.Name] = l
	}
	if levels != nil {
		for name, l := range levels.ByName {
			configs[name] = l
		}
	}
	all := slices.Clone(mandatorySchemas)
	if schemas != nil {
		all = slices.DeleteFunc(all, func(m *Schema) bool {
			return slices.ContainsFunc(schemas.InOrder, func(s *Schema) bool { return s.Name == m.Name })
		})
		all = append(all, schemas.InOrder...)
	}
	now := g.now()
	bounds := share(g.seats, configs)
	for name, config := range configs {
		if g.levels[name] == nil {
			g.levels[name] = newLevel(name, now)
		}
		g.levels[name].set(config, bounds[name], now)
	}
	for name, l := range g.levels {
		if configs[name] == nil { // goes on for those who are in it
			l.mu.Lock()
			l.gone = true
			l.mu.Unlock()
			g.going = append(g.going, l)
			delete(g.levels, name)
		}
	}
	for _, s := range Order(all).InOrder {
		if config := configs[s.Level]; config != nil {
			f := &Flow{schema: s, config: config, level: g.levels[s.Level], hash: maphash.String(g.seed, s.Name)}
			f.widest = min(mostSeats, max(1, int(math.Ceil(mostOfLevel*float64(bounds[s.Level].nominal)))))
			next.flows = append(next.flows, f)
			if s.Name == flowcontrolv1.FlowSchemaNameCatchAll {
				next.rest = f
			}
		}
	}
	if next.rest == nil { // only if somebody gave it another level, which validation forbids
		next.rest = next.flows[len(next.flows)-1]
	}
	g.setup.Store(next)
	return next
}

// Sort says which flow a request is of.
func (g *Gate) Sort(ctx context.Context, u *request.User, i *request.Info) *Flow {
	s := g.current(ctx)
	for _, f := range s.flows {
		if f.schema.matches(u, i) {
			return f
		}
	}
	return s.rest
}

// Rejected is the error of a request that gets no seats.
type Rejected struct{ Reason string }

func (r *Rejected) Error() string {
	switch r.Reason {
	case noSeat:
		return "as many requests like this one as may run at a time are running"
	case queueFull:
		return "too many requests like this one are waiting"
	case timedOut:
		return "other requests were running for as long as this one could wait"
	}
	return "the client went away while the request waited"
}

var (
	errNoSeat    = &Rejected{noSeat}
	errQueueFull = &Rejected{queueFull}
	errTimedOut  = &Rejected{timedOut}
	errCancelled = &Rejected{cancelled}
)

// mostWait is the longest that a request waits for seats; one with a deadline waits a quarter of what it has left.
const mostWait = time.Minute

// Enter waits until the request has its seats, which t.Leave gives back. query is that of its URL. The error is a *Rejected.
func (g *Gate) Enter(ctx context.Context, t *Ticket, f *Flow, u *request.User, i *request.Info, query string) error {
	t.gate, t.user, t.info, t.schema = g, u, i, f.schema.Name
	t.flow = f.schema.distinguish(u, i)
	t.hash = f.hash
	if t.flow != "" {
		t.hash ^= maphash.String(g.seed, t.flow)
	}
	t.work = g.estimate(i, query, f.widest)
	return g.admit(ctx, t, f.level)
}

func (g *Gate) admit(ctx context.Context, t *Ticket, l *level) error {
	t.ready = nil
	switch l.enter(t, g.now()) {
	case noSeat:
		return errNoSeat
	case queueFull:
		return errQueueFull
	}
	if t.ready == nil {
		return nil
	}
	return g.wait(ctx, t)
}

func (g *Gate) wait(ctx context.Context, t *Ticket) error {
	limit := mostWait
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/4)
	}
	end := time.NewTimer(limit)
	defer end.Stop()
	reason, err := timedOut, errTimedOut
	select {
	case <-t.ready:
		return nil
	case <-end.C:
	case <-ctx.Done():
		reason, err = cancelled, errCancelled
	}
	if !t.level.giveUp(t, reason, g.now()) {
		return nil // it was given its seats at that very moment
	}
	return err
}

// Watching counts a watch, for the seats of writes that it will be told of, until the returned function is called. A watch that
// selects by another field than the name is told of few things and is not counted.
func (g *Gate) Watching(i *request.Info, query string) (over func()) {
	if i.Name == "" && strings.Contains(query, "fieldSelector=") {
		return func() {}
	}
	return g.watches.add(interest{i.Group, i.Resource, i.Namespace, i.Name})
}

// adjust ends a period: levels that were busy borrow from those that were not.
func (g *Gate) adjust(now time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.going = slices.DeleteFunc(g.going, (*level).empty)
	seats, sum := 0, 0
	var limited []*level
	var wishes []wish
	for _, l := range g.levels {
		w, exempt := l.period(now)
		sum += l.nominal()
		if exempt {
			l.allow(int(math.Ceil(w.target)), now)
			seats -= int(math.Ceil(w.target))
			continue
		}
		limited, wishes = append(limited, l), append(wishes, w)
	}
	limits, fair := lend(max(0, seats+sum), wishes)
	g.fair = fair
	for i, l := range limited {
		l.allow(limits[i], now)
	}
}

// present are the configured levels by name, and the part of its target that each has.
func (g *Gate) present() ([]*level, float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*level, 0, len(g.levels))
	for _, l := range g.levels {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *level) int { return strings.Compare(a.name, b.name) })
	return out, g.fair
}

// every is present, and those that are not configured any more but have requests yet.
func (g *Gate) every() []*level {
	out, _ := g.present()
	g.mu.Lock()
	defer g.mu.Unlock()
	return append(out, g.going...)
}

// Told are the objects as they were last read, nil when nothing is known. The same pointers as before mean that nothing has changed.
func (g *Gate) Told(ctx context.Context) (*Schemas, *Levels) {
	s := g.current(ctx)
	return s.schemas, s.levels
}
