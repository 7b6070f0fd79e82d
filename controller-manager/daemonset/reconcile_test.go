package daemonset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func daemon(change ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	labels := map[string]string{"app": "log"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "log", UID: "ds", Generation: 3,
			Annotations: map[string]string{appsv1.DeprecatedTemplateGeneration: "2"}},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v2"}}}},
		},
	}
	rolling("1", "0")(ds)
	for _, c := range change {
		c(ds)
	}
	return ds
}

func rolling(lack, surge string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		l, s := intstr.Parse(lack), intstr.Parse(surge)
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &l, MaxSurge: &s}}
	}
}

func onDelete(ds *appsv1.DaemonSet) {
	ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
}

func readyAfter(seconds int32) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = seconds }
}

func selecting(k, v string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{k: v} }
}

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, c := range change {
		c(n)
	}
	return n
}

func labelled(k, v string) func(*corev1.Node) { return func(n *corev1.Node) { n.Labels[k] = v } }

func tainted(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}

func nodes(n int) (list []*corev1.Node) {
	for i := range n {
		list = append(list, node(fmt.Sprint("n", i+1)))
	}
	return list
}

// made reads «NODE REVISION what it is like …»: it is of the present template when the revision is new. Its name is NODE-REVISION,
// with the age behind it where that is given.
func made(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	words := strings.Fields(text)
	where, rev := words[0], words[1]
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: where + "-" + rev, Labels: map[string]string{"app": "log", appsv1.DefaultDaemonSetUniqueLabelKey: rev},
			CreationTimestamp: metav1.NewTime(start.Add(-time.Hour))},
		Spec:   corev1.PodSpec{NodeName: where},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	ready := func(since time.Duration) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start.Add(-since))}}
	}
	for _, w := range words[2:] {
		switch w {
		case "ready":
			ready(time.Hour)
		case "ready10s":
			ready(10 * time.Second)
		case "unready":
		case "failed":
			p.Status.Phase = corev1.PodFailed
		case "succeeded":
			p.Status.Phase = corev1.PodSucceeded
		case "going":
			now := metav1.NewTime(start)
			p.DeletionTimestamp = &now
		case "pinned":
			p.Spec.NodeName, p.Status.Phase = "", corev1.PodPending
			pin(&p.Spec, where)
		case "nowhere":
			p.Spec.NodeName, p.Status.Phase = "", corev1.PodPending
		case "younger":
			p.Name += "-younger"
			p.CreationTimestamp = metav1.NewTime(start)
		case "bynumber":
			delete(p.Labels, appsv1.DefaultDaemonSetUniqueLabelKey)
			p.Labels[generationLabel] = "2"
		default:
			t.Fatalf("what is %q?", w)
		}
	}
	p.UID = types.UID(p.Name)
	return p
}

func seen(t *testing.T, ds *appsv1.DaemonSet, nodes []*corev1.Node, pods ...string) scene {
	t.Helper()
	var list []*corev1.Pod
	for _, text := range pods {
		list = append(list, made(t, text))
	}
	rev := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: "new"}}}
	s := look(ds, rev, nodes, list)
	s.now = start
	s.pause = func(string) time.Duration { return 0 }
	return s
}

func names(pods []*corev1.Pod) string {
	var n []string
	for _, p := range pods {
		n = append(n, p.Name)
	}
	slices.Sort(n)
	return strings.Join(n, " ")
}

