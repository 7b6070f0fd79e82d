package podgc

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDecide(t *testing.T) {
	now := time.Now()
	pod := func(name string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		for _, c := range change {
			c(p)
		}
		return p
	}
	on := func(n string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = n } }
	going := func(p *corev1.Pod) { at := metav1.NewTime(now); p.DeletionTimestamp = &at }
	finished := func(age time.Duration, reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason = corev1.PodFailed, reason
			p.CreationTimestamp = metav1.NewTime(now.Add(-age))
		}
	}
	off := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}}}
	ready := off.DeepCopy()
	ready.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	nodes := map[string]*corev1.Node{"there": {}, "off": off, "ready": ready}
	absent := map[string]time.Time{"gone": now.Add(-time.Minute), "just": now.Add(-time.Second)}
	for name, tc := range map[string]struct {
		pods []*corev1.Pod
		want string
	}{
		"on a node that is there":            {[]*corev1.Pod{pod("a", on("there")), pod("b", on("there"), going)}, ""},
		"on a node that is gone":             {[]*corev1.Pod{pod("a", on("gone")), pod("b", on("gone"), finished(0, ""))}, "a b"},
		"on one that is gone just now":       {[]*corev1.Pod{pod("a", on("just"))}, ""},
		"waiting for a node":                 {[]*corev1.Pod{pod("a")}, ""},
		"deleted before it had one":          {[]*corev1.Pod{pod("a", going)}, "a"},
		"deleted where people say it is off": {[]*corev1.Pod{pod("a", on("off"), going), pod("b", on("off"))}, "a"},
		"but the node says it is ready":      {[]*corev1.Pod{pod("a", on("ready"), going)}, ""},
		"as many finished as are kept":       {[]*corev1.Pod{pod("a", on("there"), finished(1, "")), pod("b", on("there"), finished(2, ""))}, ""},
		"the oldest beyond, evicted first": {[]*corev1.Pod{pod("a", on("there"), finished(time.Hour, "")), pod("b", on("there"), finished(2*time.Hour, "")),
			pod("c", on("there"), finished(time.Minute, "Evicted")), pod("d", on("there"), finished(time.Minute, ""))}, "b c"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, v := range decide(tc.pods, nodes, absent, 2, now) {
				got = append(got, v.pod.Name)
			}
			slices.Sort(got)
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("deletes %q, want %q", g, tc.want)
			}
		})
	}
}
