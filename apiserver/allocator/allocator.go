// Package allocator gives Services their cluster IPs and node ports. The service-addresses admission plugin calls it.
//
// Each range is a set of numbers from 0 on, kept as bitmaps in etcd, 4,096 numbers an object, changed by compare and swap. So
// any number of API servers may allocate at once, and no number is ever given twice while it is marked. Within a process the
// last known bitmaps are remembered, so that an allocation is one round trip where nobody else wrote.
//
// A number that is marked for a Service which was never stored, or unmarked though a Service has it, is not undone where it
// happens: the repair loop (Run) finds it. It frees a number only after it was seen marked but unused in leakRounds rounds one
// after another, because a Service that is just being created looks the same.
//
// The lowest numbers of a range are left to those who ask for one by name; AllocateNext takes them only when all others are
// gone. How many that are is Kubernetes' documented rule: see static.
package allocator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"pilothouse.dev/apiserver/storage"
)

// The errors that are about the request and not about etcd; NotInRange is the third.
var (
	ErrFull      = errors.New("range is full")
	ErrAllocated = errors.New("already allocated")
)

// NotInRange is the error of asking for an address or port outside of the range.
type NotInRange struct{ Range string }

func (e *NotInRange) Error() string { return "not in the valid range " + e.Range }

// Config says what there is to give.
type Config struct {
	CIDRs  []netip.Prefix // of cluster IPs: one, or one of each family
	Ports  PortRange      // of node ports
	Repair time.Duration  // between two repairs; 0: 3 min
}

// PortRange is a range of ports with both ends in it.
type PortRange struct{ First, Last int }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Services tells what Services have. The caller reads it consistently, so that all that was stored before the call is in it.
type Services interface {
	ServiceAddresses(ctx context.Context) ([]Use, error)
}

// Use is what one Service has.
type Use struct {
	Namespace, Name string
	IPs             []netip.Addr
	Ports           []int
}

// Allocator holds the ranges of one cluster.
type Allocator struct {
	IPs   []*IPs // in the order of Config.CIDRs
	Ports *Ports

	services Services
	every    time.Duration
	log      *zap.Logger
}

// New makes the allocators; they read nothing yet.
func New(db storage.Backend, cfg Config, services Services, log *zap.Logger) (*Allocator, error) {
	store := db.Store(storage.Kind{Group: "allocation.pilothouse.dev", Plural: "bitmaps"})
	a := &Allocator{services: services, every: cfg.Repair, log: log.Named("allocator")}
	if a.every == 0 {
		a.every = 3 * time.Minute
	}
	for _, c := range cfg.CIDRs {
		ips, err := newIPs(store, c)
		if err != nil {
			return nil, err
		}
		a.IPs = append(a.IPs, ips)
	}
	if len(a.IPs) == 0 {
		return nil, errors.New("no range of cluster IPs")
	}
	if cfg.Ports.First < 1 || cfg.Ports.Last > 65535 || cfg.Ports.First > cfg.Ports.Last {
		return nil, fmt.Errorf("node ports %s are no range of ports", cfg.Ports)
	}
	a.Ports = newPorts(store, cfg.Ports)
	return a, nil
}

// static is how many of a range's lowest numbers are left to explicit requests: a share of its size within bounds.
func static(size, share, least, most int) int {
	return min(max(least, size/share), most)
}
