// Package allocator gives Services their cluster IPs and node ports. The service-addresses admission plugin calls it.
//
// An address is taken by making its IPAddress object (networking.k8s.io), which is named like it and says whose it is: there can
// be only one, so any number of API servers may allocate at once, and what others made IPAddresses for is never given. The ranges
// are the server's own (--service-cluster-ip-range) and those of ServiceCIDRs that are ready and not being deleted. Which
// addresses are taken is remembered in a process as a hint alone (known).
//
// Node ports are a set of numbers from 0 on, kept as bitmaps in etcd, 4,096 numbers an object, changed by compare and swap; an
// allocation is one round trip where nobody else wrote.
//
// What is taken for a Service which was never stored, or free though a Service has it, is not undone where it happens: the
// repair loop (Run) finds it. It frees only what was seen taken but unused in leakRounds rounds one after another, because a
// Service that is just being created looks the same.
//
// The lowest numbers of a range are left to those who ask for one by name; AllocateNext takes them only when all others are
// gone. How many that are is Kubernetes' documented rule: see static.
package allocator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

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

// Cluster tells what there is. What it calls the newest state holds all that was stored before the call.
type Cluster interface {
	// ServiceAddresses are what all Services have, in the newest state.
	ServiceAddresses(ctx context.Context) ([]Use, error)
	// TakenAddresses are all addresses that have their object, in the newest state.
	TakenAddresses(ctx context.Context) ([]Taken, error)
	// ServiceRanges are those of ServiceCIDRs that are ready, as fresh as may be had at once.
	ServiceRanges(ctx context.Context) ([]netip.Prefix, error)
}

// Owner is the Service that an address is for.
type Owner struct{ Namespace, Name string }

// Taken is an address that has its object.
type Taken struct {
	IP    netip.Addr
	UID   string // of the object
	Ours  bool   // made here, for a Service
	Owner Owner  // when it is ours
}

// Parts are what an Allocator works with.
type Parts struct {
	Ports   storage.Backend // where the bitmaps of node ports are kept
	Cluster Cluster
	// Make makes the object of an address, for a Service; an apierrors AlreadyExists when there is one.
	Make func(ctx context.Context, ip netip.Addr, owner Owner) error
	// Drop deletes the object of an address when it was made here for that Service; else it does nothing.
	Drop func(ctx context.Context, ip netip.Addr, owner Owner) error
	Log  *zap.Logger
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

	parts   Parts
	every   time.Duration
	log     *zap.Logger
	known   known
	settled atomic.Bool // every address in use had its object

	turn  turn // who has it may use what follows
	leaks map[leak]int
}

// New makes the allocators; they read nothing yet.
func New(cfg Config, p Parts) (*Allocator, error) {
	a := &Allocator{
		parts: p, every: cfg.Repair, log: p.Log.Named("allocator"),
		known: known{taken: map[netip.Addr]bool{}}, turn: newTurn(),
	}
	if a.every == 0 {
		a.every = 3 * time.Minute
	}
	for _, c := range cfg.CIDRs {
		b, err := newBlock(c)
		if err != nil {
			return nil, err
		}
		a.IPs = append(a.IPs, &IPs{a, b})
	}
	if len(a.IPs) == 0 {
		return nil, errors.New("no range of cluster IPs")
	}
	if cfg.Ports.First < 1 || cfg.Ports.Last > 65535 || cfg.Ports.First > cfg.Ports.Last {
		return nil, fmt.Errorf("node ports %s are no range of ports", cfg.Ports)
	}
	a.Ports = newPorts(p.Ports.Store(storage.Kind{Group: "allocation.pilothouse.dev", Plural: "bitmaps"}), cfg.Ports)
	return a, nil
}

// occupy makes the object of an address. ErrAllocated when there is one.
func (a *Allocator) occupy(ctx context.Context, ip netip.Addr, owner Owner) error {
	err := a.parts.Make(ctx, ip, owner)
	if apierrors.IsAlreadyExists(err) {
		return ErrAllocated
	}
	return err
}

// static is how many of a range's lowest numbers are left to explicit requests: a share of its size within bounds.
func static(size, share, least, most int) int {
	return min(max(least, size/share), most)
}
