package hostports

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"pilothouse.dev/kubelet/network"
)

// resync is how often Run looks what the kernel holds: while nobody changes any rule there, that is one question.
const resync = 30 * time.Second

// Ports are the host ports of this node's pods. It is the HostPorts of network.
type Ports struct {
	log *zap.Logger

	mu     sync.Mutex // guards what follows, and serializes talks with the kernel
	book   book       // nil until the kernel's table was read
	kernel kernel
	unled  bool      // it was said that 127.0.0.1 cannot be led to pods
	living *[]string // whose ports are still to be kept, all others' given up; nil: that is done
}

var _ network.HostPorts = (*Ports)(nil)

// New stores what it is given.
func New(log *zap.Logger) *Ports { return &Ports{log: log.Named("hostports")} }

// Set is that of network.HostPorts.
func (p *Ports) Set(pod network.Pod, at network.Attachment) error {
	want, err := fronts(pod, at)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(want) == 0 && p.book != nil && !p.book.holds(pod.Key) {
		return nil
	}
	if err := p.lookLocked(); err != nil {
		return err
	}
	next, err := p.keptLocked().with(pod.Key, want)
	if err != nil {
		return err
	}
	if err := p.turnLocked(next); err != nil {
		return err
	}
	if at.HostLink != "" && callsLoopback(want) {
		p.letLoopbackLocked(at.HostLink)
	}
	return nil
}

// Remove is that of network.HostPorts.
func (p *Ports) Remove(podKey string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.book != nil && !p.book.holds(podKey) {
		return nil
	}
	if err := p.lookLocked(); err != nil {
		return err
	}
	return p.turnLocked(p.keptLocked().without(func(o owner) bool { return o.key == podKey }))
}

// Keep is that of network.HostPorts.
func (p *Ports) Keep(podKeys []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.living = &podKeys // where the kernel refuses now, whoever comes next tries again
	if err := p.lookLocked(); err != nil {
		return err
	}
	return p.turnLocked(p.keptLocked())
}

// keptLocked is the book without what is to be given up since Keep.
func (p *Ports) keptLocked() book {
	if p.living == nil {
		return p.book
	}
	return p.book.without(func(o owner) bool { return !slices.Contains(*p.living, o.key) })
}

// Run mends what others changed in the kernel's tables, until the context ends. The tables stay: pods go on without us.
func (p *Ports) Run(ctx context.Context) error {
	turn := time.NewTicker(resync)
	defer turn.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-turn.C:
		}
		if err := p.Mend(); err != nil {
			p.log.Warn("looking at the rules of host ports", zap.Error(err))
		}
	}
}

// Mend makes the kernel hold what it should, if it does not.
func (p *Ports) Mend() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.lookLocked(); err != nil {
		return err
	}
	return p.turnLocked(p.keptLocked())
}

// lookLocked asks what the kernel holds; the first time that becomes the book.
func (p *Ports) lookLocked() error {
	if err := p.kernel.look(); err != nil {
		return err
	}
	if p.book != nil {
		return nil
	}
	found := book{}
	for v6, h := range p.kernel.have {
		for e := range h.elements {
			if at, to, ok := familyOf(v6).read(e); ok {
				found[at] = to
			}
		}
	}
	p.book = found
	return nil
}

// turnLocked has the kernel hold the next book, and forgets UDP flows that it would lead elsewhere.
func (p *Ports) turnLocked(next book) error {
	if err := p.kernel.set(next); err != nil {
		// The kernel did nothing, or it is not known what it did, or somebody came between our look and this: once more, from what is there.
		if again := p.kernel.look(); again != nil {
			return errors.Join(err, again)
		}
		if err := p.kernel.set(next); err != nil {
			return fmt.Errorf("writing host ports: %w", err)
		}
	}
	was := p.book
	p.book, p.living = next, nil
	if n, err := forget(was, next); err != nil {
		p.log.Warn("forgetting UDP flows of host ports", zap.Error(err)) // they end when their clients are silent for a while
	} else if n > 0 {
		p.log.Debug("UDP flows of host ports forgotten", zap.Uint("flows", n))
	}
	return nil
}

// letLoopbackLocked lets processes of the node reach the pod behind a link by calling 127.0.0.1. Where that cannot be set, such calls fail and
// everything else works; it is said once.
func (p *Ports) letLoopbackLocked(link string) {
	if err := routeLoopback(link); err != nil && !p.unled {
		p.unled = true
		p.log.Warn("host ports cannot be called by 127.0.0.1", zap.Error(err))
	}
}
