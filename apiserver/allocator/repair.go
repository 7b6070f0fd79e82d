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

// repair does one round. The marks are read before the Services: a Service that was stored before its marks were read is
// found, so only one that is just being created, or a leak, seems unused.
func (a *Allocator) repair(ctx context.Context) error {
	pools := []*pool{a.Ports.pool}
	for _, r := range a.IPs {
		pools = append(pools, r.pool)
	}
	marked := make([]map[int]bool, len(pools))
	for i, p := range pools {
		var err error
		if marked[i], err = p.marked(ctx); err != nil {
			return fmt.Errorf("repairing %s: %w", p.name, err)
		}
	}
	uses, err := a.services.ServiceAddresses(ctx)
	if err != nil {
		return fmt.Errorf("listing what Services use: %w", err)
	}
	used := a.number(uses)
	for i, p := range pools {
		freed, added, err := p.repair(ctx, marked[i], used[p])
		if freed > 0 || added > 0 {
			a.log.Info("addresses repaired", zap.String("range", p.name), zap.Int("freed", freed), zap.Int("marked", added))
		}
		if err != nil {
			return fmt.Errorf("repairing %s: %w", p.name, err)
		}
	}
	return nil
}

// number turns what Services use into numbers of each pool. What is of no range, or used twice, a person is told.
func (a *Allocator) number(uses []Use) map[*pool]map[int]bool {
	out := map[*pool]map[int]bool{}
	note := func(u Use, p *pool, n int, what any) {
		switch {
		case p == nil:
			a.log.Error("service uses an address of no range", zap.String("namespace", u.Namespace), zap.String("name", u.Name), zap.Any("address", what))
		case out[p][n]:
			a.log.Error("service uses an address that another has", zap.String("namespace", u.Namespace), zap.String("name", u.Name), zap.Any("address", what))
		default:
			if out[p] == nil {
				out[p] = map[int]bool{}
			}
			out[p][n] = true
		}
	}
	for _, u := range uses {
		for _, ip := range u.IPs {
			var p *pool
			var n int
			for _, r := range a.IPs {
				if i, ok := r.number(ip); ok {
					p, n = r.pool, i
				}
			}
			note(u, p, n, ip)
		}
		seen := map[int]bool{} // one Service may have a port for several protocols
		for _, port := range u.Ports {
			if seen[port] {
				continue
			}
			seen[port] = true
			if a.Ports.Contains(port) {
				note(u, a.Ports.pool, port-a.Ports.ports.First, port)
			} else {
				note(u, nil, 0, port)
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
