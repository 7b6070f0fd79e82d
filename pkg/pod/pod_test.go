package pod_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/pod"
)

// list reads pairs of name and quantity.
func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func container(requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func sidecar(requests corev1.ResourceList) corev1.Container {
	c := container(requests, nil)
	always := corev1.ContainerRestartPolicyAlways
	c.RestartPolicy = &always
	return c
}

func TestQoS(t *testing.T) {
	both := list("cpu", "1", "memory", "1Gi")
	for _, tc := range []struct {
		name string
		spec corev1.PodSpec
		want corev1.PodQOSClass
	}{
		{"nothing asked", corev1.PodSpec{Containers: []corev1.Container{container(nil, nil)}}, corev1.PodQOSBestEffort},
		{"zero is nothing", corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "0"), nil)}}, corev1.PodQOSBestEffort},
		{"storage does not count", corev1.PodSpec{Containers: []corev1.Container{container(list("ephemeral-storage", "1Gi"), nil)}}, corev1.PodQOSBestEffort},
		{"request only", corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "1"), nil)}}, corev1.PodQOSBurstable},
		{"limits only", corev1.PodSpec{Containers: []corev1.Container{container(nil, both)}}, corev1.PodQOSGuaranteed},
		{"equal, written differently", corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "1000m", "memory", "1024Mi"), both)}}, corev1.PodQOSGuaranteed},
		{"one limit", corev1.PodSpec{Containers: []corev1.Container{container(nil, list("cpu", "1"))}}, corev1.PodQOSBurstable},
		{"request below limit", corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "1m"), both)}}, corev1.PodQOSBurstable},
		{"one of two bounded", corev1.PodSpec{Containers: []corev1.Container{container(nil, both), container(nil, nil)}}, corev1.PodQOSBurstable},
		{"init container unbounded", corev1.PodSpec{Containers: []corev1.Container{container(nil, both)}, InitContainers: []corev1.Container{container(nil, nil)}}, corev1.PodQOSBurstable},
		{"pod level", corev1.PodSpec{Containers: []corev1.Container{container(nil, nil)}, Resources: &corev1.ResourceRequirements{Requests: both, Limits: both}}, corev1.PodQOSGuaranteed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := pod.QoS(&corev1.Pod{Spec: tc.spec}); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	told := &corev1.Pod{Status: corev1.PodStatus{QOSClass: corev1.PodQOSGuaranteed}}
	if got := pod.QoS(told); got != corev1.PodQOSGuaranteed {
		t.Errorf("status told Guaranteed, got %s", got)
	}
}

func TestRequests(t *testing.T) {
	for _, tc := range []struct {
		name        string
		spec        corev1.PodSpec
		cpu, memory string
	}{
		{"sum", corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "1", "memory", "1Gi"), nil), container(list("cpu", "500m"), nil)}}, "1500m", "1Gi"},
		{"init peak", corev1.PodSpec{
			Containers:     []corev1.Container{container(list("cpu", "1"), nil)},
			InitContainers: []corev1.Container{container(list("cpu", "3"), nil), container(list("memory", "1Gi"), nil)}}, "3", "1Gi"},
		{"sidecar adds to both", corev1.PodSpec{
			Containers:     []corev1.Container{container(list("cpu", "1"), nil)},
			InitContainers: []corev1.Container{sidecar(list("cpu", "2")), container(list("cpu", "2"), nil)}}, "4", "0"},
		{"sidecar after init", corev1.PodSpec{
			Containers:     []corev1.Container{container(list("cpu", "1"), nil)},
			InitContainers: []corev1.Container{container(list("cpu", "2"), nil), sidecar(list("cpu", "2"))}}, "3", "0"},
		{"overhead", corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "1"), nil)}, Overhead: list("cpu", "250m", "memory", "10Mi")}, "1250m", "10Mi"},
		{"pod level", corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "1"), nil)}, Resources: &corev1.ResourceRequirements{Requests: list("cpu", "5")}}, "5", "0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := pod.Requests(&corev1.Pod{Spec: tc.spec})
			if got.Cpu().Cmp(resource.MustParse(tc.cpu)) != 0 || got.Memory().Cmp(resource.MustParse(tc.memory)) != 0 {
				t.Errorf("got cpu %s memory %s, want %s %s", got.Cpu(), got.Memory(), tc.cpu, tc.memory)
			}
		})
	}
}