func TestDecide(t *testing.T) {
	noExecute := tainted("example.com/out", corev1.TaintEffectNoExecute)
	noSchedule := tainted("example.com/closed", corev1.TaintEffectNoSchedule)
	for name, tc := range map[string]struct {
		ds             *appsv1.DaemonSet
		nodes          []*corev1.Node
		pods           []string
		gone           string
		pause          time.Duration
		create, remove string
		again          time.Duration
	}{
		"a pod a node":                              {nodes: nodes(3), create: "n1 n2 n3"},
		"only where there is none":                  {nodes: nodes(3), pods: []string{"n2 new ready"}, create: "n1 n3"},
		"one that is pinned counts":                 {nodes: nodes(2), pods: []string{"n2 new pinned"}, create: "n1"},
		"one that is going is in the way":           {nodes: nodes(1), pods: []string{"n1 new ready going"}},
		"one that ended and is going is not":        {nodes: nodes(1), pods: []string{"n1 new failed going"}, create: "n1"},
		"an adopted one without a node counts not":  {nodes: nodes(1), pods: []string{"x new nowhere"}, create: "n1"},
		"nothing to do":                             {nodes: nodes(2), pods: []string{"n1 new ready", "n2 new unready"}},
		"one deleted and still shown":               {nodes: nodes(1), pods: []string{"n1 old unready"}, gone: "n1-old"},
		"pinned to a node that is gone":             {nodes: nodes(1), pods: []string{"n1 new ready", "n9 new pinned"}, remove: "n9-new"},
		"bound to a node that is gone":              {nodes: nodes(1), pods: []string{"n1 new ready", "n9 new ready"}},
		"going on a node that is gone":              {nodes: nodes(1), pods: []string{"n1 new ready", "n9 new pinned going"}},
		"a selector that no node has":               {ds: daemon(selecting("a", "b")), nodes: nodes(2)},
		"a selector that one has":                   {ds: daemon(selecting("a", "b")), nodes: []*corev1.Node{node("n1"), node("n2", labelled("a", "b"))}, create: "n2"},
		"the label has gone":                        {ds: daemon(selecting("a", "b")), nodes: nodes(1), pods: []string{"n1 new ready"}, remove: "n1-new"},
		"the label has gone, and so does the pod":   {ds: daemon(selecting("a", "b")), nodes: nodes(1), pods: []string{"n1 new ready going"}},
		"a taint against staying":                   {nodes: []*corev1.Node{node("n1", noExecute)}, pods: []string{"n1 new ready"}, remove: "n1-new"},
		"a taint against coming":                    {nodes: []*corev1.Node{node("n1", noSchedule)}},
		"a taint against coming, and there already": {nodes: []*corev1.Node{node("n1", noSchedule)}, pods: []string{"n1 new ready"}},
		"a taint against coming, and failed":        {nodes: []*corev1.Node{node("n1", noSchedule)}, pods: []string{"n1 new failed"}, remove: "n1-new"},
		"a dead node":                               {nodes: []*corev1.Node{node("n1", tainted(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute), tainted(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule))}, pods: []string{"n1 new unready"}},

		"failed":                           {nodes: nodes(1), pods: []string{"n1 new failed"}, remove: "n1-new"},
		"failed again and again":           {nodes: nodes(1), pods: []string{"n1 new failed"}, pause: 4 * time.Second, again: 4 * time.Second},
		"failed beside one that runs":      {nodes: nodes(1), pods: []string{"n1 new failed", "n1 new ready younger"}, remove: "n1-new"},
		"succeeded":                        {nodes: nodes(1), pods: []string{"n1 new succeeded"}, pause: time.Second, remove: "n1-new"},
		"two on a node":                    {nodes: nodes(1), pods: []string{"n1 new ready younger", "n1 new ready"}, remove: "n1-new-younger"},
		"two on a node, one of them bound": {nodes: nodes(1), pods: []string{"n1 new ready younger", "n1 new pinned"}, remove: "n1-new"},
		"two templates on a node":          {nodes: nodes(1), pods: []string{"n1 old ready", "n1 new unready younger"}, remove: "n1-new-younger n1-old"},
		"of the number of the template":    {nodes: nodes(1), pods: []string{"n1 x ready bynumber"}},

		"an update, one at a time":                {nodes: nodes(3), pods: []string{"n1 old ready", "n2 old ready", "n3 old ready"}, remove: "n1-old"},
		"an update waits for the pod to go":       {nodes: nodes(3), pods: []string{"n1 old ready going", "n2 old ready", "n3 old ready"}},
		"an update waits for a node without one":  {nodes: nodes(3), pods: []string{"n2 old ready", "n3 old ready"}, create: "n1"},
		"an update waits for the new one":         {nodes: nodes(3), pods: []string{"n1 new unready", "n2 old ready", "n3 old ready"}},
		"an update goes on":                       {nodes: nodes(3), pods: []string{"n1 new ready", "n2 old ready", "n3 old ready"}, remove: "n2-old"},
		"an update waits for minReadySeconds":     {ds: daemon(readyAfter(30)), nodes: nodes(2), pods: []string{"n1 new ready10s", "n2 old ready"}},
		"an update after minReadySeconds":         {ds: daemon(readyAfter(5)), nodes: nodes(2), pods: []string{"n1 new ready10s", "n2 old ready"}, remove: "n2-old"},
		"an update waits for one that failed":     {nodes: nodes(2), pods: []string{"n1 new failed", "n2 old ready"}, pause: time.Second, again: time.Second},
		"two at a time":                           {ds: daemon(rolling("2", "0")), nodes: nodes(3), pods: []string{"n1 old ready", "n2 old ready", "n3 old ready"}, remove: "n1-old n2-old"},
		"percents are rounded up":                 {ds: daemon(rolling("34%", "0")), nodes: nodes(3), pods: []string{"n1 old ready", "n2 old ready", "n3 old ready"}, remove: "n1-old n2-old"},
		"percents are of the nodes that fit":      {ds: daemon(rolling("50%", "0"), selecting("a", "b")), nodes: []*corev1.Node{node("n1", labelled("a", "b")), node("n2", labelled("a", "b")), node("n3"), node("n4")}, pods: []string{"n1 old ready", "n2 old ready"}, remove: "n1-old"},
		"none may be missing, and none too many":  {ds: daemon(rolling("0", "0")), nodes: nodes(2), pods: []string{"n1 old ready", "n2 old ready"}, remove: "n1-old"},
		"those that serve nobody go first":        {nodes: nodes(3), pods: []string{"n1 old ready", "n2 old unready", "n3 old ready"}, remove: "n2-old"},
		"a broken template does not block":        {nodes: nodes(4), pods: []string{"n1 old unready", "n2 old unready", "n3 old unready", "n4 old ready"}, remove: "n1-old n2-old n3-old"},
		"back to a template that still runs":      {nodes: nodes(3), pods: []string{"n1 broken unready", "n2 new ready", "n3 new ready"}, remove: "n1-broken"},
		"nodes that do not fit are not missing":   {nodes: []*corev1.Node{node("n1", noSchedule), node("n2"), node("n3", noExecute)}, pods: []string{"n2 old ready", "n3 old ready going"}, remove: "n2-old"},
		"an update of one that may not come back": {nodes: []*corev1.Node{node("n1", noSchedule)}, pods: []string{"n1 old ready"}, remove: "n1-old"},

		"on delete: nothing":      {ds: daemon(onDelete), nodes: nodes(2), pods: []string{"n1 old ready", "n2 old unready"}},
		"on delete: what is gone": {ds: daemon(onDelete), nodes: nodes(2), pods: []string{"n1 old ready"}, create: "n2"},
		"on delete: what failed":  {ds: daemon(onDelete), nodes: nodes(1), pods: []string{"n1 old failed"}, remove: "n1-old"},

		"surge: one more":                           {ds: daemon(rolling("0", "1")), nodes: nodes(3), pods: []string{"n1 old ready", "n2 old ready", "n3 old ready"}, create: "n1"},
		"surge: waits for the new one":              {ds: daemon(rolling("0", "1")), nodes: nodes(2), pods: []string{"n1 old ready", "n1 new unready", "n2 old ready"}},
		"surge: the new one is available":           {ds: daemon(rolling("0", "1")), nodes: nodes(2), pods: []string{"n1 old ready", "n1 new ready", "n2 old ready"}, remove: "n1-old", create: "n2"},
		"surge: the old one broke":                  {ds: daemon(rolling("0", "1")), nodes: nodes(1), pods: []string{"n1 old unready", "n1 new unready"}, remove: "n1-old"},
		"surge: waits for minReadySeconds":          {ds: daemon(rolling("0", "1"), readyAfter(30)), nodes: nodes(1), pods: []string{"n1 old ready", "n1 new ready10s"}},
		"surge: dead ones are no surge":             {ds: daemon(rolling("0", "1")), nodes: nodes(3), pods: []string{"n1 old unready", "n2 old unready", "n3 old ready"}, create: "n1 n2 n3"},
		"surge: percents are rounded up":            {ds: daemon(rolling("0", "34%")), nodes: nodes(3), pods: []string{"n1 old ready", "n2 old ready", "n3 old ready"}, create: "n1 n2"},
		"surge: three on a node":                    {ds: daemon(rolling("0", "1")), nodes: nodes(1), pods: []string{"n1 old ready", "n1 new unready", "n1 new unready younger"}, remove: "n1-new-younger"},
		"surge: the ready one of two as old":        {ds: daemon(rolling("0", "1")), nodes: nodes(1), pods: []string{"n1 broken unready", "n1 old ready"}, remove: "n1-broken", create: "n1"},
		"surge: two of an old template":             {ds: daemon(rolling("0", "1")), nodes: nodes(1), pods: []string{"n1 old ready", "n1 old ready younger"}, remove: "n1-old-younger", create: "n1"},
		"surge: one that is going does not count":   {ds: daemon(rolling("0", "1")), nodes: nodes(2), pods: []string{"n1 old ready going", "n1 new ready", "n2 old ready"}, create: "n2"},
		"surge: none on a node":                     {ds: daemon(rolling("0", "1")), nodes: nodes(1), create: "n1"},
		"surge: the new one failed again and again": {ds: daemon(rolling("0", "1")), nodes: nodes(2), pods: []string{"n1 old ready", "n1 new failed", "n2 old ready"}, pause: 4 * time.Second, again: 4 * time.Second},
		"surge: both failed, and the pause is on":   {ds: daemon(rolling("0", "1")), nodes: nodes(1), pods: []string{"n1 old unready", "n1 new failed"}, pause: 4 * time.Second, again: 4 * time.Second},
		"surge: the new one failed":                 {ds: daemon(rolling("0", "1")), nodes: nodes(1), pods: []string{"n1 old ready", "n1 new failed"}, remove: "n1-new"},
		"surge: an old one failed beside another":   {ds: daemon(rolling("0", "1")), nodes: nodes(1), pods: []string{"n1 old ready", "n1 broken failed"}, remove: "n1-broken", create: "n1"},
		"surge: leaves a closed node last":          {ds: daemon(rolling("0", "1")), nodes: []*corev1.Node{node("n1", noSchedule), node("n2")}, pods: []string{"n1 old ready", "n2 new unready"}},
		"surge: leaves a closed node":               {ds: daemon(rolling("0", "1")), nodes: []*corev1.Node{node("n1", noSchedule), node("n2")}, pods: []string{"n1 old ready", "n2 new ready"}, remove: "n1-old"},
		"surge: a broken one on a closed node":      {ds: daemon(rolling("0", "1")), nodes: []*corev1.Node{node("n1", noSchedule), node("n2")}, pods: []string{"n1 old unready", "n2 new ready"}, remove: "n1-old"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.ds == nil {
				tc.ds = daemon()
			}
			s := seen(t, tc.ds, tc.nodes, tc.pods...)
			s.gone = map[types.UID]bool{types.UID(tc.gone): true}
			s.pause = func(string) time.Duration { return tc.pause }
			p := decide(s)
			slices.Sort(p.create)
			if got := strings.Join(p.create, " "); got != tc.create {
				t.Errorf("creates on %q, want %q", got, tc.create)
			}
			if got := names(p.remove); got != tc.remove {
				t.Errorf("removes %q, want %q", got, tc.remove)
			}
			if p.again != tc.again {
				t.Errorf("looks again after %v, want %v", p.again, tc.again)
			}
		})
	}
}

