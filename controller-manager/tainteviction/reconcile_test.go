package tainteviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDeadline(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	taint := func(key string, after time.Duration) corev1.Taint {
		at := metav1.NewTime(start.Add(after))
		return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at}
	}
	tolerate := func(key string, seconds int64) corev1.Toleration {
		tol := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists}
		if seconds >= 0 {
			tol.TolerationSeconds = &seconds
		}
		return tol
	}
	const gone, never = time.Duration(-1), time.Duration(-2)
	unreachable, notReady := corev1.TaintNodeUnreachable, corev1.TaintNodeNotReady
	for name, tc := range map[string]struct {
		tolerations []corev1.Toleration
		taints      []corev1.Taint
		want        time.Duration // after start
	}{
		"no taint":                             {nil, nil, never},
		"the default of a silent node":         {nil, []corev1.Taint{taint(unreachable, 0)}, 30 * time.Second},
		"the default of a node not ready":      {nil, []corev1.Taint{taint(notReady, 0)}, 30 * time.Second},
		"it counts from when it was added":     {nil, []corev1.Taint{taint(unreachable, time.Minute)}, 90 * time.Second},
		"any other taint at once":              {nil, []corev1.Taint{taint("mine", 0)}, gone},
		"its own patience wins":                {[]corev1.Toleration{tolerate(unreachable, 300)}, []corev1.Taint{taint(unreachable, 0)}, 300 * time.Second},
		"its own impatience too":               {[]corev1.Toleration{tolerate(unreachable, 0)}, []corev1.Taint{taint(unreachable, 0)}, 0},
		"for ever":                             {[]corev1.Toleration{tolerate(unreachable, -1)}, []corev1.Taint{taint(unreachable, 0)}, never},
		"everything for ever":                  {[]corev1.Toleration{tolerate("", -1)}, []corev1.Taint{taint(unreachable, 0), taint("mine", 0)}, never},
		"one for ever, the other not at all":   {[]corev1.Toleration{tolerate(unreachable, -1)}, []corev1.Taint{taint(unreachable, 0), taint("mine", 0)}, gone},
		"the first to run out of several":      {[]corev1.Toleration{tolerate("a", 50), tolerate("b", 20)}, []corev1.Taint{taint("a", 0), taint("b", 10*time.Second)}, 30 * time.Second},
		"patience with one is none for others": {[]corev1.Toleration{tolerate(notReady, 600)}, []corev1.Taint{taint(unreachable, 0)}, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: tc.tolerations}}
			at, evict := deadline(p, tc.taints, 30*time.Second)
			switch {
			case tc.want == never:
				if evict {
					t.Errorf("goes at %v", at)
				}
			case tc.want == gone:
				if !evict || !at.IsZero() {
					t.Errorf("goes %v at %v, want at once", evict, at)
				}
			case !evict || !at.Equal(start.Add(tc.want)):
				t.Errorf("goes %v after %v, want %v", evict, at.Sub(start), tc.want)
			}
		})
	}
}
