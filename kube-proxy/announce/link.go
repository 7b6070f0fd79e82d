package announce

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// mark is in the addresses that are ours: who made them, as `ip -details address` (iproute2 6.3 and later) shows it. The
	// kernel keeps it since 5.18, uses 1 to 3 itself, and leaves the rest to us.
	mark = 107
	// attrProtocol is IFA_PROTO, which x/sys does not name.
	attrProtocol = 11
)

// kernel is the network namespace whose addresses we keep: by descriptor, 0 the process's own.
type kernel struct{ ns int }

// own is an address of this machine.
type own struct {
	prefix netip.Prefix
	link   int
	ours   bool
}

// do runs f in the namespace.
func (k kernel) do(f func() error) error {
	if k.ns == 0 {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(netns.NsHandle(k.ns)); err != nil {
			done <- fmt.Errorf("entering the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// addresses lists all addresses of the machine.
func (k kernel) addresses() ([]own, error) {
	var out []own
	err := k.do(func() (err error) {
		out, err = dump()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the machine's addresses: %w", err)
	}
	return out, nil
}

// dumpTries bounds how often a list is begun anew because it changed meanwhile: half a list is none.
const dumpTries = 100

// dump lists the addresses of the namespace that the thread is in.
func dump() ([]own, error) {
	for try := 1; ; try++ {
		all, err := dumpOnce()
		if err == nil || try == dumpTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}

func dumpOnce() ([]own, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, err
	}
	var out []own
	for _, m := range messages {
		if len(m) < unix.SizeofIfAddrmsg {
			return nil, fmt.Errorf("an answer of %d bytes", len(m))
		}
		head := nl.DeserializeIfAddrmsg(m)
		attrs, err := nl.ParseRouteAttr(m[head.Len():])
		if err != nil {
			return nil, err
		}
		a := own{link: int(head.Index)}
		for _, attr := range attrs {
			switch attr.Attr.Type {
			case unix.IFA_LOCAL, unix.IFA_ADDRESS:
				// On a link between two, the second is the peer's; local is sent first or not at all.
				if ip, ok := netip.AddrFromSlice(attr.Value); ok && !a.prefix.IsValid() {
					a.prefix = netip.PrefixFrom(ip, int(head.Prefixlen))
				}
			case attrProtocol:
				a.ours = len(attr.Value) == 1 && attr.Value[0] == mark
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// linkFor finds where an address belongs: on the link whose network it is in, else on the one with an address of the node's.
func linkFor(a netip.Addr, all []own, nodes []netip.Addr) (int, error) {
	link, bits := 0, -1
	for _, have := range all {
		p := have.prefix
		if have.ours || p.IsSingleIP() || p.Addr().IsLoopback() || !p.Contains(a) || p.Bits() <= bits {
			continue
		}
		link, bits = have.link, p.Bits()
	}
	if link != 0 {
		return link, nil
	}
	for _, have := range all {
		if !have.ours && have.prefix.Addr().Is4() == a.Is4() && slices.Contains(nodes, have.prefix.Addr()) {
			return have.link, nil
		}
	}
	return 0, fmt.Errorf("no link of this machine has a network with %s, nor the node's address %v", a, nodes)
}

// add gives the machine an address. It is never chosen as the source of what the machine sends itself: IPv4's has the scope of
// the host, IPv6's is deprecated from the beginning. It is not tested for duplicates, which would take a second and be right.
func (k kernel) add(a netip.Addr, link int) error {
	req, msg := change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK, a, link)
	if a.Is4() {
		msg.Scope = unix.RT_SCOPE_HOST
	} else {
		flags := make([]byte, 4)
		nl.NativeEndian().PutUint32(flags, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, flags))
		forever := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Prefered: 0, Valid: ^uint32(0)}}
		req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, forever.Serialize()))
	}
	req.AddData(nl.NewRtAttr(attrProtocol, []byte{mark}))
	if err := k.execute(req); err != nil {
		return fmt.Errorf("adding %s to %s: %w", a, k.nameOf(link), err)
	}
	return nil
}

// remove takes an address from the machine; that it is gone already is no error.
func (k kernel) remove(a netip.Addr, link int) error {
	req, _ := change(unix.RTM_DELADDR, unix.NLM_F_ACK, a, link)
	if err := k.execute(req); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing %s from %s: %w", a, k.nameOf(link), err)
	}
	return nil
}

func change(what, flags int, a netip.Addr, link int) (*nl.NetlinkRequest, *nl.IfAddrmsg) {
	family := unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	msg := nl.NewIfAddrmsg(family)
	msg.Index, msg.Prefixlen = uint32(link), uint8(a.BitLen())
	req := nl.NewNetlinkRequest(what, flags)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
	return req, msg
}

func (k kernel) execute(req *nl.NetlinkRequest) error {
	return k.do(func() error {
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
}

// nameOf is a link's name for people.
func (k kernel) nameOf(link int) string {
	name := fmt.Sprintf("link %d", link)
	_ = k.do(func() error { // it is for a message: the number will do
		if i, err := net.InterfaceByIndex(link); err == nil {
			name = i.Name
		}
		return nil
	})
	return name
}

// follow calls lost for each address that the machine loses, until done is closed; failed hears of what cannot be followed.
func (k kernel) follow(done <-chan struct{}, lost func(netip.Addr), failed func(error)) error {
	updates := make(chan netlink.AddrUpdate)
	opts := netlink.AddrSubscribeOptions{ErrorCallback: failed}
	if k.ns != 0 {
		ns := netns.NsHandle(k.ns)
		opts.Namespace = &ns
	}
	if err := netlink.AddrSubscribeWithOptions(updates, done, opts); err != nil {
		return fmt.Errorf("following the machine's addresses: %w", err)
	}
	for u := range updates { // the subscription closes it when it has ended
		if ip, ok := netip.AddrFromSlice(u.LinkAddress.IP); ok && !u.NewAddr {
			lost(ip.Unmap())
		}
	}
	return nil
}

// Remove takes all addresses that are marked as ours from the machine; ns is as in Config.
func Remove(ns int) error {
	k := kernel{ns}
	all, err := k.addresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range all {
		if a.ours {
			errs = append(errs, k.remove(a.prefix.Addr(), a.link))
		}
	}
	return errors.Join(errs...)
}
