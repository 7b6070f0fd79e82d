package loop

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/daemon"
)

// Line is one line of the table of controllers.
type Line struct {
	Name    string
	New     func(Tools) Controller
	Workers int
	Off     bool   // what it needs is not configured
	Account string // the service account in kube-system as which it writes
	Events  string // the component that its events name; empty: NAME-controller
}

// Identities are the clients of a service account in kube-system, and what says whether they can be used yet.
type Identities func(account string) (*client.Clients, func(context.Context) error, error)

// Recorders make a recorder of events for a component.
type Recorders interface {
	Of(component string) record.EventRecorder
}

// component is whom a controller's events name.
func (l Line) component() string {
	if l.Events != "" {
		return l.Events
	}
	return l.Name + "-controller"
}

// Crew runs all controllers of a table over one set of caches.
type Crew struct {
	table    []Line
	clients  *client.Clients
	as       Identities
	recorder Recorders
	metrics  *Metrics
	families *Families
	log      *zap.Logger

	mu    sync.Mutex
	loops []*Loop // guarded by mu; those of the present term
}

// NewCrew stores what it needs; nothing runs yet. clients watch for all; with as nil they write for all, too.
func NewCrew(table []Line, clients *client.Clients, as Identities, recorder Recorders, reg prometheus.Registerer, log *zap.Logger) *Crew {
	return &Crew{table: table, clients: clients, as: as, recorder: recorder, metrics: NewMetrics(reg), families: NewFamilies(reg), log: log}
}

// Run is one term of work: caches and controllers are made anew, so that nothing is remembered from a former one. It returns
// when ctx has ended and everything stands still, or when a controller fails.
func (c *Crew) Run(ctx context.Context) error {
	factory := client.Informers(c.clients.Kube)
	group := daemon.NewGroup(c.log)
	var loops []*Loop
	for _, line := range c.table {
		t := Tools{
			Clients: c.clients, Watching: c.clients, Informers: factory, Recorder: c.recorder.Of(line.component()),
			Log: c.log.Named(line.Name).With(zap.String("controller", line.Name)), Metrics: c.families,
		}
		var ready func(context.Context) error
		if c.as != nil && line.Account != "" {
			var err error
			if t.Clients, ready, err = c.as(line.Account); err != nil {
				return fmt.Errorf("controller %s: %w", line.Name, err)
			}
		}
		l, err := New(line.Name, line.New(t), t, line.Workers, c.metrics)
		if err != nil {
			return err
		}
		l.Await(ready)
		loops = append(loops, l)
		group.Add(line.Name, l.Run)
	}
	c.set(loops)
	defer c.set(nil)
	informing, cancel := context.WithCancel(ctx)
	factory.Start(informing.Done())
	defer factory.Shutdown()
	defer cancel()
	return group.Run(ctx)
}

func (c *Crew) set(loops []*Loop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loops = loops
}

// Check is a health check: an error while a term has begun and some caches are not yet filled.
func (c *Crew) Check(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, l := range c.loops {
		switch {
		case !l.known.Load():
			errs = append(errs, fmt.Errorf("%s waits for its identity", l.name))
		case !l.Synced():
			errs = append(errs, fmt.Errorf("%s waits for its caches", l.name))
		}
	}
	return errors.Join(errs...)
}