func TestBurst(t *testing.T) {
	p := decide(seen(t, daemon(), nodes(3*burst)))
	if len(p.create) != burst {
		t.Errorf("creates %d at once, want %d", len(p.create), burst)
	}
}

func TestNextStatus(t *testing.T) {
	list := append(nodes(5), node("n6", tainted("example.com/closed", corev1.TaintEffectNoSchedule)))
	s := seen(t, daemon(readyAfter(30)), list,
		"n1 new ready", "n2 new ready10s", "n3 old ready", "n4 new unready", "n6 new ready", "n9 new ready")
	two := int32(2)
	s.ds.Status.CollisionCount = &two
	s.ds.Status.NumberMisscheduled = 7
	got, again := nextStatus(s)
	want := appsv1.DaemonSetStatus{
		ObservedGeneration: 3, DesiredNumberScheduled: 5, CurrentNumberScheduled: 4, NumberMisscheduled: 1, UpdatedNumberScheduled: 3,
		NumberReady: 3, NumberAvailable: 2, NumberUnavailable: 3, CollisionCount: &two,
	}
	if !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if again != 20*time.Second {
		t.Errorf("looks again after %v, want 20 s", again)
	}
}

// In a surge the old pod speaks for its node until it is gone: the rollout is not said to be over before.
func TestTheOldestSpeaksForItsNode(t *testing.T) {
	got, _ := nextStatus(seen(t, daemon(rolling("0", "1")), nodes(1), "n1 new ready younger", "n1 old ready"))
	if got.UpdatedNumberScheduled != 0 || got.NumberAvailable != 1 || got.CurrentNumberScheduled != 1 {
		t.Errorf("%+v", got)
	}
}

