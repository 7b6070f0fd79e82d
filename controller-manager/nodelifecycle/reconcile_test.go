package nodelifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(conditions ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	for _, c := range conditions {
		kind, status, _ := strings.Cut(c, "=")
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeConditionType(kind), Status: corev1.ConditionStatus(status)})
	}
	return n
}

func text(taints []corev1.Taint) string {
	var all []string
	for _, t := range taints {
		all = append(all, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestTaints(t *testing.T) {
	now := time.Now()
	early := metav1.NewTime(now.Add(-time.Minute))
	foreign := corev1.Taint{Key: "mine", Effect: corev1.TaintEffectNoExecute}
	for name, tc := range map[string]struct {
		node  *corev1.Node
		have  []corev1.Taint
		spare bool
		want  string
	}{
		"ready":                   {node: node("Ready=True"), want: ""},
		"just registered":         {node: node(), want: "not-ready:NoSchedule"},
		"says it is not ready":    {node: node("Ready=False"), want: "not-ready:NoExecute not-ready:NoSchedule"},
		"silent":                  {node: node("Ready=Unknown"), want: "unreachable:NoExecute unreachable:NoSchedule"},
		"silent like most":        {node: node("Ready=Unknown"), spare: true, want: "unreachable:NoSchedule"},
		"silent, then most are":   {node: node("Ready=Unknown"), spare: true, have: []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}, want: "unreachable:NoSchedule"},
		"not ready, then silent":  {node: node("Ready=Unknown"), have: []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}, want: "unreachable:NoExecute unreachable:NoSchedule"},
		"ready again":             {node: node("Ready=True"), have: []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}, want: ""},
		"under pressure":          {node: node("Ready=True", "MemoryPressure=True", "DiskPressure=True", "PIDPressure=True", "NetworkUnavailable=True"), want: "disk-pressure:NoSchedule memory-pressure:NoSchedule network-unavailable:NoSchedule pid-pressure:NoSchedule"},
		"what others set stays":   {node: node("Ready=True"), have: []corev1.Taint{foreign}, want: "mine:NoExecute"},
		"cordoned":                {node: func() *corev1.Node { n := node("Ready=True"); n.Spec.Unschedulable = true; return n }(), want: "unschedulable:NoSchedule"},
		"and uncordoned":          {node: node("Ready=True"), have: []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}, want: ""},
		"a pressure nobody knows": {node: node("Ready=True", "MemoryPressure=Unknown"), want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			tc.node.Spec.Taints = tc.have
			got := taints(tc.node, tc.spare, now)
			if text(got) != tc.want {
				t.Errorf("got %q, want %q", text(got), tc.want)
			}
			tc.node.Spec.Taints = got
			if again := taints(tc.node, tc.spare, now.Add(time.Hour)); fmt.Sprint(again) != fmt.Sprint(got) {
				t.Errorf("a second look changes %v to %v", got, again)
			}
		})
	}
	n := node("Ready=Unknown")
	n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &early}}
	for _, x := range taints(n, false, now) {
		if x.Effect == corev1.TaintEffectNoExecute && !x.TimeAdded.Equal(&early) {
			t.Error("the time from which tolerations count was moved")
		}
	}
}

