// Package nodeaddr knows which addresses of this node answer node ports.
//
// Without ranges these are the addresses that the Node object names. With ranges
// they are the machine's own addresses within them, followed as they come and
// go. Loopback is never among them.
//
// main feeds it the Node, the syncer asks it for the list.
package nodeaddr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// Book is the list of addresses of one family.
type Book struct {
	log    *zap.Logger
	v6     bool
	ranges []netip.Prefix // empty: what the Node object says
	woken  chan struct{}

	mu    sync.Mutex
	known []netip.Addr // sorted
}

// New makes an empty Book of IPv4 (or IPv6) addresses.
func New(ranges []netip.Prefix, v6 bool, log *zap.Logger) *Book {
	return &Book{log: log, v6: v6, ranges: ranges, woken: make(chan struct{}, 1)}
}

// Woken carries a token when the list has changed.
func (b *Book) Woken() <-chan struct{} { return b.woken }

// Addresses is the list, sorted.
func (b *Book) Addresses() []netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known
}

// SetNode tells what the Node object says of this node.
func (b *Book) SetNode(n *corev1.Node) {
	if len(b.ranges) > 0 {
		return
	}
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			out = append(out, ip)
		}
	}
	b.set(out)
}

// Run follows the machine's addresses if ranges were given.
func (b *Book) Run(ctx context.Context) error {
	if len(b.ranges) == 0 {
		<-ctx.Done()
		return nil
	}
	updates := make(chan netlink.AddrUpdate)
	done := make(chan struct{})
	defer func() {
		close(done)
		for range updates { // the subscription closes it when it has ended
		}
	}()
	err := netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{
		ErrorCallback: func(err error) { b.log.Warn("following the machine's addresses", zap.Error(err)) },
	})
	if err != nil {
		close(updates)
		return fmt.Errorf("following the machine's addresses: %w", err)
	}
	for {
		if err := b.list(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-updates:
			if !ok {
				return fmt.Errorf("following the machine's addresses: the subscription ended")
			}
		}
	}
}

// list reads the machine's addresses.
func (b *Book) list() error {
	family := netlink.FAMILY_V4
	if b.v6 {
		family = netlink.FAMILY_V6
	}
	all, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
	if err != nil {
		return fmt.Errorf("listing the machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ok && b.within(ip.Unmap()) {
			out = append(out, ip.Unmap())
		}
	}
	b.set(out)
	return nil
}

// HasIPv6 tells whether the machine has an IPv6 address that others could reach.
func HasIPv6() (bool, error) {
	all, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V6) })
	if err != nil {
		return false, fmt.Errorf("listing the machine's addresses: %w", err)
	}
	return slices.ContainsFunc(all, func(a netlink.Addr) bool { return a.IP.IsGlobalUnicast() }), nil
}

func (b *Book) within(ip netip.Addr) bool {
	return slices.ContainsFunc(b.ranges, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// set replaces the list.
func (b *Book) set(now []netip.Addr) {
	now = slices.DeleteFunc(now, func(a netip.Addr) bool { return a.Is6() != b.v6 || a.IsLoopback() || a.IsLinkLocalUnicast() })
	slices.SortFunc(now, netip.Addr.Compare)
	now = slices.Compact(now)
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(now, b.known) {
		return
	}
	b.known = now
	select {
	case b.woken <- struct{}{}:
	default:
	}
}

// whole lists again while the kernel says that the list changed under it: half a list is none.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		got, err := list()
		if try == listTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
}

// listTries bounds that: a machine on which links or routes change without pause says so.
const listTries = 100
