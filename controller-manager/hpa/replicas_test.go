package hpa

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	noon  = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	usual = Config{Period: 15 * time.Second, Downscale: 5 * time.Minute, Tolerance: 0.1, CPUInit: 5 * time.Minute, ReadyWait: 30 * time.Second}
)

// worker is a pod that runs and is ready since long, and asks for 1 CPU and 1000 bytes.
func worker(i int, change ...func(*corev1.Pod)) *corev1.Pod {
	long := metav1.NewTime(noon.Add(-time.Hour))
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i), Labels: map[string]string{"app": "web"}}}
	p.Spec.Containers = []corev1.Container{{Name: "main", Resources: asks("1")}}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &long,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: long}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func asks(cpu string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("1000")}}
}

func pending(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }
func failed(p *corev1.Pod)  { p.Status.Phase = corev1.PodFailed }
func going(p *corev1.Pod)   { now := metav1.NewTime(noon); p.DeletionTimestamp = &now }
func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }

// born is when a pod started, turned when its readiness changed last: so long ago.
func born(ago, turned time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = &metav1.Time{Time: noon.Add(-ago)}
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(noon.Add(-turned))
	}
}

// crew are n workers of which the last ones are changed.
func crew(n int, last ...func(*corev1.Pod)) (pods []*corev1.Pod) {
	for i := range n {
		if k := i - (n - len(last)); k >= 0 {
			pods = append(pods, worker(i, last[k]))
		} else {
			pods = append(pods, worker(i))
		}
	}
	return pods
}

// use are samples of the pods in their order, taken just now over the last minute; below zero: none.
func use(values ...int64) map[string]sample {
	out := map[string]sample{}
	for i, v := range values {
		if v >= 0 {
			out[fmt.Sprint("p", i)] = sample{value: v, at: noon, window: time.Minute}
		}
	}
	return out
}