func TestRates(t *testing.T) {
	rates := Rates{Usual: 1, Secondary: 0.1, Large: 50, Unwell: 0.55}
	for name, tc := range map[string]struct {
		zones census
		want  float64
	}{
		"one of three":                      {census{"a": {3, 1}}, 1},
		"two of three":                      {census{"a": {3, 2}}, 1},
		"all":                               {census{"a": {3, 3}}, 0},
		"the only one":                      {census{"a": {1, 1}}, 0},
		"more than half of a small zone":    {census{"a": {5, 3}}, 0},
		"half of a small zone":              {census{"a": {10, 5}}, 1},
		"much of a small zone":              {census{"a": {10, 6}}, 0},
		"much of a large zone":              {census{"a": {100, 60}}, 0.1},
		"a zone, while another is well":     {census{"a": {20, 20}, "b": {5, 1}}, 1},
		"two zones, and there is no third":  {census{"a": {20, 20}, "b": {5, 5}}, 0},
		"much, while another is well":       {census{"a": {20, 15}, "b": {5, 0}}, 0},
		"one, while another zone is gone":   {census{"a": {20, 1}, "b": {5, 5}}, 1},
		"a zone nobody has counted":         {census{"b": {5, 0}}, 1},
		"more than half, but fewer than 3":  {census{"a": {3, 2}, "b": {9, 0}}, 1},
		"much, at the edge of a large zone": {census{"a": {50, 40}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.zones.rate("a", rates); got != tc.want {
				t.Errorf("%v nodes a second, want %v", got, tc.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	l, now := newLimits(), time.Now()
	if l.take("a", 0.5, now) != 0 || l.take("b", 0.5, now) != 0 {
		t.Error("the first node of a zone waits")
	}
	if wait := l.take("a", 0.5, now.Add(time.Second)); wait != time.Second {
		t.Errorf("the second waits %v more", wait)
	}
	if l.take("a", 0.5, now.Add(2*time.Second)) != 0 {
		t.Error("it waits beyond its time")
	}
}

func TestCensus(t *testing.T) {
	in := func(zone string, n *corev1.Node) *corev1.Node {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
		return n
	}
	silent := in("a", node("Ready=True"))
	silent.Name = "silent"
	c := take([]*corev1.Node{silent, in("a", node("Ready=True")), in("a", node("Ready=False")), in("b", node("Ready=Unknown")), in("b", node())},
		func(n string) bool { return n == "silent" })
	if a, b := c[":a"], c[":b"]; a == nil || b == nil || *a != (zone{3, 2}) || *b != (zone{2, 1}) {
		t.Errorf("counted %v %v", a, b)
	}
}

func TestUnknownKeepsTimesOnASecondLook(t *testing.T) {
	now := time.Now()
	n := node("Ready=True", "DiskPressure=False")
	unknown(&n.Status, now)
	if len(n.Status.Conditions) != 4 {
		t.Fatalf("%+v", n.Status.Conditions)
	}
	for _, c := range n.Status.Conditions {
		never := c.Type == corev1.NodeMemoryPressure || c.Type == corev1.NodePIDPressure
		if c.Status != corev1.ConditionUnknown || (c.Reason == "NodeStatusNeverUpdated") != never {
			t.Errorf("%+v", c)
		}
	}
	before := fmt.Sprint(n.Status)
	unknown(&n.Status, now.Add(time.Hour))
	if fmt.Sprint(n.Status) != before {
		t.Error("a second look changes the status")
	}
}

func TestSigns(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	const grace = 4 * time.Second
	lease := func(renewed int) *coordinationv1.Lease {
		at := metav1.NewMicroTime(start.Add(time.Duration(renewed)*time.Second - time.Hour)) // the node's clock is an hour behind
		return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &at}}
	}
	at := func(sec int) time.Time { return start.Add(time.Duration(sec) * time.Second) }
	n := node("Ready=True")

	s := newSigns()
	steps := []struct {
		name     string
		renewed  int
		blind    bool
		now      int
		leftSecs int
	}{
		{"met for the first time it has all its grace", 0, false, 0, 4},
		{"it renews", 1, false, 1, 4},
		{"nothing for two seconds", 1, false, 3, 2},
		{"nothing for five", 1, false, 6, -1},
		{"it renews again, and all is well", 7, false, 7, 4},
		{"the API server was away: silence counts from then", 7, true, 15, 4},
		{"and goes on counting", 7, false, 18, 1},
		{"until it is over", 7, false, 20, -1},
	}
	for _, st := range steps {
		if st.blind {
			s.blind(at(st.now))
		}
		if got := s.look(n, lease(st.renewed), grace, at(st.now)); got != time.Duration(st.leftSecs)*time.Second {
			t.Fatalf("%s: %v left, want %d s", st.name, got, st.leftSecs)
		}
	}

	t.Run("a heartbeat in the status is a sign too", func(t *testing.T) {
		s, n := newSigns(), node("Ready=True")
		n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(start)
		s.look(n, nil, grace, at(0))
		n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(at(3))
		if got := s.look(n, nil, grace, at(3)); got != grace {
			t.Errorf("%v left", got)
		}
	})
	t.Run("found silent by a former term, it stays so", func(t *testing.T) {
		s, n := newSigns(), node("Ready=Unknown")
		n.Status.Conditions[0].Reason = "NodeStatusUnknown"
		if got := s.look(n, lease(0), grace, at(0)); got > 0 {
			t.Errorf("%v left", got)
		}
		if got := s.look(n, lease(1), grace, at(1)); got != grace {
			t.Errorf("after a renewal %v left", got)
		}
	})
}

func TestGrace(t *testing.T) {
	four := int32(4)
	lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{LeaseDurationSeconds: &four}}
	for name, tc := range map[string]struct {
		cfg   Config
		node  *corev1.Node
		lease *coordinationv1.Lease
		want  time.Duration
	}{
		"as the Lease says":       {Config{Startup: time.Minute}, node("Ready=True"), lease, 4 * time.Second},
		"as the flag says":        {Config{Grace: 9 * time.Second}, node("Ready=True"), lease, 9 * time.Second},
		"no Lease":                {Config{Startup: time.Minute}, node("Ready=True"), nil, usual},
		"has never said anything": {Config{Startup: time.Minute, Grace: time.Second}, node(), nil, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.cfg.grace(tc.node, tc.lease); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
