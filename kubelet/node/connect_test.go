package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"

	"pilothouse.dev/kubelet/network"
)

func aNode(name string, ranges []string, addrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: ranges}}
	if len(ranges) > 0 {
		n.Spec.PodCIDR = ranges[0]
	}
	for _, a := range addrs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
	return n
}

func TestPeers(t *testing.T) {
	old := aNode("n5", nil, "198.18.0.15")
	old.Spec.PodCIDR = "10.244.5.0/24"
	got := fmt.Sprint(peers("n1", []*corev1.Node{
		aNode("n3", []string{"10.244.3.0/24", "fd00:3::/64"}, "fd00::3", "198.18.0.13"), aNode("n1", []string{"10.244.1.0/24"}, "198.18.0.11"),
		aNode("n2", []string{"10.244.2.0/24"}, "198.18.0.12"), aNode("new", nil), aNode("silent", []string{"10.244.9.0/24"}), old,
	}))
	want := "[{n2 [10.244.2.0/24] [198.18.0.12]} {n3 [10.244.3.0/24 fd00:3::/64] [fd00::3 198.18.0.13]} {n5 [10.244.5.0/24] [198.18.0.15]}]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// net remembers what it was told, and when; as long as ill is set it does not do it.
type net struct {
	mu     sync.Mutex
	ranges string
	peers  string
	told   time.Time
	times  int
	ill    error
}

func (n *net) SetPodCIDRs(_ context.Context, cidrs []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ranges = fmt.Sprint(cidrs)
	return n.ill
}

func (n *net) SetRoutes(_ context.Context, peers []network.Peer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers, n.told = fmt.Sprint(peers), time.Now()
	n.times++
	return n.ill
}

func (n *net) Ready() error { return nil }

func (n *net) is() (ranges, peers string, told time.Time, times int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ranges, n.peers, n.told, n.times
}

func (n *net) fall(ill error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ill = ill
}

// TestRoutesFollowNodes: whatever happens to nodes, the network knows it within a second, and what fails is tried until it does not.
func TestRoutesFollowNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		source := fcache.NewFakeControllerSource()
		nodes := cache.NewSharedIndexInformer(source, &corev1.Node{}, 0, cache.Indexers{})
		n := &net{}
		var failures atomic.Int32
		c := newConnector("n1", nodes, n, zaptest.NewLogger(t))
		c.failed = func(error) { failures.Add(1) }
		stop, err := c.listen()
		if err != nil {
			t.Fatal(err)
		}
		go nodes.RunWithContext(ctx)
		go c.run(ctx)
		expect := func(what, ranges, peers string) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			if gotRanges, gotPeers, _, _ := n.is(); gotRanges != ranges || gotPeers != peers {
				t.Errorf("%s: after a second ranges are %s, peers %s; want %s, %s", what, gotRanges, gotPeers, ranges, peers)
			}
		}
		expect("nothing is known", "", "")
		own := aNode("n1", nil, "198.18.0.11")
		source.Add(own)
		expect("it has no range", "", "")
		own = own.DeepCopy()
		own.Spec.PodCIDRs = []string{"10.244.1.0/24", "fd00:1::/64"}
		source.Modify(own)
		expect("it is alone", "[10.244.1.0/24 fd00:1::/64]", "[]")
		other := aNode("n2", []string{"10.244.2.0/24"}, "198.18.0.12")
		source.Add(other)
		expect("a node comes", "[10.244.1.0/24 fd00:1::/64]", "[{n2 [10.244.2.0/24] [198.18.0.12]}]")
		source.Modify(aNode("n2", []string{"10.244.2.0/24"}, "198.18.0.99"))
		expect("it returns with another address", "[10.244.1.0/24 fd00:1::/64]", "[{n2 [10.244.2.0/24] [198.18.0.99]}]")
		source.Delete(other)
		expect("it goes", "[10.244.1.0/24 fd00:1::/64]", "[]")

		_, _, _, before := n.is()
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, _, _, after := n.is(); after-before < 5 || after-before > 7 {
			t.Errorf("looked %d times in a minute without news", after-before)
		}
		n.fall(errors.New("no route to host"))
		source.Add(other)
		expect("a node that cannot be reached", "[10.244.1.0/24 fd00:1::/64]", "[{n2 [10.244.2.0/24] [198.18.0.12]}]")
		time.Sleep(time.Minute)
		synctest.Wait()
		if told := failures.Load(); told != 1 {
			t.Errorf("told of the same %d times", told)
		}
		n.fall(nil)
		then := time.Now()
		time.Sleep(resync + gather)
		synctest.Wait()
		if _, _, told, _ := n.is(); !told.After(then) {
			t.Error("what failed is not tried again")
		}
		stop()
		cancel()
		source.Shutdown()
		synctest.Wait()
	})
}