func TestUtilization(t *testing.T) {
	fine := func(*corev1.Pod) {}
	for _, c := range []struct {
		name    string
		pods    []*corev1.Pod
		samples map[string]sample
		target  int32
		current int32 // 0: as many as there are pods
		within  tolerance
		want    int32
		share   int32
		average int64
		fails   string
	}{
		{name: "on target", pods: crew(3), samples: use(500, 500, 500), target: 50, want: 3, share: 50, average: 500},
		{name: "up", pods: crew(3), samples: use(300, 500, 700), target: 30, want: 5, share: 50, average: 500},
		{name: "down", pods: crew(5), samples: use(100, 300, 500, 250, 250), target: 50, want: 3, share: 28, average: 280},
		{name: "a little up is within the tolerance", pods: crew(3), samples: use(1010, 1030, 1020), target: 100, want: 3, share: 102, average: 1020},
		{name: "a little down too", pods: crew(3), samples: use(920, 920, 920), target: 100, want: 3, share: 92, average: 920},
		{name: "just within, up", pods: crew(10), samples: use(1100, 1100, 1100, 1100, 1100, 1100, 1100, 1100, 1100, 1100), target: 100, want: 10, share: 110, average: 1100},
		{name: "just beyond, up", pods: crew(10), samples: use(1110, 1110, 1110, 1110, 1110, 1110, 1110, 1110, 1110, 1110), target: 100, want: 12, share: 111, average: 1110},
		{name: "its own tolerance up", pods: crew(3), samples: use(1020, 1020, 1020), target: 100, within: tolerance{0.1, 0.01}, want: 4, share: 102, average: 1020},
		{name: "its own tolerance down", pods: crew(10), samples: use(850, 850, 850, 850, 850, 850, 850, 850, 850, 850), target: 100, within: tolerance{0.2, 0}, want: 10, share: 85, average: 850},
		{name: "nothing is used", pods: crew(2), samples: use(0, 0), target: 50, want: 0},
		{name: "more pods wanted than ready: ready ones count", pods: crew(3, failed), samples: use(800, 800), target: 40, current: 3, want: 4, share: 80, average: 800},

		{name: "up, one missing counts as idle", pods: crew(4), samples: use(950, 950, 950, -1), target: 50, want: 6, share: 95, average: 950},
		{name: "up, so many missing that it would turn", pods: crew(4), samples: use(900, -1, -1, -1), target: 80, want: 4, share: 90, average: 900},
		{name: "up, so many missing that it is within the tolerance", pods: crew(2), samples: use(1000, -1), target: 50, want: 2, share: 100, average: 1000},
		{name: "down, one missing counts as full", pods: crew(4), samples: use(100, 100, 100, -1), target: 50, want: 3, share: 10, average: 100},
		{name: "down, missing turn the direction", pods: crew(2), samples: use(400, -1), target: 50, want: 2, share: 40, average: 400},
		{name: "down, missing count as the target where it is higher", pods: crew(4), samples: use(200, 200, 200, -1), target: 200, want: 2, share: 20, average: 200},
		{name: "on target, missing change nothing", pods: crew(2), samples: use(500, -1), target: 50, want: 2, share: 50, average: 500},
		{name: "up, but fewer are known than are wanted already", pods: crew(3), samples: use(600, 600, -1), target: 30, current: 6, want: 6, share: 60, average: 600},

		{name: "up, pending ones count as idle", pods: crew(3, pending), samples: use(900, 900), target: 30, want: 6, share: 90, average: 900},
		{name: "down, pending ones are left out", pods: crew(3, pending), samples: use(200, 200), target: 50, want: 1, share: 20, average: 200},
		{name: "failed ones are left out", pods: crew(3, failed), samples: use(500, 700, 10000), target: 50, want: 3, share: 60, average: 600},
		{name: "going ones are left out", pods: crew(3, going), samples: use(500, 700, 10000), target: 50, want: 3, share: 60, average: 600},
		{name: "young and not ready", pods: crew(3, func(p *corev1.Pod) { unready(p); born(time.Minute, time.Minute)(p) }), samples: use(300, 300, 1000), target: 30, want: 3, share: 30, average: 300},
		{name: "young, ready, measured before it was", pods: crew(2, born(4*time.Minute, 30*time.Second)), samples: use(300, 1000), target: 30, want: 2, share: 30, average: 300},
		{name: "young, ready for as long as was measured", pods: crew(2, born(4*time.Minute, 2*time.Minute)), samples: use(300, 900), target: 30, want: 4, share: 60, average: 600},
		{name: "old and never ready", pods: crew(2, func(p *corev1.Pod) { unready(p); born(time.Hour, time.Hour-10*time.Second)(p) }), samples: use(300, 900), target: 30, want: 2, share: 30, average: 300},
		{name: "old, not ready any more", pods: crew(2, func(p *corev1.Pod) { unready(p); born(time.Hour, time.Minute)(p) }), samples: use(300, 900), target: 30, want: 4, share: 60, average: 600},
		{name: "without a start", pods: crew(2, func(p *corev1.Pod) { p.Status.StartTime = nil }), samples: use(300, 900), target: 30, want: 2, share: 30, average: 300},
		{name: "without a word of readiness", pods: crew(2, func(p *corev1.Pod) { p.Status.Conditions = nil }), samples: use(300, 900), target: 30, want: 2, share: 30, average: 300},
		{name: "unready and missing, up", pods: crew(4, pending, fine), samples: use(950, 950, -1, -1), target: 30, want: 7, share: 95, average: 950},

		{name: "measurements of strangers are nothing", pods: crew(1), samples: use(500, 9000), target: 50, want: 1, share: 50, average: 500},
		{name: "no pods", samples: use(1), target: 50, fails: "no pods returned by selector"},
		{name: "no measurements of them", pods: crew(2, pending), samples: map[string]sample{}, target: 50, fails: "did not receive metrics for targeted pods (pods might be unready)"},
		{name: "a container that asks for nothing", pods: crew(2, func(p *corev1.Pod) { p.Spec.Containers[0].Resources = corev1.ResourceRequirements{} }), samples: use(1, 1), target: 50,
			fails: "missing request for cpu in container main of Pod p1"},
		{name: "pods that ask for 0", pods: crew(1, func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks("0") }), samples: use(1), target: 50, fails: "no metrics returned matched known pods"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := measured{current: c.current, pods: c.pods, samples: c.samples, resource: "cpu", within: c.within, cfg: usual, now: noon}
			if m.current == 0 {
				m.current = int32(len(c.pods))
			}
			if m.within == (tolerance{}) {
				m.within = tolerance{0.1, 0.1}
			}
			got, share, average, err := m.utilization(c.target)
			if !failsWith(err, c.fails) {
				t.Fatalf("error %v, want %q", err, c.fails)
			}
			if err == nil && (got != c.want || share != c.share || average != c.average) {
				t.Errorf("%d replicas at %d %%, %d m; want %d at %d %%, %d m", got, share, average, c.want, c.share, c.average)
			}
		})
	}
}

