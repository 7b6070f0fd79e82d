package pods

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

func TestBackoff(t *testing.T) {
	b := Backoff{First: time.Second, Max: 10 * time.Second, Calm: time.Minute}
	ended := func(label string, ran time.Duration) containers.Container {
		return containers.Container{Started: t0, Finished: t0.Add(ran), Labels: map[string]string{labelBackoff: label}}
	}
	for _, tc := range []struct {
		name       string
		c          containers.Container
		wait, next time.Duration
	}{
		{"first end", ended("0s", time.Second), 0, time.Second},
		{"second", ended("1s", time.Second), time.Second, 2 * time.Second},
		{"near the longest", ended("8s", time.Second), 8 * time.Second, 10 * time.Second},
		{"longest", ended("10s", time.Second), 10 * time.Second, 10 * time.Second},
		{"the longest was shortened", ended("5m0s", time.Second), 10 * time.Second, 10 * time.Second},
		{"after a calm time", ended("10s", time.Minute), 0, time.Second},
		{"of another hand", ended("", time.Second), 0, time.Second},
		{"never started", containers.Container{Finished: t0, Labels: map[string]string{labelBackoff: "2s"}}, 2 * time.Second, 4 * time.Second},
	} {
		if w, n := b.wait(tc.c), b.next(tc.c); w != tc.wait || n != tc.next {
			t.Errorf("%s: waits %s then %s, want %s then %s", tc.name, w, n, tc.wait, tc.next)
		}
	}
}

func TestRestarts(t *testing.T) {
	always, never := corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever
	rule := func(op corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}}
	}
	for _, tc := range []struct {
		name           string
		policy         corev1.RestartPolicy
		kind           pod.Kind
		c              corev1.Container
		on0, on1, on42 bool
	}{
		{"Always", corev1.RestartPolicyAlways, pod.Regular, corev1.Container{}, true, true, true},
		{"OnFailure", corev1.RestartPolicyOnFailure, pod.Regular, corev1.Container{}, false, true, true},
		{"Never", corev1.RestartPolicyNever, pod.Regular, corev1.Container{}, false, false, false},
		{"init, Always", corev1.RestartPolicyAlways, pod.Init, corev1.Container{}, false, true, true},
		{"init, Never", corev1.RestartPolicyNever, pod.Init, corev1.Container{}, false, false, false},
		{"sidecar, Never", corev1.RestartPolicyNever, pod.Init, corev1.Container{RestartPolicy: &always}, true, true, true},
		{"ephemeral", corev1.RestartPolicyAlways, pod.Ephemeral, corev1.Container{}, false, false, false},
		{"container Never in pod Always", corev1.RestartPolicyAlways, pod.Regular, corev1.Container{RestartPolicy: &never}, false, false, false},
		{"rule In", corev1.RestartPolicyNever, pod.Regular, corev1.Container{RestartPolicy: &never, RestartPolicyRules: rule(corev1.ContainerRestartRuleOnExitCodesOpIn, 42)}, false, false, true},
		{"rule NotIn", corev1.RestartPolicyNever, pod.Regular, corev1.Container{RestartPolicy: &never, RestartPolicyRules: rule(corev1.ContainerRestartRuleOnExitCodesOpNotIn, 0, 42)}, false, true, false},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tc.policy}}
		for code, want := range map[int]bool{0: tc.on0, 1: tc.on1, 42: tc.on42} {
			if got := restarts(p, &tc.c, tc.kind, code); got != want {
				t.Errorf("%s: after %d it restarts: %t, want %t", tc.name, code, got, want)
			}
		}
	}
}
