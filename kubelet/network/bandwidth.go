package network

import (
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// shaperLink is the name of the link through which a pod's packets are sent once more, if there is a bound to how many it may send: they arrive on
// the node's end of its veth, and only what leaves a link can be made to wait.
func shaperLink(podKey string) string { return "pb" + short(podKey) }

// bound makes the pod's packets wait for their turn, in a bucket of tokens: what it receives where it leaves the node's end, link, and what
// it sends in a link of their own, where the pod cannot get at it. A kernel without such links has them wait on the pod's own end, which
// a pod with CAP_NET_ADMIN could change.
func bound(link int, w wiring, pod Pod) error {
	if in := pod.Bandwidth.Ingress; in > 0 {
		if err := bucket(link, in, w.mtu); err != nil {
			return fmt.Errorf("bounding what the pod receives: %w", err)
		}
	}
	out := pod.Bandwidth.Egress
	if out == 0 {
		return nil
	}
	err := shape(w.addLink, link, shaperLink(pod.Key), out, w.mtu)
	if errors.Is(err, errNoShaper) {
		err = inPod(pod.NetNS, out, w.mtu)
	}
	if err != nil {
		return fmt.Errorf("bounding what the pod sends: %w", err)
	}
	return nil
}

// bucket of tokens on a link: a tenth of a second's worth may leave at once, and a twentieth's wait.
func bucket(link int, bits uint64, mtu int) error {
	rate := max(bits/8, 1)
	burst := within(rate/10, uint64(16*mtu))
	err := netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate, Buffer: netlink.Xmittime(rate, burst), Limit: burst + within(rate/20, uint64(32*mtu)),
	})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("this kernel has no token buckets: load their module (modprobe sch_tbf): %w", err)
	}
	return err
}

// within keeps a number of bytes between a least one and what the kernel can count.
func within(bytes, least uint64) uint32 {
	return uint32(min(max(bytes, least), math.MaxInt32/2))
}

var errNoShaper = errors.New("this kernel cannot bound what arrives on a link")

// shape leads all that arrives on link through a bucket on a link of its own.
func shape(addLink func(netlink.Link) error, link int, name string, bits uint64, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	if err := addLink(&netlink.Ifb{LinkAttrs: attrs}); errors.Is(err, unix.EOPNOTSUPP) {
		return errNoShaper
	} else if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding link %s: %w", name, err)
	}
	shaper, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	index := shaper.Attrs().Index
	if err := bucket(index, bits, mtu); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(shaper); err != nil {
		return fmt.Errorf("setting up %s: %w", name, err)
	}
	const all = unix.ETH_P_ALL
	err = netlink.QdiscReplace(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
	if err == nil {
		err = netlink.FilterReplace(&netlink.U32{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: link, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Handle: 0x80000800, Protocol: all},
			Actions:     []netlink.Action{netlink.NewMirredAction(index)},
		})
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return errors.Join(errNoShaper, removeLinks(name))
	}
	if err != nil {
		return fmt.Errorf("leading packets through %s: %w", name, err)
	}
	return nil
}

// inPod has the pod's packets wait before they leave it.
func inPod(netns string, bits uint64, mtu int) error {
	ns, err := os.Open(netns)
	if err != nil {
		return fmt.Errorf("opening network namespace: %w", err)
	}
	defer ns.Close()
	return inside(ns, func() error {
		eth, err := netlink.LinkByName(podLink)
		if err != nil {
			return fmt.Errorf("finding %s: %w", podLink, err)
		}
		return bucket(eth.Attrs().Index, bits, mtu)
	})
}