func TestBounded(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(nil, list("cpu", "1")), container(nil, list("cpu", "1", "memory", "1Gi"))}}}
	if !pod.Bounded(p, corev1.ResourceCPU) || pod.Bounded(p, corev1.ResourceMemory) {
		t.Error("want bounded in cpu, not in memory")
	}
}

func TestAvailable(t *testing.T) {
	now := time.Unix(1000, 0)
	ready := func(since int64) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(since, 0)}}}}
	}
	for _, tc := range []struct {
		name string
		pod  *corev1.Pod
		min  int32
		ok   bool
		wait time.Duration
	}{
		{"no condition", &corev1.Pod{}, 0, false, 0},
		{"ready now", ready(1000), 0, true, 0},
		{"ready not long enough", ready(995), 10, false, 5 * time.Second},
		{"ready long enough", ready(990), 10, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if ok, wait := pod.Available(tc.pod, tc.min, now); ok != tc.ok || wait != tc.wait {
				t.Errorf("got %v %v, want %v %v", ok, wait, tc.ok, tc.wait)
			}
		})
	}
}

func TestSetConditionMovesTheTimeOnlyWithTheStatus(t *testing.T) {
	var s corev1.PodStatus
	at := func(sec int64) time.Time { return time.Unix(sec, 0) }
	c := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "A"}
	if !pod.SetCondition(&s, c, at(1)) {
		t.Error("a new condition is a change")
	}
	if pod.SetCondition(&s, c, at(2)) {
		t.Error("the same again is none")
	}
	c.Reason = "B"
	if !pod.SetCondition(&s, c, at(3)) || !s.Conditions[0].LastTransitionTime.Time.Equal(at(1)) {
		t.Errorf("a new reason is a change, but not of time: %+v", s.Conditions)
	}
	c.Status = corev1.ConditionTrue
	if !pod.SetCondition(&s, c, at(4)) || !s.Conditions[0].LastTransitionTime.Time.Equal(at(4)) {
		t.Errorf("a new status moves the time: %+v", s.Conditions)
	}
}

func TestContainers(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers:      []corev1.Container{{Name: "i"}},
		Containers:          []corev1.Container{{Name: "a"}, {Name: "b"}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e"}}},
	}}
	for name, want := range map[string]pod.Kind{"i": pod.Init, "b": pod.Regular, "e": pod.Ephemeral} {
		if c, kind := pod.Container(p, name); c == nil || c.Name != name || kind != want {
			t.Errorf("%s: got %v, kind %d", name, c, kind)
		}
	}
	if c, _ := pod.Container(p, "none"); c != nil {
		t.Errorf("found %v", c)
	}
	if got := pod.DefaultContainer(p); got != "a" {
		t.Errorf("default container %q", got)
	}
	p.Annotations = map[string]string{"kubectl.kubernetes.io/default-container": "b"}
	if got := pod.DefaultContainer(p); got != "b" {
		t.Errorf("default container by annotation %q", got)
	}
}

func TestStaticAndMirror(t *testing.T) {
	static := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{pod.AnnotationSource: "file"}}}
	mirror := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{pod.AnnotationSource: "file", pod.AnnotationMirror: "x"}}}
	plain := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{pod.AnnotationSource: "api"}}}
	if !pod.Static(static) || pod.Mirror(static) || pod.Static(mirror) || !pod.Mirror(mirror) || pod.Static(plain) {
		t.Error("static, mirror and plain pods are mixed up")
	}
}
