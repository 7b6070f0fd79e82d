// Package syncer is the loop between the API and the kernel: when something has
// changed it takes the newest table and has it written, at most every so often;
// and every so often it has the rules looked after though nothing has changed.
//
// One goroutine owns the rules and the connection table. The API server may be
// away for as long as it likes: nothing wakes the loop then, and the rules stay.
package syncer

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nftables"
)

// Table is where the newest table comes from.
type Table interface {
	Woken() <-chan struct{}
	Take() (*changes.Table, changes.News)
}

// Addresses is where the node's addresses come from.
type Addresses interface {
	Woken() <-chan struct{}
	Addresses() []netip.Addr
}

// Rules are written with the whole wish, any number of times.
type Rules interface {
	Set(nftables.Wish) (nftables.Stats, error)
	Verify() (nftables.Stats, error)
}

// Flows forgets what the change from one wish to the next made stale.
type Flows interface {
	Forget(was, now nftables.Wish) (int, error)
}

// Health hears how far the rules are behind.
type Health interface {
	Queued(now time.Time)
	Synced(now time.Time)
}

// Parts is what a Syncer works with.
type Parts struct {
	Family    string // IPv4 or IPv6: the label of its metrics
	Table     Table
	Addresses Addresses
	Rules     Rules
	Flows     Flows
	Health    Health
	Offer     func(*changes.Table) // hears of every table written
	// Ready returns once Table and Addresses have heard all there is, or ctx ends.
	Ready func(ctx context.Context) error
}

// Periods are the pace of the loop.
type Periods struct {
	Min    time.Duration // between two writes
	Verify time.Duration // between two looks at what the kernel holds
}

// Backoff bounds after a write that failed.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// Syncer is the loop.
type Syncer struct {
	parts   Parts
	periods Periods
	log     *zap.Logger
	meters  meters

	// Owned by Run.
	wish  nftables.Wish // last written
	begun bool          // something was written
	retry time.Duration // wait before the next try; 0: all is written
	wrote time.Time     // when the last write, or try, was over
}

// New makes a Syncer.
func New(p Parts, periods Periods, log *zap.Logger) *Syncer {
	return &Syncer{parts: p, periods: periods, log: log, meters: metersOf(p.Family), wish: nftables.Wish{Table: &changes.Table{}}}
}

// Run works until ctx ends. What is in the kernel before the first table is
// complete, of an older run perhaps, is left as it is until then.
func (s *Syncer) Run(ctx context.Context) error {
	if err := s.parts.Ready(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("waiting for services and endpoints: %w", err)
	}
	s.write()

	verify := time.NewTicker(s.periods.Verify)
	defer verify.Stop()
	for {
		if s.retry > 0 {
			if !sleep(ctx, max(s.periods.Min, s.retry)) {
				return nil
			}
			s.write()
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.parts.Table.Woken():
		case <-s.parts.Addresses.Woken():
		case <-verify.C:
			s.verify()
			continue
		}
		// Writes are apart by the pause; what wakes us meanwhile is written together.
		if pause := s.periods.Min - time.Since(s.wrote); pause > 0 {
			if !sleep(ctx, pause) {
				return nil
			}
			drain(s.parts.Table.Woken())
			drain(s.parts.Addresses.Woken())
		}
		s.write()
	}
}

// drain takes the token, if there is one.
func drain(woken <-chan struct{}) {
	select {
	case <-woken:
	default:
	}
}

// sleep waits; false: ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// write has the newest table written.
func (s *Syncer) write() {
	start := time.Now()
	defer func() { s.wrote = time.Now() }()
	s.parts.Health.Queued(start)
	table, news := s.parts.Table.Take()
	s.meters.count(news)
	wish := nftables.Wish{Table: table, NodeAddresses: s.parts.Addresses.Addresses()}
	stats, err := s.parts.Rules.Set(wish)
	if err != nil {
		s.meters.failures.Inc()
		s.retry = min(max(2*s.retry, firstRetry), lastRetry)
		s.log.Error("writing the rules failed", zap.Duration("retryAfter", s.retry), zap.Error(err))
		return
	}
	was := s.wish
	s.wish, s.retry = wish, 0
	s.note(stats)
	s.forget(was, wish)
	s.parts.Offer(table)
	s.meters.written(start, news, !s.begun, was.Table, table)
	s.begun = true
	s.parts.Health.Synced(time.Now())
	s.log.Debug("rules written", zap.Int("services", table.Len()), zap.Int("elements", stats.Elements),
		zap.Int("chains", stats.Chains), zap.Duration("took", time.Since(start)))
}

// verify has the rules looked after.
func (s *Syncer) verify() {
	start := time.Now()
	stats, err := s.parts.Rules.Verify()
	if err != nil { // the next look tries again
		s.meters.failures.Inc()
		s.log.Error("looking after the rules failed", zap.Error(err))
		return
	}
	s.note(stats)
	s.meters.verified(start)
	s.parts.Health.Synced(time.Now())
}

// note tells of a repair: on the first write it is the rule, later somebody has
// been at the table.
func (s *Syncer) note(stats nftables.Stats) {
	if !stats.Repaired {
		return
	}
	s.meters.repairs.Inc()
	s.log.Info("the kernel did not hold our rules; it does now", zap.Int("elements", stats.Elements), zap.Int("chains", stats.Chains))
}

// forget drops stale flows. A failure is told and left: the next change of the
// service tries again, and a flow that goes quiet ends by itself.
func (s *Syncer) forget(was, now nftables.Wish) {
	start := time.Now()
	n, err := s.parts.Flows.Forget(was, now)
	s.meters.forgotten.Add(float64(n))
	s.meters.forget.Observe(time.Since(start).Seconds())
	if err != nil {
		s.log.Warn("forgetting stale flows", zap.Error(err))
	}
}
