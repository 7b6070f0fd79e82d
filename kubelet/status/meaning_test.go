package status

import (
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

func condition(st corev1.PodStatus, kind corev1.PodConditionType) corev1.PodCondition {
	if c := pod.Condition(&corev1.Pod{Status: st}, kind); c != nil {
		return *c
	}
	return corev1.PodCondition{}
}

// What users read in the messages of conditions.
func TestMessages(t *testing.T) {
	gate := corev1.PodReadinessGate{ConditionType: "x.io/gate"}
	sidecar := corev1.Container{Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}
	for _, tc := range []struct {
		name    string
		change  func(*Facts)
		kind    corev1.PodConditionType
		message string
	}{
		{"an init container at work is not ready, and the next has not begun", func(f *Facts) {
			f.Pod.Spec.InitContainers = append(f.Pod.Spec.InitContainers, corev1.Container{Name: "j"})
			f.Phase, f.Initialized, f.Containers["i"] = corev1.PodPending, false, f.Containers["a"]
		}, corev1.PodInitialized, "containers with incomplete status: [i j]"},
		{"a sidecar that is not ready", func(f *Facts) {
			f.Pod.Spec.InitContainers, f.Initialized = append(f.Pod.Spec.InitContainers, sidecar), false
			f.Containers["side"] = f.Containers["b"]
			f.Ready["b-0"] = false
		}, corev1.PodInitialized, "containers with incomplete status: [side]"},
		{"a sidecar that is not ready, later", func(f *Facts) {
			f.Pod.Spec.InitContainers = append(f.Pod.Spec.InitContainers, sidecar)
			f.Containers["side"] = f.Containers["b"]
			f.Ready["b-0"] = false
		}, corev1.ContainersReady, "containers with unready status: [side b]"},
		{"a gate without its condition", func(f *Facts) { f.Pod.Spec.ReadinessGates = []corev1.PodReadinessGate{gate} },
			corev1.PodReady, `corresponding condition of pod readiness gate "x.io/gate" does not exist.`},
		{"a closed gate", func(f *Facts) {
			f.Pod.Spec.ReadinessGates = []corev1.PodReadinessGate{gate}
			f.Pod.Status.Conditions = []corev1.PodCondition{{Type: "x.io/gate", Status: corev1.ConditionUnknown}}
		}, corev1.PodReady, `the status of pod readiness gate "x.io/gate" is not "True", but Unknown`},
		{"containers come before gates", func(f *Facts) {
			f.Pod.Spec.ReadinessGates, f.Ready = []corev1.PodReadinessGate{gate}, nil
		}, corev1.PodReady, "containers with unready status: [b a]"},
		{"a pod that failed says no more", func(f *Facts) { f.Phase = corev1.PodFailed }, corev1.PodReady, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := basic()
			tc.change(&f)
			c := condition(Compute(f), tc.kind)
			if c.Status != corev1.ConditionFalse || c.Message != tc.message || c.ObservedGeneration != 3 {
				t.Errorf("got %+v, want False with %q", c, tc.message)
			}
		})
	}
}

// Each container has its share of what a pod's termination messages may have together.
func TestNotesShareTheRoom(t *testing.T) {
	f := basic()
	f.Containers["i"][0].ExitCode = 0
	f.Notes = map[string]string{"i-0": strings.Repeat("ä", 4096)}
	st := Compute(f)
	if m := st.InitContainerStatuses[0].State.Terminated.Message; len(m) > 4096 || len(m) < 4095 || !utf8.ValidString(m) {
		t.Errorf("one of three has %d bytes, want its third of 12 KiB", len(m))
	}
}

// All conditions come in the order that users know, behind those of others; once they are there the order is kept.
func TestOrder(t *testing.T) {
	order := func(st *corev1.PodStatus) (names string) {
		for _, c := range st.Conditions {
			names += " " + string(c.Type)
		}
		return names
	}
	f := basic()
	want := Compute(f)
	have := corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: "x.io/mine"}}}
	first := WithOthers(&want, &have)
	if got := order(first); got != " x.io/mine PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled" {
		t.Errorf("at first:%s", got)
	}
	first.Conditions = append(first.Conditions, corev1.PodCondition{Type: "x.io/late"})
	if got := order(WithOthers(&want, first)); got != order(first) {
		t.Errorf("the order was%s, and is%s", order(first), got)
	}
}

// The condition of all containers starting anew is there only as long as they do.
func TestAnew(t *testing.T) {
	f := basic()
	f.Anew = true
	st := Compute(f)
	if c := condition(st, corev1.AllContainersRestarting); c.Status != corev1.ConditionTrue {
		t.Errorf("while they are started: %+v", c)
	}
	f.Anew, f.Pod.Status = false, st
	later := Compute(f)
	if c := condition(later, corev1.AllContainersRestarting); c.Type != "" {
		t.Errorf("afterwards: %+v", c)
	}
	if c := condition(*WithOthers(&later, &st), corev1.AllContainersRestarting); c.Type != "" {
		t.Errorf("it stays in the API: %+v", c)
	}
}
