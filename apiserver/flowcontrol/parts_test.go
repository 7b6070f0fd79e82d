package flowcontrol

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"pilothouse.dev/apiserver/request"
)

// Every hand is of different queues, and every queue is as likely as any other.
func TestDeal(t *testing.T) {
	for _, c := range []struct{ n, hand int }{{1, 1}, {2, 2}, {15, 15}, {16, 4}, {64, 6}, {128, 6}, {1 << 20, 3}} {
		hand := make([]int32, c.hand)
		count := map[int32]int{}
		random := rand.New(rand.NewPCG(1, 2))
		const times = 20000
		for range times {
			deal(random.Uint64(), c.n, hand)
			for i, card := range hand {
				if card < 0 || int(card) >= c.n || slices.Contains(hand[:i], card) {
					t.Fatalf("%d of %d: %v", c.hand, c.n, hand)
				}
				count[card]++
			}
		}
		if c.n > 128 {
			continue
		}
		want := float64(times*c.hand) / float64(c.n)
		for card := range c.n {
			if off := math.Abs(float64(count[int32(card)])-want) / want; off > 0.15 {
				t.Errorf("%d of %d: queue %d was dealt %d times, %.0f would be even", c.hand, c.n, card, count[int32(card)], want)
			}
		}
	}
}

// Of many flows, few share all queues of one that fills his: with 6 of 128, none in ten thousand here.
func TestShuffleSharding(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	elephant, mouse := make([]int32, 6), make([]int32, 6)
	deal(random.Uint64(), 128, elephant)
	crowded := 0
	for range 10000 {
		deal(random.Uint64(), 128, mouse)
		if !slices.ContainsFunc(mouse, func(q int32) bool { return !slices.Contains(elephant, q) }) {
			crowded++
		}
	}
	if crowded > 0 {
		t.Errorf("%d of 10000 flows have no queue of their own beside one flow", crowded)
	}
}

