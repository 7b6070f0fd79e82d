package plugins_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/plugins"
)

// Options make a pod or a node what a case needs.
type (
	podOption  func(*corev1.Pod)
	nodeOption func(*nodeinfo.Node, *corev1.Node)
)

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
}

func newPod(options ...podOption) *nodeinfo.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "p"}}
	p.Spec.Containers = []corev1.Container{{Name: "c"}}
	for _, o := range options {
		o(p)
	}
	return nodeinfo.NewPod(p)
}

func wants(cpu, memory string) podOption {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list(cpu, memory) }
}

func wantsOther(name string, n string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceName(name): resource.MustParse(n)}
	}
}

func selects(key, value string) podOption {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func named(uid string) podOption {
	return func(p *corev1.Pod) { p.Name, p.UID = uid, types.UID(uid) }
}

func hostPort(n int32) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: n, Protocol: corev1.ProtocolTCP}}
	}
}

func tolerates(key string, effect corev1.TaintEffect) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect})
	}
}

func ownedBy(uid string) podOption {
	return func(p *corev1.Pod) {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(uid), Controller: &yes}}
	}
}

func prefers(weight int32, key, value string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: weight, Preference: corev1.NodeSelectorTerm{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}}}}}}
	}
}

func requiresNode(names ...string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: names}}}}}}}
	}
}

func newNode(name string, options ...nodeOption) *nodeinfo.Node {
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	object.Status.Allocatable = list("4", "8Gi")
	object.Status.Allocatable["pods"] = resource.MustParse("10")
	n := nodeinfo.NewNode(name)
	for _, o := range options {
		o(n, object)
	}
	n.SetObject(object)
	return n
}

func cordoned(_ *nodeinfo.Node, o *corev1.Node) { o.Spec.Unschedulable = true }

