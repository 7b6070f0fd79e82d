package nodeaddr

import (
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
)

func node(addresses ...string) *corev1.Node {
	n := &corev1.Node{}
	for i, a := range addresses {
		kind := corev1.NodeInternalIP
		if i == 1 {
			kind = corev1.NodeExternalIP
		}
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: kind, Address: a})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: "192.0.2.77"})
	return n
}

func TestTheNodesOwnAddresses(t *testing.T) {
	for _, c := range []struct {
		name string
		node *corev1.Node
		v6   bool
		want []string
	}{
		{"internal and external", node("198.18.0.12", "192.0.2.1"), false, []string{"192.0.2.1", "198.18.0.12"}},
		{"of the family only", node("198.18.0.12", "2001:db8::1"), false, []string{"198.18.0.12"}},
		{"of the other", node("198.18.0.12", "2001:db8::1"), true, []string{"2001:db8::1"}},
		{"no loopback, no name", node("127.0.0.1", "example"), false, nil},
		{"none yet", node(), false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := New(nil, c.v6, zaptest.NewLogger(t))
			b.SetNode(c.node)
			var got []string
			for _, a := range b.Addresses() {
				got = append(got, a.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestWakes(t *testing.T) {
	b := New(nil, false, zaptest.NewLogger(t))
	woken := func() bool {
		select {
		case <-b.Woken():
			return true
		default:
			return false
		}
	}
	b.SetNode(node("198.18.0.12"))
	if !woken() {
		t.Error("a new address wakes nobody")
	}
	b.SetNode(node("198.18.0.12"))
	if woken() {
		t.Error("woken though nothing changed")
	}
}

func TestRangesShutTheNodeObjectOut(t *testing.T) {
	b := New([]netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, false, zaptest.NewLogger(t))
	b.SetNode(node("198.18.0.12"))
	if len(b.Addresses()) != 0 {
		t.Errorf("got %v", b.Addresses())
	}
	if !b.within(netip.MustParseAddr("198.19.1.1")) || b.within(netip.MustParseAddr("198.20.0.1")) {
		t.Error("ranges are read wrong")
	}
}
