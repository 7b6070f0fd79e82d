package allocator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// leakRounds is in how many rounds, one after another, a number must be seen marked but unused before it is freed.
const leakRounds = 3

// Run repairs every Config.Repair until ctx ends, the first time at once; a round that fails is tried again soon.
func (a *Allocator) Run(ctx context.Context) error {
	for {
		wait := a.every
		if err := a.repair(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("addresses not repaired", zap.Error(err))
			wait = min(wait, 5*time.Second)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// repair does one round.
func (a *Allocator) repair(ctx context.Context) error {
	return errors.Join(a.turn.take(ctx, repairing, func() error { return a.round(ctx) }), a.repairPorts(ctx))
}

// repairPorts does one round for node ports. The marks are read before the Services: a Service that was stored before its marks
// were read is found, so only one that is just being created, or a leak, seems unused.
func (a *Allocator) repairPorts(ctx context.Context) error {
	p := a.Ports.pool
	marked, err := p.marked(ctx)
	if err != nil {
		return fmt.Errorf("repairing %s: %w", p.name, err)
	}
	uses, err := a.parts.Cluster.ServiceAddresses(ctx)
	if err != nil {
		return fmt.Errorf("listing what Services use: %w", err)
	}
	freed, added, err := p.repair(ctx, marked, a.portsUsed(uses))
	if freed > 0 || added > 0 {
		a.log.Info("ports repaired", zap.String("range", p.name), zap.Int("freed", freed), zap.Int("marked", added))
	}
	if err != nil {
		return fmt.Errorf("repairing %s: %w", p.name, err)
	}
	return nil
}

// portsUsed turns what Services use into numbers. What is of no range, or used twice, a person is told.
func (a *Allocator) portsUsed(uses []Use) map[int]bool {
	out := map[int]bool{}
	for _, u := range uses {
		tell := func(what string, port int) {
			a.log.Error(what, zap.String("namespace", u.Namespace), zap.String("name", u.Name), zap.Int("port", port))
		}
		seen := map[int]bool{} // one Service may have a port for several protocols
		for _, port := range u.Ports {
			if seen[port] {
				continue
			}
			seen[port] = true
			switch n := port - a.Ports.ports.First; {
			case !a.Ports.Contains(port):
				tell("service uses a port of no range", port)
			case out[n]:
				tell("service uses a port that another has", port)
			default:
				out[n] = true
			}
		}
	}
	return out
}

// marked reads all numbers that are marked now.
func (p *pool) marked(ctx context.Context) (map[int]bool, error) {
	out := map[int]bool{}
	err := p.locked(ctx, func() error {
		if err := p.refresh(ctx); err != nil {
			return err
		}
		for page, e := range p.pages {
			b := decode(e)
			for n := range min(pageSize, p.size-page*pageSize) {
				if b.has(n) {
					out[page*pageSize+n] = true
				}
			}
		}
		return nil
	})
	return out, err
}

// repair marks what is used and frees what leaked. A number given anew by this process meanwhile starts its rounds again.
func (p *pool) repair(ctx context.Context, marked, used map[int]bool) (freed, added int, err error) {
	for n := range used {
		if marked[n] {
			continue
		}
		err := p.locked(ctx, func() error { return p.mark(ctx, n) })
		if err != nil && !errors.Is(err, ErrAllocated) {
			return freed, added, err
		} else if err == nil {
			added++
		}
	}
	var leaked []int
	err = p.locked(ctx, func() error {
		for n := range p.leaks {
			if !marked[n] || used[n] {
				delete(p.leaks, n)
			}
		}
		for n := range marked {
			if used[n] {
				continue
			}
			if p.leaks[n]++; p.leaks[n] >= leakRounds {
				leaked = append(leaked, n)
			}
		}
		return nil
	})
	if err != nil {
		return freed, added, err
	}
	for _, n := range leaked {
		err := p.locked(ctx, func() error {
			if p.leaks[n] < leakRounds { // given anew just now
				return nil
			}
			if err := p.free(ctx, n); err != nil {
				return err
			}
			freed++
			delete(p.leaks, n)
			return nil
		})
		if err != nil {
			return freed, added, err
		}
	}
	return freed, added, nil
}
