package daemonset

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

var daemonKey = loop.Key{Namespace: "ns", Name: "log"}

func tolerating(all ...corev1.Toleration) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Tolerations = all }
}

func requiring(terms ...corev1.NodeSelectorTerm) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}}
	}
}

func TestJudge(t *testing.T) {
	yes, staysOnly, no := verdict{run: true, stay: true}, verdict{stay: true}, verdict{}
	named := corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}}
	zone := func(op corev1.NodeSelectorOperator, v ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: op, Values: v}}}
	}
	onNode := func(name string) func(*appsv1.DaemonSet) {
		return func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeName = name }
	}
	hostNetwork := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.HostNetwork = true }
	schedule, execute := corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute
	for name, tc := range map[string]struct {
		ds   *appsv1.DaemonSet
		node *corev1.Node
		want verdict
	}{
		"any node":                            {daemon(), node("n1"), yes},
		"no node":                             {daemon(), nil, no},
		"the node it names":                   {daemon(onNode("n1")), node("n1"), yes},
		"another than it names":               {daemon(onNode("n1")), node("n2"), no},
		"affinity to the name":                {daemon(requiring(named)), node("n1"), yes},
		"affinity to another name":            {daemon(requiring(named)), node("n2"), no},
		"affinity to a label":                 {daemon(requiring(zone(corev1.NodeSelectorOpIn, "a"))), node("n1", labelled("zone", "a")), yes},
		"affinity to a label it has not":      {daemon(requiring(zone(corev1.NodeSelectorOpIn, "a"))), node("n1", labelled("zone", "b")), no},
		"affinity to one or another":          {daemon(requiring(zone(corev1.NodeSelectorOpIn, "a"), zone(corev1.NodeSelectorOpIn, "b"))), node("n1", labelled("zone", "b")), yes},
		"affinity that cannot be read":        {daemon(requiring(zone(corev1.NodeSelectorOpGt, "many"))), node("n1", labelled("zone", "7")), no},
		"selector and affinity both":          {daemon(selecting("a", "b"), requiring(zone(corev1.NodeSelectorOpExists))), node("n1", labelled("zone", "x")), no},
		"closed":                              {daemon(), node("n1", tainted("x", schedule)), staysOnly},
		"closed, and tolerated":               {daemon(tolerating(corev1.Toleration{Key: "x", Operator: corev1.TolerationOpExists})), node("n1", tainted("x", schedule)), yes},
		"emptied":                             {daemon(), node("n1", tainted("x", execute)), no},
		"emptied, and tolerated for a while":  {daemon(tolerating(corev1.Toleration{Key: "x", Operator: corev1.TolerationOpExists, TolerationSeconds: new(int64)})), node("n1", tainted("x", execute)), yes},
		"closed and emptied":                  {daemon(), node("n1", tainted("x", schedule), tainted("y", execute)), no},
		"rather not":                          {daemon(), node("n1", tainted("x", corev1.TaintEffectPreferNoSchedule)), yes},
		"not ready":                           {daemon(), node("n1", tainted(corev1.TaintNodeNotReady, execute)), yes},
		"not ready, as a new one is":          {daemon(), node("n1", tainted(corev1.TaintNodeNotReady, schedule)), staysOnly},
		"unreachable":                         {daemon(), node("n1", tainted(corev1.TaintNodeUnreachable, execute)), yes},
		"cordoned":                            {daemon(), node("n1", tainted(corev1.TaintNodeUnschedulable, schedule)), yes},
		"short of disk, memory and processes": {daemon(), node("n1", tainted(corev1.TaintNodeDiskPressure, schedule), tainted(corev1.TaintNodeMemoryPressure, schedule), tainted(corev1.TaintNodePIDPressure, schedule)), yes},
		"without network":                     {daemon(), node("n1", tainted(corev1.TaintNodeNetworkUnavailable, schedule)), staysOnly},
		"without network, which it brings":    {daemon(hostNetwork), node("n1", tainted(corev1.TaintNodeNetworkUnavailable, schedule)), yes},
	} {
		t.Run(name, func(t *testing.T) {
			if got := newFit(tc.ds).judge(tc.node); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestPodFor(t *testing.T) {
	soft := []corev1.PreferredSchedulingTerm{{Weight: 1}}
	seconds := int64(300)
	ds := daemon(requiring(corev1.NodeSelectorTerm{}), selecting("a", "b"), tolerating(
		corev1.Toleration{Key: "mine"}, corev1.Toleration{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}))
	ds.Spec.Template.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = soft
	before := ds.DeepCopy()
	p := podFor(ds, "new", "n7")
	if target(p) != "n7" || p.Spec.NodeName != "" {
		t.Errorf("it is for %q, node name %q", target(p), p.Spec.NodeName)
	}
	if p.GenerateName != "log-" || !metav1.IsControlledBy(p, ds) || len(p.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) != 1 {
		t.Errorf("%+v", p)
	}
	if p.Labels["app"] != "log" || p.Labels["controller-revision-hash"] != "new" || p.Labels["pod-template-generation"] != "2" {
		t.Errorf("labels %v", p.Labels)
	}
	if n := len(p.Spec.Tolerations); n != 7 || p.Spec.Tolerations[1].TolerationSeconds != nil {
		t.Errorf("%d tolerations: %+v", n, p.Spec.Tolerations)
	}
	if !equality.Semantic.DeepEqual(before, ds) {
		t.Error("the template changed")
	}
}

func TestTarget(t *testing.T) {
	for name, tc := range map[string]struct{ pod, want string }{
		"bound":   {"n1 new ready", "n1"},
		"pinned":  {"n1 new pinned", "n1"},
		"neither": {"n1 new nowhere", ""},
	} {
		if got := target(made(t, tc.pod)); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// A change of a node wakes those DaemonSets for which it makes a difference, and no others.
func TestConcerned(t *testing.T) {
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for name, ds := range map[string]*appsv1.DaemonSet{"everywhere": daemon(), "chosen": daemon(selecting("a", "b"))} {
		ds.Name = name
		if err := store.Add(ds); err != nil {
			t.Fatal(err)
		}
	}
	c := &controller{sets: appslisters.NewDaemonSetLister(store)}
	ready := node("n1")
	ready.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
	for name, tc := range map[string]struct {
		e    loop.Event
		want map[string]bool
	}{
		"it comes":               {loop.Event{New: node("n1")}, map[string]bool{"everywhere": true}},
		"it comes with a label":  {loop.Event{New: node("n1", labelled("a", "b"))}, map[string]bool{"everywhere": true, "chosen": true}},
		"it goes":                {loop.Event{Old: node("n1")}, map[string]bool{"everywhere": true}},
		"its heart beats":        {loop.Event{Old: node("n1"), New: ready}, nil},
		"it is labelled so":      {loop.Event{Old: node("n1"), New: node("n1", labelled("a", "b"))}, map[string]bool{"chosen": true}},
		"it is labelled no more": {loop.Event{Old: node("n1", labelled("a", "b")), New: node("n1")}, map[string]bool{"chosen": true}},
		"it has another label":   {loop.Event{Old: node("n1"), New: node("n1", labelled("x", "y"))}, nil},
		"it is cordoned":         {loop.Event{Old: node("n1"), New: node("n1", tainted(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule))}, nil},
		"it is closed":           {loop.Event{Old: node("n1"), New: node("n1", tainted("x", corev1.TaintEffectNoSchedule))}, map[string]bool{"everywhere": true}},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.concerned(tc.e)
			for _, k := range got {
				if !tc.want[k.Name] {
					t.Errorf("wakes %s", k)
				}
			}
			if len(got) != len(tc.want) {
				t.Errorf("wakes %v, want %v", got, tc.want)
			}
		})
	}
}