func failsWith(err error, text string) bool {
	if text == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), text)
}

func TestAverage(t *testing.T) {
	for _, c := range []struct {
		name     string
		resource string
		pods     []*corev1.Pod
		samples  map[string]sample
		target   int64
		want     int32
		average  int64
		fails    string
	}{
		{name: "on target", pods: crew(3), samples: use(20, 20, 20), target: 20, want: 3, average: 20},
		{name: "up", pods: crew(3), samples: use(20, 10, 30), target: 15, want: 4, average: 20},
		{name: "down", pods: crew(5), samples: use(12, 12, 12, 12, 12), target: 20, want: 3, average: 12},
		{name: "within", pods: crew(3), samples: use(19, 19, 19), target: 20, want: 3, average: 19},
		{name: "missing, down, count as the target", pods: crew(4), samples: use(5, 5, 5, -1), target: 20, want: 2, average: 5},
		{name: "missing, up, count as nothing", pods: crew(4), samples: use(50, 50, 50, -1), target: 20, want: 8, average: 50},
		{name: "pending, up, count as nothing", pods: crew(3, pending), samples: use(50, 50, 900), target: 10, want: 10, average: 50},
		{name: "not ready does not matter", pods: crew(2, unready), samples: use(10, 30), target: 10, want: 4, average: 20},
		{name: "but for the CPU", resource: "cpu", pods: crew(2, func(p *corev1.Pod) { unready(p); born(time.Minute, time.Minute)(p) }), samples: use(10, 30), target: 10, want: 2, average: 10},
		{name: "not for memory", resource: "memory", pods: crew(2, func(p *corev1.Pod) { unready(p); born(time.Minute, time.Minute)(p) }), samples: use(10, 30), target: 10, want: 4, average: 20},
		{name: "too large to add", pods: crew(2), samples: use(math.MaxInt64, math.MaxInt64), target: 1, want: math.MaxInt32, average: math.MaxInt64 / 2},
		{name: "no pods", samples: use(1), target: 1, fails: "no pods returned by selector"},
		{name: "none ready", pods: crew(1, pending), samples: use(1), target: 1, fails: "did not receive metrics"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := measured{current: int32(len(c.pods)), pods: c.pods, samples: c.samples, resource: c.resource, within: tolerance{0.1, 0.1}, cfg: usual, now: noon}
			got, average, err := m.average(c.target)
			if !failsWith(err, c.fails) {
				t.Fatalf("error %v, want %q", err, c.fails)
			}
			if err == nil && (got != c.want || average != c.average) {
				t.Errorf("%d replicas at %d, want %d at %d", got, average, c.want, c.average)
			}
		})
	}
}

