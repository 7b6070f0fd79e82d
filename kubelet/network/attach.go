package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const podLink = "eth0"

// The gateway as pods see it. No machine has these addresses: pods know by heart that it is the other end of their link, the node's, and the packets
// never bear them.
var (
	gateway4 = netip.AddrFrom4([4]byte{169, 254, 1, 1})
	gateway6 = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1})
	nodeEnd  = macOf(gateway4) // the hardware address of the node's end of every pod's link
)

func gatewayOf(ip netip.Addr) netip.Addr {
	if ip.Is4() {
		return gateway4
	}
	return gateway6
}

// hostLink is the name of a pod's veth on the node; a link name has at most 15 characters.
func hostLink(podKey string) string { return "pv" + short(podKey) }

func short(podKey string) string {
	sum := sha256.Sum256([]byte(podKey))
	return hex.EncodeToString(sum[:])[:12]
}

// wiring is all that a pod's link is made of.
type wiring struct {
	name  string
	alias string // what ip shows beside the name
	ips   []netip.Addr
	from  map[bool]netip.Addr // by «is IPv4»: the node's address for packets of its own
	mtu   int
	ipv6  bool // links have IPv6 at all

	addLink func(netlink.Link) error
}

// connect makes the pair and sets up the pod's end, then the node's, in three messages to the kernel; the index of the node's end is returned. What was
// made by an earlier call that did not come to its end, or what somebody took away since, is put right.
func connect(netns string, w wiring) (int, error) {
	ns, err := os.Open(netns)
	if err != nil {
		return 0, fmt.Errorf("opening network namespace: %w", err)
	}
	defer ns.Close()
	host, err := openSocket()
	if err != nil {
		return 0, err
	}
	defer host.close()
	link, err := pair(host, ns, w)
	if err != nil {
		return 0, err
	}
	mac := macOf(w.ips[0])
	err = inside(ns, func() error {
		s, err := openSocket()
		if err != nil {
			return err
		}
		defer s.close()
		return furnish(s, link.peer, w)
	})
	if err != nil {
		return 0, fmt.Errorf("setting up the pod's end: %w", err)
	}
	b := &batch{}
	if w.ipv6 {
		b.noAutoAddress(link.index)
	}
	b.settings(link.index, w.alias, map[int]uint32{proxyARP: 0, sendRedirects: 0, rpFilter: 1}) // a pod speaks under its own address only
	b.linkUp(link.index)
	for _, ip := range w.ips {
		b.neighbour(link.index, ip, mac)
		b.route(podRoute(ip, link.index, w.from[ip.Is4()]))
	}
	if err := b.do(host); err != nil {
		return 0, fmt.Errorf("setting up the node's end: %w", err)
	}
	return link.index, nil
}

func podRoute(ip netip.Addr, link int, from netip.Addr) route {
	return route{to: netip.PrefixFrom(ip, ip.BitLen()), kind: unix.RTN_UNICAST, link: link, from: from}
}

// errForeign: the pod is in somebody else's network.
var errForeign = errors.New("the pod's network namespace has a link " + podLink + " that was not made here: was the pod joined by a CNI plugin?")

// pair makes the two ends, or finds them.
func pair(host socket, ns *os.File, w wiring) (linkInfo, error) {
	for try := 1; ; try++ {
		b := &batch{}
		b.addVeth(w.name, ns, w.mtu, nodeEnd, macOf(w.ips[0]))
		b.getLink(w.name)
		answers, err := b.send(host)
		if err != nil {
			return linkInfo{}, err
		}
		link, findErr := linkOf(answers[1])
		switch made := answers[0].err; {
		case made == nil:
			return link, findErr
		case !errors.Is(made, unix.EEXIST):
			return linkInfo{}, fmt.Errorf("adding veth: %w", made)
		case findErr != nil:
			return linkInfo{}, errForeign
		}
		ends, err := areEnds(ns, link)
		if err != nil || ends {
			return link, err
		}
		// The link of an older sandbox of this pod.
		if try > 1 {
			return linkInfo{}, fmt.Errorf("adding veth: %w", unix.EEXIST)
		}
		b = &batch{}
		b.deleteLink(w.name)
		if err := b.do(host, unix.ENODEV); err != nil {
			return linkInfo{}, err
		}
	}
}

// areEnds says whether a link of the node and eth0 in the namespace are one pair.
func areEnds(ns *os.File, link linkInfo) (bool, error) {
	var answers []answer
	err := inside(ns, func() error {
		s, err := openSocket()
		if err != nil {
			return err
		}
		defer s.close()
		b := &batch{}
		b.getLink(podLink)
		answers, err = b.send(s)
		return err
	})
	if err != nil {
		return false, err
	}
	eth, err := linkOf(answers[0])
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil && eth.index == link.peer && eth.peer == link.index, err
}

// furnish sets up the pod's end: it runs in the pod's namespace. All that a pod would ask its network is told it before: where its gateway is, and that
// nobody else has its addresses. So its first packet leaves at once.
func furnish(s socket, eth int, w wiring) error {
	b := &batch{}
	if w.ipv6 {
		b.noAutoAddress(eth)
	}
	b.linkUp(eth)
	for _, ip := range w.ips {
		if ip.Is6() {
			// Nobody but the node is on this link, and it advertises nothing.
			if err := setSysctl("ipv6/conf/"+podLink+"/disable_ipv6", "0"); err != nil {
				return fmt.Errorf("allowing IPv6: %w", err)
			}
			if err := setSysctl("ipv6/conf/"+podLink+"/accept_ra", "0"); err != nil {
				return fmt.Errorf("turning away router advertisements: %w", err)
			}
			b.address(eth, netip.PrefixFrom(linkLocal(macOf(w.ips[0])), 64), unix.RT_SCOPE_LINK)
		}
		b.address(eth, netip.PrefixFrom(ip, ip.BitLen()), unix.RT_SCOPE_UNIVERSE)
		b.neighbour(eth, gatewayOf(ip), nodeEnd)
		everywhere := netip.PrefixFrom(ip, 0).Masked()
		b.route(route{to: everywhere, kind: unix.RTN_UNICAST, via: gatewayOf(ip), link: eth, blind: true})
	}
	return b.do(s)
}

// removeLinks deletes links by name; a missing one is no error.
func removeLinks(names ...string) error {
	b := &batch{}
	for _, name := range names {
		b.deleteLink(name)
	}
	return b.onHost(unix.ENODEV)
}
