package podgc

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestJudgeAndExcess(t *testing.T) {
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
	done := func(age time.Duration, reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason = corev1.PodFailed, reason
			p.CreationTimestamp = metav1.NewTime(now.Add(-age))
		}
	}
	off := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}}}
	ready := off.DeepCopy()
	ready.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	nodes := map[string]*corev1.Node{"there": {}, "off": off, "ready": ready}
	absent := map[string]time.Duration{"gone": time.Minute, "just": time.Second}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want string
		wait time.Duration
	}{
		"on a node that is there":            {pod("a", on("there")), "", 0},
		"going from a node that is there":    {pod("a", on("there"), going), "", 0},
		"on a node that is gone":             {pod("a", on("gone")), "orphaned", 0},
		"finished on a node that is gone":    {pod("a", on("gone"), done(0, "")), "orphaned", 0},
		"on one that is gone just now":       {pod("a", on("just")), "", quarantine - time.Second},
		"waiting for a node":                 {pod("a"), "", 0},
		"deleted before it had one":          {pod("a", going), "unscheduled", 0},
		"deleted where people say it is off": {pod("a", on("off"), going), "out-of-service", 0},
		"living where people say it is off":  {pod("a", on("off")), "", 0},
		"but the node says it is ready":      {pod("a", on("ready"), going), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			v, wait := judge(tc.pod, nodes[tc.pod.Spec.NodeName], absent[tc.pod.Spec.NodeName], now)
			reason := ""
			if v != nil {
				reason = v.reason
			}
			if reason != tc.want || wait != tc.wait {
				t.Errorf("deletes for %q, or looks again after %v", reason, wait)
			}
		})
	}
	for name, tc := range map[string]struct {
		pods []*corev1.Pod
		want string
	}{
		"as many finished as are kept": {[]*corev1.Pod{pod("a", done(1, "")), pod("b", done(2, "")), pod("c")}, ""},
		"the oldest beyond, evicted first": {[]*corev1.Pod{pod("a", done(time.Hour, "")), pod("b", done(2*time.Hour, "")),
			pod("c", done(time.Minute, "Evicted")), pod("d", done(time.Minute, ""))}, "b c"},
		"going ones count not": {[]*corev1.Pod{pod("a", done(time.Hour, ""), going), pod("b", done(2, "")), pod("c", done(2, ""))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, v := range excess(tc.pods, 2) {
				got = append(got, v.pod.Name)
			}
			slices.Sort(got)
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("deletes %q, want %q", g, tc.want)
			}
		})
	}
}