func tainted(key, value string, effect corev1.TaintEffect) nodeOption {
	return func(_ *nodeinfo.Node, o *corev1.Node) {
		o.Spec.Taints = append(o.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

func labelled(key, value string) nodeOption {
	return func(_ *nodeinfo.Node, o *corev1.Node) { o.Labels[key] = value }
}

func offers(name, n string) nodeOption {
	return func(_ *nodeinfo.Node, o *corev1.Node) {
		o.Status.Allocatable[corev1.ResourceName(name)] = resource.MustParse(n)
	}
}

func holds(options ...podOption) nodeOption {
	return func(n *nodeinfo.Node, _ *corev1.Node) {
		n.Add(newPod(append([]podOption{named(fmt.Sprintf("%s-%d", n.Name, len(n.Pods)))}, options...)...))
	}
}

func only(name string) *framework.Set {
	i := slices.IndexFunc(plugins.Table, func(e framework.Entry) bool { return e.Name == name })
	return framework.NewSet(plugins.Table[i:i+1], framework.Parts{})
}

func TestTable(t *testing.T) {
	framework.NewSet(plugins.Table, framework.Parts{}) // panics when broken
}

func TestFilter(t *testing.T) {
	for _, tc := range []struct {
		name string
		pod  *nodeinfo.Pod
		node *nodeinfo.Node
		want string // code and reasons; empty: passes
	}{
		{"anything", newPod(), newNode("n"), ""},
		{"cordoned", newPod(), newNode("n", cordoned), "for good: node(s) were unschedulable"},
		{"cordoned, tolerated", newPod(tolerates("node.kubernetes.io/unschedulable", "")), newNode("n", cordoned), ""},
		{"tainted", newPod(), newNode("n", tainted("k", "v", "NoSchedule")), "for good: node(s) had untolerated taint {k: v}"},
		{"tainted NoExecute", newPod(), newNode("n", tainted("k", "", "NoExecute")), "for good: node(s) had untolerated taint {k: }"},
		{"tainted, preference only", newPod(), newNode("n", tainted("k", "v", "PreferNoSchedule")), ""},
		{"tainted, tolerated", newPod(tolerates("k", "NoSchedule")), newNode("n", tainted("k", "v", "NoSchedule")), ""},
		{"selector", newPod(selects("a", "b")), newNode("n", labelled("a", "b")), ""},
		{"selector differs", newPod(selects("a", "b")), newNode("n", labelled("a", "c")), "for good: node(s) didn't match Pod's node affinity/selector"},
		{"node by name", newPod(requiresNode("n")), newNode("n"), ""},
		{"port free", newPod(hostPort(80)), newNode("n", holds(hostPort(81))), ""},
		{"port taken", newPod(hostPort(80)), newNode("n", holds(hostPort(80))), "node(s) didn't have free ports for the requested pod ports"},
		{"fits exactly", newPod(wants("1", "1Gi")), newNode("n", holds(wants("3", "7Gi"))), ""},
		{"cpu", newPod(wants("1", "1Gi")), newNode("n", holds(wants("3500m", "7Gi"))), "Insufficient cpu"},
		{"cpu and memory", newPod(wants("1", "2Gi")), newNode("n", holds(wants("3500m", "7Gi"))), "Insufficient cpu, Insufficient memory"},
		{"more than the node has", newPod(wants("5", "1Gi")), newNode("n"), "for good: Insufficient cpu"},
		{"too many", newPod(), newNode("n", offers("pods", "1"), holds()), "Too many pods"},
		{"extended", newPod(wantsOther("a.b/gpu", "1")), newNode("n", offers("a.b/gpu", "1"), holds(wantsOther("a.b/gpu", "1"))), "Insufficient a.b/gpu"},
		{"extended, not offered", newPod(wantsOther("a.b/gpu", "1")), newNode("n"), "for good: Insufficient a.b/gpu"},
		{"the first refusal is told", newPod(wants("5", "1Gi")), newNode("n", cordoned, tainted("k", "v", "NoSchedule")), "for good: node(s) were unschedulable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, nb := framework.NewSet(plugins.Table, framework.Parts{}), &framework.Notebook{}
			if st := set.PreFilter(nb, tc.pod, []*nodeinfo.Node{tc.node}); !st.OK() {
				t.Fatalf("prefilter: %s", st.Message())
			}
			st, got := set.Filter(nb, tc.pod, tc.node), ""
			if !st.OK() {
				got = st.Message()
				if st.Code == framework.Unresolvable {
					got = "for good: " + got
				}
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestGates(t *testing.T) {
	gated := newPod(func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a"}, {Name: "b"}} })
	set := framework.NewSet(plugins.Table, framework.Parts{})
	if st := set.PreEnqueue(gated); st.OK() || st.Message() != "waiting for scheduling gates: [a b]" {
		t.Errorf("got %+v", st)
	}
	if st := set.PreEnqueue(newPod()); !st.OK() {
		t.Errorf("got %+v", st)
	}
}

func TestRequiredNodeNarrowsTheTrip(t *testing.T) {
	nb := &framework.Notebook{}
	only("NodeAffinity").PreFilter(nb, newPod(requiresNode("n")), nil)
	if names, why, ok := nb.Narrowed(); !ok || !slices.Equal(names, []string{"n"}) || why == nil {
		t.Errorf("got %v %v %v", names, why, ok)
	}
}

// TestScore compares nodes by one plugin at a time: the numbers are those of the plugin, without its weight.
func TestScore(t *testing.T) {
	zone := func(z string) nodeOption { return labelled("topology.kubernetes.io/zone", z) }
	for _, tc := range []struct {
		name, plugin string
		pod          *nodeinfo.Pod
		nodes        []*nodeinfo.Node
		want         string
	}{
		{"least allocated", "NodeResourcesFit", newPod(wants("1", "2Gi")),
			[]*nodeinfo.Node{newNode("empty"), newNode("half", holds(wants("2", "4Gi"))), newNode("full", holds(wants("4", "8Gi")))}, "empty=75 full=0 half=25"},
		{"least allocated, nothing asked", "NodeResourcesFit", newPod(),
			[]*nodeinfo.Node{newNode("empty"), newNode("three", holds(), holds(), holds())}, "empty=97 three=90"},
		{"balanced", "NodeResourcesBalancedAllocation", newPod(wants("1", "2Gi")),
			[]*nodeinfo.Node{newNode("even"), newNode("odd", holds(wants("3", "0")))}, "even=100 odd=62"},
		{"preferred affinity", "NodeAffinity", newPod(prefers(10, "a", "b")),
			[]*nodeinfo.Node{newNode("yes", labelled("a", "b")), newNode("no")}, "no=0 yes=100"},
		{"preferred taints", "TaintToleration", newPod(),
			[]*nodeinfo.Node{newNode("none"), newNode("one", tainted("a", "", "PreferNoSchedule")),
				newNode("two", tainted("a", "", "PreferNoSchedule"), tainted("b", "", "PreferNoSchedule"))}, "none=100 one=50 two=0"},
		{"preferred taints, none there", "TaintToleration", newPod(), []*nodeinfo.Node{newNode("x"), newNode("y")}, "x=0 y=0"},
		{"spread over nodes", "PodTopologySpread", newPod(ownedBy("rs")),
			[]*nodeinfo.Node{newNode("none", holds(ownedBy("other"))), newNode("one", holds(ownedBy("rs"))), newNode("two", holds(ownedBy("rs")), holds(ownedBy("rs")))}, "none=100 one=50 two=0"},
		{"spread over zones first", "PodTopologySpread", newPod(ownedBy("rs")),
			[]*nodeinfo.Node{newNode("a1", zone("a"), holds(ownedBy("rs"))), newNode("a2", zone("a")), newNode("b1", zone("b"))}, "a1=0 a2=33 b1=100"},
		{"nobody's pod is not spread", "PodTopologySpread", newPod(), []*nodeinfo.Node{newNode("x"), newNode("y", holds())}, "x=0 y=0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := slices.IndexFunc(plugins.Table, func(e framework.Entry) bool { return e.Name == tc.plugin })
			entry := plugins.Table[i]
			entry.Weight = 1
			set, nb := framework.NewSet([]framework.Entry{entry}, framework.Parts{}), &framework.Notebook{}
			if st := set.PreScore(nb, tc.pod, tc.nodes); !st.OK() {
				t.Fatal(st.Message())
			}
			raw, totals := make([]int64, len(tc.nodes)), make([]int64, len(tc.nodes))
			set.Score(0, nb, tc.pod, tc.nodes, raw, totals, func(n int, do func(from, to int)) { do(0, n) })
			got := map[string]int64{}
			for i, n := range tc.nodes {
				got[n.Name] = totals[i]
			}
			var words []string
			for _, name := range slices.Sorted(maps.Keys(got)) {
				words = append(words, fmt.Sprintf("%s=%d", name, got[name]))
			}
			if s := strings.Join(words, " "); s != tc.want {
				t.Errorf("got %s, want %s", s, tc.want)
			}
		})
	}
}

// TestHelps checks hints where they say no: a hint that is wrongly yes costs a try, one that is wrongly no costs minutes.
func TestHelps(t *testing.T) {
	object := func(options ...nodeOption) *corev1.Node { return newNode("n", options...).Object }
	added := func(options ...nodeOption) framework.Event {
		return framework.Event{Kind: framework.NodeAdded, Node: object(options...)}
	}
	updated := func(before, after *corev1.Node) framework.Event {
		return framework.Event{Kind: framework.NodeUpdated, OldNode: before, Node: after}
	}
	gone := func(options ...podOption) framework.Event {
		return framework.Event{Kind: framework.PodGone, Pod: newPod(options...)}
	}
	taint := tainted("k", "v", "NoSchedule")
	for _, tc := range []struct {
		name, plugin string
		pod          *nodeinfo.Pod
		event        framework.Event
		want         bool
	}{
		{"big enough node", "NodeResourcesFit", newPod(wants("4", "1Gi")), added(), true},
		{"node too small", "NodeResourcesFit", newPod(wants("5", "1Gi")), added(), false},
		{"node grew", "NodeResourcesFit", newPod(wants("5", "1Gi")), updated(object(), object(offers("cpu", "6"))), true},
		{"node grew in what is not wanted", "NodeResourcesFit", newPod(wants("1", "1Gi")), updated(object(), object(offers("a.b/gpu", "6"))), false},
		{"node changed its labels", "NodeResourcesFit", newPod(wants("1", "1Gi")), updated(object(), object(labelled("a", "b"))), false},
		{"pod gone", "NodeResourcesFit", newPod(wants("1", "1Gi")), gone(), true},
		{"port freed", "NodePorts", newPod(hostPort(80)), gone(hostPort(80)), true},
		{"no port freed", "NodePorts", newPod(hostPort(80)), gone(), false},
		{"taint removed", "TaintToleration", newPod(), updated(object(taint), object()), true},
		{"another taint left", "TaintToleration", newPod(), updated(object(taint, tainted("x", "", "NoExecute")), object(taint)), false},
		{"untainted all along", "TaintToleration", newPod(), updated(object(), object(labelled("a", "b"))), false},
		{"tainted node", "TaintToleration", newPod(), added(taint), false},
		{"pod gone does not change taints", "TaintToleration", newPod(), gone(), false},
		{"label set", "NodeAffinity", newPod(selects("a", "b")), updated(object(), object(labelled("a", "b"))), true},
		{"other label set", "NodeAffinity", newPod(selects("a", "b")), updated(object(), object(labelled("a", "c"))), false},
		{"matching node", "NodeAffinity", newPod(selects("a", "b")), added(labelled("a", "b")), true},
		{"uncordoned", "NodeUnschedulable", newPod(), updated(object(cordoned), object()), true},
		{"cordoned", "NodeUnschedulable", newPod(), updated(object(), object(cordoned)), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := framework.NewSet(plugins.Table, framework.Parts{}).Helps(tc.plugin, tc.pod, tc.event); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