func TestShare(t *testing.T) {
	levels := map[string]*Level{
		"exempt": {exempt: true, borrows: -1}, "none": {borrows: -1},
		"a": {shares: 30, lendable: 50, borrows: -1}, "b": {shares: 60, lendable: 0, borrows: 25}, "c": {shares: 10, lendable: 100, borrows: 0},
	}
	got := share(100, levels)
	want := map[string]bounds{
		"exempt": {0, 0, 100}, "none": {0, 0, 100}, "a": {30, 15, 130}, "b": {60, 60, 75}, "c": {10, 0, 10},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := share(1, levels); got["a"].nominal != 1 || got["c"].nominal != 1 {
		t.Errorf("one seat: %v", got)
	}
}

func TestLend(t *testing.T) {
	for _, c := range []struct {
		name   string
		seats  int
		wishes []wish
		want   []int
	}{
		{"nobody wants anything", 100, []wish{{lower: 10, upper: 200, target: 10}, {lower: 30, upper: 200, target: 30}}, []int{25, 75}},
		{"one borrows from the other", 100, []wish{{lower: 10, upper: 200, target: 10}, {lower: 50, upper: 200, target: 190}}, []int{10, 90}},
		{"as far as it may", 100, []wish{{lower: 10, upper: 200, target: 10}, {lower: 50, upper: 60, target: 190}}, []int{40, 60}},
		{"both want all", 100, []wish{{lower: 20, upper: 200, target: 100}, {lower: 20, upper: 200, target: 300}}, []int{25, 75}},
		{"bounds are more than there is", 10, []wish{{lower: 20, upper: 200, target: 20}, {lower: 5, upper: 200, target: 5}}, []int{20, 5}},
		{"no targets", 10, []wish{{lower: 0, upper: 200}, {lower: 5, upper: 200, target: 5}}, []int{0, 10}},
		{"nobody", 10, nil, []int{}},
	} {
		if got, _ := lend(c.seats, c.wishes); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestDemand(t *testing.T) {
	var d demand
	d.set(0, 4)
	d.set(5*time.Second, 0)
	s := d.end(10 * time.Second)
	if s != (seen{most: 4, mean: 2, deviation: 2}) {
		t.Errorf("seen %+v", s)
	}
	up := s.smooth(1)
	down := seen{}.smooth(4)
	if up != 4 || down < 3.9 || down >= 4 {
		t.Errorf("up to %v, down to %v", up, down)
	}
	d.set(12*time.Second, 7)
	if s := d.end(20 * time.Second); s.most != 7 || s.mean != 5.6 {
		t.Errorf("then %+v", s)
	}
}

func compiled(t *testing.T, text string) *Schema {
	t.Helper()
	f := &flowcontrolv1.FlowSchema{}
	if err := yaml.UnmarshalStrict([]byte(text), f); err != nil {
		t.Fatal(err)
	}
	return Compile(f)
}

func TestMatch(t *testing.T) {
	s := compiled(t, `
metadata: {name: s, uid: u}
spec:
  priorityLevelConfiguration: {name: l}
  distinguisherMethod: {type: ByNamespace}
  rules:
  - subjects:
    - {kind: User, user: {name: alice}}
    - {kind: Group, group: {name: staff}}
    - {kind: ServiceAccount, serviceAccount: {namespace: ns, name: robot}}
    - {kind: ServiceAccount, serviceAccount: {namespace: all, name: "*"}}
    resourceRules:
    - {verbs: [get, list], apiGroups: [""], resources: [pods, pods/status], namespaces: [a, b]}
    - {verbs: ["*"], apiGroups: [apps], resources: ["*"], namespaces: ["*"], clusterScope: true}
    nonResourceRules:
    - {verbs: [get], nonResourceURLs: [/metrics, /healthz/*]}
  - subjects: [{kind: User, user: {name: "*"}}]
    nonResourceRules: [{verbs: ["*"], nonResourceURLs: ["*"]}]
`)
	pod := func(verb, ns, sub string) request.Info {
		return request.Info{IsResource: true, Verb: verb, Version: "v1", Resource: "pods", Namespace: ns, Subresource: sub}
	}
	for _, c := range []struct {
		user   string
		groups string
		i      request.Info
		want   bool
	}{
		{"alice", "", pod("get", "a", ""), true},
		{"bob", "staff", pod("list", "b", ""), true},
		{"bob", "", pod("get", "a", ""), false},
		{"alice", "", pod("get", "c", ""), false},
		{"alice", "", pod("list", "", ""), false}, // no clusterScope
		{"alice", "", pod("delete", "a", ""), false},
		{"alice", "", pod("get", "a", "status"), true},
		{"alice", "", pod("get", "a", "log"), false},
		{"system:serviceaccount:ns:robot", "", pod("get", "a", ""), true},
		{"system:serviceaccount:ns:other", "", pod("get", "a", ""), false},
		{"system:serviceaccount:all:any", "", pod("get", "a", ""), true},
		{"system:serviceaccount:all2:any", "", pod("get", "a", ""), false},
		{"alice", "", request.Info{IsResource: true, Verb: "create", Group: "apps", Resource: "deployments"}, true},
		{"alice", "", request.Info{IsResource: true, Verb: "create", Group: "batch", Resource: "jobs"}, false},
		{"carol", "", request.Info{Verb: "post", Path: "/anything"}, true},
	} {
		u := &request.User{Name: c.user, Groups: []string{c.groups}}
		if got := s.matches(u, &c.i); got != c.want {
			t.Errorf("%s %s: %+v: %t", c.user, c.groups, c.i, got)
		}
		if got := s.distinguish(u, &c.i); got != c.i.Namespace {
			t.Errorf("distinguished by %q", got)
		}
	}
	only := compiled(t, `{spec: {rules: [{subjects: [{kind: Group, group: {name: "*"}}], nonResourceRules: [{verbs: [get], nonResourceURLs: [/metrics, /healthz/*]}]}]}}`)
	for path, want := range map[string]bool{"/metrics": true, "/metrics/a": false, "/healthz/etcd": true, "/healthz": false} {
		if got := only.matches(&request.User{}, &request.Info{Verb: "get", Path: path}); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
}

func TestOrder(t *testing.T) {
	all := []*Schema{{Name: "c", precedence: 5}, {Name: "b", precedence: 100}, {Name: "a", precedence: 100}, {Name: "d", precedence: 5}}
	var names string
	for _, s := range Order(all).InOrder {
		names += s.Name
	}
	if names != "cdab" {
		t.Errorf("order %s", names)
	}
}

type size int

func (s size) Size(_ schema.GroupVersionResource, _ string, most int) int { return min(int(s), most) }

func TestEstimate(t *testing.T) {
	list := request.Info{IsResource: true, Verb: "list", Version: "v1", Resource: "pods"}
	named := list
	named.Name = "a"
	watch := list
	watch.Verb = "watch"
	for _, c := range []struct {
		i      request.Info
		query  string
		stored int
		want   int
	}{
		{list, "", 0, 1},
		{list, "", -1, 1},
		{list, "", 100, 1},
		{list, "", 101, 2},
		{list, "", 950, 10},
		{list, "", 100000, 10},
		{list, "limit=500", 100000, 5},
		{list, "limit=500&labelSelector=a", 100000, 10},
		{list, "limit=none", 100000, 10},
		{list, "%zz", 100000, 1},
		{named, "", 100000, 1},
		{watch, "", 100000, 10},
		{watch, "watch=1&resourceVersion=0", 100000, 10},
		{watch, "watch=1&resourceVersion=7", 100000, 1},
		{watch, "watch=1&resourceVersion=7&sendInitialEvents=true", 100000, 10},
		{watch, "watch=1&sendInitialEvents=false", 100000, 1},
		{request.Info{Verb: "get", Path: "/metrics"}, "", 100000, 1},
	} {
		g := &Gate{sizes: size(c.stored), watches: watches{count: map[interest]int{}}}
		if got := g.estimate(&c.i, c.query, 10); got != (Work{Seats: c.want}) {
			t.Errorf("%s %s of %d: %+v, want %d", c.i.Verb, c.query, c.stored, got, c.want)
		}
	}
}

func TestWatches(t *testing.T) {
	g := &Gate{sizes: size(0), watches: watches{count: map[interest]int{}}}
	var ends []func()
	for range 20 {
		ends = append(ends, g.Watching(&request.Info{Resource: "pods"}, ""))
	}
	for range 15 {
		ends = append(ends, g.Watching(&request.Info{Resource: "pods", Namespace: "a"}, ""))
	}
	ends = append(ends, g.Watching(&request.Info{Resource: "pods", Namespace: "a", Name: "x"}, "fieldSelector=metadata.name%3Dx"),
		g.Watching(&request.Info{Resource: "pods"}, "fieldSelector=spec.nodeName%3Dn"))
	write := func(ns, name string) Work {
		return g.estimate(&request.Info{IsResource: true, Verb: "update", Resource: "pods", Namespace: ns, Name: name}, "", 3)
	}
	for _, c := range []struct {
		ns, name string
		want     Work
	}{
		{"b", "x", Work{Seats: 1, Final: 2, Extra: 5 * time.Millisecond}},
		{"a", "x", Work{Seats: 1, Final: 3, Extra: 6 * time.Millisecond}}, // 3.6 seats, of which a level has 3
	} {
		if got := write(c.ns, c.name); got != c.want {
			t.Errorf("write to %s/%s: %+v, want %+v", c.ns, c.name, got, c.want)
		}
	}
	for _, end := range ends {
		end()
	}
	if got := write("a", "x"); got != (Work{Seats: 1}) || len(g.watches.count) != 0 {
		t.Errorf("nobody watches: %+v", got)
	}
}
