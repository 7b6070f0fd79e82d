package cache_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/nodeinfo"
)

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func onNode(name, node string, cpu string) *nodeinfo.Pod {
	return nodeinfo.NewPod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu)}}}}},
	})
}

// used is what the snapshot says of each node's CPU.
func used(c *cache.Cache, s *cache.Snapshot) string {
	c.Refresh(s)
	out := ""
	for _, n := range s.Nodes {
		out += fmt.Sprintf("%s=%d(%d) ", n.Name, n.Used.MilliCPU, len(n.Pods))
	}
	return out
}

func TestPodStates(t *testing.T) {
	assume := func(name, on string) func(*cache.Cache) {
		return func(c *cache.Cache) { _ = c.Assume(onNode(name, "", "1"), on) }
	}
	seen := func(name, on string) func(*cache.Cache) {
		return func(c *cache.Cache) { c.Set(onNode(name, on, "1")) }
	}
	forget := func(name string) func(*cache.Cache) {
		return func(c *cache.Cache) { c.Forget(types.UID(name)) }
	}
	remove := func(name string) func(*cache.Cache) {
		return func(c *cache.Cache) { c.Remove(types.UID(name)) }
	}
	for _, tc := range []struct {
		name  string
		steps []func(*cache.Cache)
		want  string
	}{
		{"assumed counts at once", []func(*cache.Cache){assume("p", "a")}, "a=1000(1) b=0(0) "},
		{"assumed, forgotten", []func(*cache.Cache){assume("p", "a"), forget("p")}, "a=0(0) b=0(0) "},
		{"assumed, confirmed", []func(*cache.Cache){assume("p", "a"), seen("p", "a")}, "a=1000(1) b=0(0) "},
		{"confirmed is not forgotten", []func(*cache.Cache){assume("p", "a"), seen("p", "a"), forget("p")}, "a=1000(1) b=0(0) "},
		{"assumed here, seen there", []func(*cache.Cache){assume("p", "a"), seen("p", "b"), forget("p")}, "a=0(0) b=1000(1) "},
		{"assumed, deleted, forgotten", []func(*cache.Cache){assume("p", "a"), remove("p"), forget("p")}, "a=0(0) b=0(0) "},
		{"assumed twice", []func(*cache.Cache){assume("p", "a"), assume("p", "b")}, "a=1000(1) b=0(0) "},
		{"seen twice", []func(*cache.Cache){seen("p", "a"), seen("p", "a")}, "a=1000(1) b=0(0) "},
		{"node goes, comes back", []func(*cache.Cache){seen("p", "a"),
			func(c *cache.Cache) { c.RemoveNode("a") }, func(c *cache.Cache) { c.SetNode(node("a")) }}, "a=1000(1) b=0(0) "},
		{"node goes, its pod too", []func(*cache.Cache){seen("p", "a"), func(c *cache.Cache) { c.RemoveNode("a") }, remove("p")}, "b=0(0) "},
		{"pod before its node", []func(*cache.Cache){seen("p", "c"), func(c *cache.Cache) { c.SetNode(node("c")) }}, "a=0(0) b=0(0) c=1000(1) "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, s := cache.New(), cache.NewSnapshot()
			c.SetNode(node("a"))
			c.SetNode(node("b"))
			for _, step := range tc.steps {
				step(c)
				c.Refresh(s) // the increments must add up to the same
			}
			if got := used(c, s); got != tc.want {
				t.Errorf("increments: got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAssumeRefusesAPodThatHasANode(t *testing.T) {
	c := cache.New()
	c.Set(onNode("p", "a", "1"))
	if err := c.Assume(onNode("p", "", "1"), "b"); err == nil {
		t.Error("assumed on b what is on a")
	}
}

// TestIncrementsEqualTheWhole does random things and compares a snapshot refreshed all along with one made at the end from a
// cache that was told only the outcome.
func TestIncrementsEqualTheWhole(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 7))
		c, s := cache.New(), cache.NewSnapshot()
		nodes, pods := map[string]bool{}, map[string]string{}
		for range 400 {
			n, p := fmt.Sprintf("n%d", r.IntN(6)), fmt.Sprintf("p%d", r.IntN(30))
			switch r.IntN(7) {
			case 0:
				c.SetNode(node(n))
				nodes[n] = true
			case 1:
				c.RemoveNode(n)
				delete(nodes, n)
			case 2, 3:
				if c.Assume(onNode(p, "", "1"), n) == nil {
					if r.IntN(2) == 0 {
						c.Forget(types.UID(p))
					} else {
						pods[p] = n
					}
				}
			case 4:
				c.Set(onNode(p, n, "1"))
				pods[p] = n
			case 5:
				c.Remove(types.UID(p))
				delete(pods, p)
			case 6:
				c.Refresh(s)
			}
		}
		whole, fresh := cache.New(), cache.NewSnapshot()
		for n := range nodes {
			whole.SetNode(node(n))
		}
		for p, n := range pods {
			whole.Set(onNode(p, n, "1"))
		}
		if got, want := used(c, s), used(whole, fresh); got != want {
			t.Fatalf("seed %d: got %s, want %s", seed, got, want)
		}
	}
}

func TestRefreshCopiesOnlyWhatChanged(t *testing.T) {
	c, s := cache.New(), cache.NewSnapshot()
	c.SetNode(node("a"))
	c.SetNode(node("b"))
	c.Refresh(s)
	before, generation := *s.Node("a"), s.Generation
	c.Refresh(s)
	if s.Generation != generation {
		t.Error("nothing changed, and there is a new generation")
	}
	c.Set(onNode("p", "b", "1"))
	if len(s.Node("b").Pods) != 0 {
		t.Error("the snapshot changed before it was refreshed")
	}
	c.Refresh(s)
	if s.Generation == generation || len(s.Node("b").Pods) != 1 || s.Node("a").Object != before.Object {
		t.Errorf("generation %d, b has %d pods", s.Generation, len(s.Node("b").Pods))
	}
}
