package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// lostLocked are the pods that were joined and have no route among those that there are: somebody took it away, or the link.
func (n *Network) lostLocked(have []route) (lost []string, err error) {
	there := make(map[netip.Addr]route, len(have))
	for _, r := range have {
		if r.toPod() {
			there[r.to.Addr()] = r
		}
	}
	b := &batch{}
	for key, m := range n.joined {
		for _, ip := range m.ips {
			r, ok := there[ip]
			if !ok {
				lost = append(lost, key)
				break
			}
			if from := n.from[ip.Is4()]; r.from != from { // the node has another address than before
				b.route(podRoute(ip, r.link, from))
			}
		}
	}
	if err := b.onHost(); err != nil {
		return nil, err
	}
	return lost, nil
}

// rejoin makes what a pod lacks of its link, with the addresses that it has.
func (n *Network) rejoin(key string) error {
	defer n.lockPod(key)()
	n.mu.Lock()
	m := n.joined[key]
	if m == nil {
		n.mu.Unlock()
		return nil // it was torn down meanwhile
	}
	w := n.wiringLocked(m.pod, m.ips)
	n.mu.Unlock()
	if old, err := isPort(w.name); err != nil || old {
		return err // on the bridge of an earlier version it stays as it is
	}
	if !isNamespace(m.pod.NetNS) {
		return nil // the machine was started anew: the pod is, too
	}
	err := join(w, m.pod)
	if errors.Is(err, errForeign) {
		n.mu.Lock()
		delete(n.joined, key)
		n.mu.Unlock()
		return nil
	}
	if err == nil && m.pod.Name != "" { // of a pod from before a restart it is not known which ports it asked for, and it still has them
		err = n.openPorts(m.pod, w.attachment())
	}
	if err != nil {
		return fmt.Errorf("mending the link of pod %s: %w; if this lasts, delete the pod", key, err)
	}
	n.log.Warn("a pod's link or route was gone and is there again", zap.String("pod", w.alias), zap.String("uid", key), zap.String("link", w.name))
	return nil
}

func isNamespace(path string) bool {
	var st unix.Statfs_t
	return path != "" && unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// isPort says whether a link is one of a bridge; one that is not there is none.
func isPort(name string) (bool, error) {
	s, err := openSocket()
	if err != nil {
		return false, err
	}
	defer s.close()
	b := &batch{}
	b.getLink(name)
	answers, err := b.send(s)
	if err != nil {
		return false, err
	}
	link, err := linkOf(answers[0])
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return link.bridge != 0, err
}

// sweepLocked removes, once in a life, the links of pods that are not known: the kubelet was killed between making one and knowing it.
func (n *Network) sweepLocked() error {
	if n.swept {
		return nil
	}
	mine := map[string]bool{}
	for _, p := range n.pools {
		for key := range p.byKey {
			mine[hostLink(key)], mine[shaperLink(key)] = true, true
		}
	}
	list, err := whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	var names []string
	for _, l := range list {
		name := l.Attrs().Name
		ours := l.Type() == "veth" && strings.HasPrefix(name, "pv") || l.Type() == "ifb" && strings.HasPrefix(name, "pb")
		if ours && len(name) == len(hostLink("")) && !mine[name] {
			names = append(names, name)
		}
	}
	if err := removeLinks(names...); err != nil {
		return err
	}
	n.swept = true
	return nil
}

// oldBridge joined the pods of an earlier version.
const oldBridge = "pilot0"

// bridgeLocked looks after it as long as it is there.
func (n *Network) bridgeLocked() (err error) {
	if n.bridge {
		n.bridge, err = dropBridge()
	}
	return err
}

func hasBridge() (bool, error) {
	l, err := netlink.LinkByName(oldBridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for bridge %s: %w", oldBridge, err)
	}
	return l.Type() == "bridge", nil
}

// dropBridge removes the bridge of an earlier version when the last pod has left it, and says whether it stays. As long as it does, it answers for the pods
// that are not on it: those on it look for them there.
func dropBridge() (stays bool, err error) {
	bridge, err := netlink.LinkByName(oldBridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("looking for bridge %s: %w", oldBridge, err)
	}
	list, err := whole(netlink.LinkList)
	if err != nil {
		return true, fmt.Errorf("listing links: %w", err)
	}
	for _, l := range list {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			if err := setSysctl("ipv4/conf/"+oldBridge+"/proxy_arp", "1"); err != nil {
				return true, fmt.Errorf("letting bridge %s answer for pods that are not on it: %w", oldBridge, err)
			}
			return true, nil
		}
	}
	return false, removeLinks(oldBridge)
}