func TestPauses(t *testing.T) {
	p, k := newPauses(), daemonKey
	now := start
	left := func(uid types.UID, generation int64) time.Duration { return p.left(k, uid, generation, "n1", now) }
	if left("ds", 1) != 0 {
		t.Error("the first failure has a pause")
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
		p.grow(k, "ds", 1, "n1", now)
		if got := left("ds", 1); got != want*time.Second {
			t.Errorf("after failure %d: %v, want %d s", i+1, got, want)
		}
		now = now.Add(left("ds", 1))
		if left("ds", 1) != 0 {
			t.Error("does not end")
		}
	}
	if p.grow(k, "ds", 1, "n1", now); p.left(k, "ds", 1, "n2", now) != 0 {
		t.Error("another node has the pause")
	}
	if left("other", 1) != 0 || left("ds", 2) != 0 {
		t.Error("another DaemonSet of the name, or another spec, has the pause")
	}
	now = now.Add(3 * worstPause)
	if p.grow(k, "ds", 1, "n1", now); left("ds", 1) != firstPause {
		t.Errorf("after a long time of peace: %v", left("ds", 1))
	}
	if p.forget(k); len(p.sets) != 0 {
		t.Error("remembers what is gone")
	}
}

// What pods are of is kept, also when somebody made a revision without the label.
func TestInUse(t *testing.T) {
	rev := func(name, hash string) *appsv1.ControllerRevision {
		r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if hash != "" {
			r.Labels = map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: hash}
		}
		return r
	}
	all := []*appsv1.ControllerRevision{rev("log-a", "a"), rev("log-b", "b"), rev("bare", ""), rev("log-c", "c")}
	used := inUse(all[3], all, []*corev1.Pod{made(t, "n1 b ready"), made(t, "n2 bare ready"), made(t, "n3 x bynumber")})
	for name, want := range map[string]bool{"log-a": false, "log-b": true, "bare": true, "log-c": true} {
		if used[name] != want {
			t.Errorf("%s in use: %v", name, used[name])
		}
	}
}
