package allocator

import (
	"context"
	"fmt"

	"pilothouse.dev/apiserver/storage"
)

// Ports are the node ports. One port is one number, whatever the protocol: a Service that has it for several asks once.
type Ports struct {
	pool  *pool
	ports PortRange
}

func newPorts(store storage.Store, r PortRange) *Ports {
	size := r.Last - r.First + 1
	return &Ports{newPool(store, "ports."+r.String(), size, static(size, 32, 16, 128)), r}
}

// Range is the whole range.
func (p *Ports) Range() PortRange { return p.ports }

// Contains says whether port is of the range.
func (p *Ports) Contains(port int) bool { return port >= p.ports.First && port <= p.ports.Last }

// Allocate marks port. ErrAllocated, *NotInRange.
func (p *Ports) Allocate(ctx context.Context, port int) error {
	if !p.Contains(port) {
		return fmt.Errorf("allocating port %d: %w", port, &NotInRange{p.ports.String()})
	}
	if err := p.pool.allocate(ctx, port-p.ports.First); err != nil {
		return fmt.Errorf("allocating port %d: %w", port, err)
	}
	return nil
}

// AllocateNext marks and returns a free port. ErrFull.
func (p *Ports) AllocateNext(ctx context.Context) (int, error) {
	n, err := p.pool.allocateNext(ctx)
	if err != nil {
		return 0, fmt.Errorf("allocating a port of %s: %w", p.ports, err)
	}
	return p.ports.First + n, nil
}

// Release frees port; one that is free already, or outside of the range, is no error.
func (p *Ports) Release(ctx context.Context, port int) error {
	if !p.Contains(port) {
		return nil
	}
	if err := p.pool.release(ctx, port-p.ports.First); err != nil {
		return fmt.Errorf("releasing port %d: %w", port, err)
	}
	return nil
}