func TestWhole(t *testing.T) {
	for _, c := range []struct {
		name          string
		current       int32
		pods          []*corev1.Pod
		value, target int64
		want          int32
		fails         string
	}{
		{name: "on target", current: 3, pods: crew(3), value: 20, target: 20, want: 3},
		{name: "up by the ready ones", current: 3, pods: crew(3), value: 40, target: 20, want: 6},
		{name: "up by the ready ones only", current: 3, pods: crew(3, unready), value: 40, target: 20, want: 4},
		{name: "down", current: 4, pods: crew(4), value: 10, target: 20, want: 2},
		{name: "to nothing", current: 4, pods: crew(4), value: 0, target: 20, want: 0},
		{name: "from nothing", value: 50, target: 20, want: 3},
		{name: "from nothing, within the tolerance", value: 1, target: 20, want: 1},
		{name: "nothing stays nothing", value: 0, target: 20, want: 0},
		{name: "a metric below zero", current: 2, pods: crew(2), value: -5, target: 20, want: 0},
		{name: "more than there are numbers", current: 2, pods: crew(2), value: math.MaxInt64, target: 1, want: math.MaxInt32},
		{name: "no pods", current: 2, value: 50, target: 20, fails: "unable to calculate ready pods: no pods returned by selector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := measured{current: c.current, pods: c.pods, within: tolerance{0.1, 0.1}, now: noon}.total(c.value, c.target)
			if !failsWith(err, c.fails) || err == nil && got != c.want {
				t.Errorf("%d, %v; want %d, %q", got, err, c.want, c.fails)
			}
		})
	}
	for _, c := range []struct {
		name          string
		there         int32
		value, target int64
		want          int32
		each          int64
	}{
		{"on target", 4, 80, 20, 4, 20},
		{"within", 4, 84, 20, 4, 21},
		{"up", 4, 161, 20, 9, 41},
		{"down", 4, 20, 20, 1, 5},
		{"to nothing", 4, 0, 20, 0, 0},
		{"from nothing", 0, 50, 20, 3, 50},
		{"nothing stays nothing", 0, 0, 20, 0, 0},
		{"more than there are numbers", 1, math.MaxInt64, 1, math.MaxInt32, math.MaxInt64},
	} {
		t.Run("per pod "+c.name, func(t *testing.T) {
			if got, each := perPod(c.there, c.value, c.target, tolerance{0.1, 0.1}); got != c.want || each != c.each {
				t.Errorf("%d at %d each, want %d at %d", got, each, c.want, c.each)
			}
		})
	}
}

func TestRequested(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	two := worker(0, func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "setup"}, {Name: "side", RestartPolicy: &always, Resources: asks("250m")}}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "more", Resources: asks("500m")})
	})
	whole := two.DeepCopy()
	whole.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("3")}}
	for _, c := range []struct {
		name      string
		pod       *corev1.Pod
		resource  string
		container string
		want      int64
		fails     string
	}{
		{"all containers and sidecars", two, "cpu", "", 1750, ""},
		{"one container", two, "cpu", "more", 500, ""},
		{"a sidecar", two, "cpu", "side", 250, ""},
		{"the pod's own", whole, "cpu", "", 3000, ""},
		{"one container all the same", whole, "cpu", "more", 500, ""},
		{"no such container", two, "cpu", "none", 0, "container none not found in Pod p0"},
		{"an init container is none", two, "cpu", "setup", 0, "container setup not found in Pod p0"},
		{"nothing asked for", two, "example.com/gpu", "", 0, "missing request for example.com/gpu in container side of Pod p0"},
		{"nothing asked for by the pod", whole, "example.com/gpu", "", 0, "missing pod-level request for example.com/gpu in Pod p0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := requested([]*corev1.Pod{c.pod}, c.resource, c.container)
			if !failsWith(err, c.fails) || got["p0"] != c.want {
				t.Errorf("%v, %v; want %d, %q", got, err, c.want, c.fails)
			}
		})
	}
}
