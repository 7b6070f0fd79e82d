package hpa

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	corev1 "k8s.io/api/core/v1"
	helper "k8s.io/component-helpers/resource"

	"pilothouse.dev/pkg/pod"
)

// tolerance is by how much a metric may miss its target without anything being done.
type tolerance struct{ down, up float64 }

// covers says whether a ratio of what is to what should be is close enough to 1. What is no number is not.
func (t tolerance) covers(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// measured is what the replicas for a metric of pods are reckoned from.
type measured struct {
	current int32 // replicas wanted now
	pods    []*corev1.Pod
	samples map[string]sample
	resource,
	container string // a resource of pods or of one container of each; empty for other metrics
	within tolerance
	cfg    Config
	now    time.Time
}

var errNoPods = errors.New("no pods returned by selector while calculating replica count")

// groups are the pods by what their measurement is good for, and the measurements that count.
type groups struct {
	ready   int
	unready []string // running in, or never ready: their measurement would mislead
	missing []string // without one
	counted map[string]int64
}

// group sorts pods. Those that go or have failed are nowhere, nor are measurements of pods that are not known (yet, or any more)
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details).
func (m measured) group() (groups, error) {
	g := groups{counted: map[string]int64{}}
	if len(m.pods) == 0 {
		return g, errNoPods
	}
	for _, p := range m.pods {
		s, there := m.samples[p.Name]
		switch {
		case p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed:
		case p.Status.Phase == corev1.PodPending:
			g.unready = append(g.unready, p.Name)
		case !there:
			g.missing = append(g.missing, p.Name)
		case m.resource == string(corev1.ResourceCPU) && m.runningIn(p, s):
			g.unready = append(g.unready, p.Name)
		default:
			g.ready++
			g.counted[p.Name] = s.value
		}
	}
	if len(g.counted) == 0 {
		return g, errors.New("did not receive metrics for targeted pods (pods might be unready)")
	}
	return g, nil
}

// runningIn says whether a pod's CPU is that of its start. While it is young that is so when it is not ready, or was not for all of
// the time that was measured; later only when it has never been ready.
func (m measured) runningIn(p *corev1.Pod, s sample) bool {
	ready := pod.Condition(p, corev1.PodReady)
	if ready == nil || p.Status.StartTime == nil {
		return true
	}
	start, since := p.Status.StartTime.Time, ready.LastTransitionTime.Time
	if start.Add(m.cfg.CPUInit).After(m.now) {
		return ready.Status == corev1.ConditionFalse || s.at.Before(since.Add(s.window))
	}
	return ready.Status == corev1.ConditionFalse && start.Add(m.cfg.ReadyWait).After(since)
}

// utilization aims at a share of what pods request, in percent. It returns the replicas, the share there is and what pods use on
// average, in thousandths.
func (m measured) utilization(target int32) (replicas, share int32, average int64, err error) {
	g, err := m.group()
	if err != nil {
		return 0, 0, 0, err
	}
	requests, err := requested(m.pods, m.resource, m.container)
	if err != nil {
		return 0, 0, 0, err
	}
	ratio := func(used map[string]int64) (float64, int32, int64, error) {
		var total, asked int64
		for name, v := range used {
			if r, ok := requests[name]; ok {
				total, asked = plus(total, v), plus(asked, r)
			}
		}
		if asked == 0 {
			return 0, 0, 0, errors.New("no metrics returned matched known pods")
		}
		percent := times(total, 100, asked)
		return float64(percent) / float64(target), clamp(float64(percent)), total / int64(len(used)), nil
	}
	first, share, average, err := ratio(g.counted)
	if err != nil {
		return 0, 0, 0, err
	}
	full := int64(max(100, target))
	replicas, err = m.settle(g, first, func(name string) int64 { return times(requests[name], full, 100) }, func(used map[string]int64) (float64, error) {
		r, _, _, err := ratio(used)
		return r, err
	})
	return replicas, share, average, err
}

// average aims at a value for each pod, in thousandths. It returns the replicas and the average there is.
func (m measured) average(target int64) (replicas int32, average int64, err error) {
	g, err := m.group()
	if err != nil {
		return 0, 0, err
	}
	mean := func(used map[string]int64) int64 {
		var total int64
		for _, v := range used {
			total = plus(total, v)
		}
		return total / int64(len(used))
	}
	average = mean(g.counted)
	replicas, err = m.settle(g, float64(average)/float64(target), func(string) int64 { return target }, func(used map[string]int64) (float64, error) {
		return float64(mean(used)) / float64(target), nil
	})
	return replicas, average, err
}

// settle turns a ratio of what is to what should be into replicas. Pods of which nothing good is known are first taken for what
// changes least: as using nothing when it would go up, and what is missing as using its full share when it would go down. If that
// turns the direction round, nothing is done.
func (m measured) settle(g groups, first float64, full func(pod string) int64, ratio func(map[string]int64) (float64, error)) (int32, error) {
	up := first > 1
	if len(g.missing) == 0 && (len(g.unready) == 0 || !up) {
		if m.within.covers(first) {
			return m.current, nil
		}
		return ceil(first * float64(g.ready)), nil
	}
	for _, name := range g.missing {
		switch {
		case up:
			g.counted[name] = 0
		case first < 1:
			g.counted[name] = full(name)
		}
	}
	if up {
		for _, name := range g.unready {
			g.counted[name] = 0
		}
	}
	second, err := ratio(g.counted)
	if err != nil {
		return 0, err
	}
	if m.within.covers(second) || first < 1 && second > 1 || up && second < 1 {
		return m.current, nil
	}
	replicas := ceil(second * float64(len(g.counted)))
	if second < 1 && replicas > m.current || second > 1 && replicas < m.current {
		return m.current, nil
	}
	return replicas, nil
}

// total aims at a value of something as a whole. From no replicas there is nothing to multiply: the ratio itself is what is wanted.
func (m measured) total(value, target int64) (int32, error) {
	ratio := float64(value) / float64(target)
	if m.current == 0 {
		return ceil(ratio), nil
	}
	if m.within.covers(ratio) {
		return m.current, nil
	}
	if len(m.pods) == 0 {
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
	}
	ready := 0
	for _, p := range m.pods {
		if p.Status.Phase == corev1.PodRunning && pod.Ready(p) {
			ready++
		}
	}
	return ceil(ratio * float64(ready)), nil
}

// perPod aims at a value for each replica there is of something as a whole. It returns the replicas and the share of each.
func perPod(there int32, value, target int64, within tolerance) (replicas int32, each int64) {
	replicas = there
	if !within.covers(float64(value) / (float64(target) * float64(there))) {
		replicas = ceil(float64(value) / float64(target))
	}
	if there == 0 {
		return replicas, value
	}
	each = value / int64(there)
	if value%int64(there) > 0 {
		each++
	}
	return replicas, each
}

// requested is what each pod requests of a resource, in thousandths: pod-level requests where it has some, else what its containers
// and sidecars do, each of which must say; or only the one container.
func requested(pods []*corev1.Pod, resource, container string) (map[string]int64, error) {
	name, out := corev1.ResourceName(resource), make(map[string]int64, len(pods))
	for _, p := range pods {
		if container == "" && helper.IsPodLevelRequestsSet(p) {
			q, ok := helper.PodRequests(p, helper.PodResourcesOptions{})[name]
			if !ok {
				return nil, fmt.Errorf("missing pod-level request for %s in Pod %s", resource, p.Name)
			}
			out[p.Name] = q.MilliValue()
			continue
		}
		found := container == ""
		for kind, c := range pod.Containers(p) {
			if kind == pod.Ephemeral || kind == pod.Init && !pod.Sidecar(c) || container != "" && c.Name != container {
				continue
			}
			q, ok := c.Resources.Requests[name]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", resource, c.Name, p.Name)
			}
			found = true
			out[p.Name] = plus(out[p.Name], q.MilliValue())
		}
		if !found {
			return nil, fmt.Errorf("container %s not found in Pod %s", container, p.Name)
		}
	}
	return out, nil
}

// ceil rounds up to a number of replicas.
func ceil(x float64) int32 { return clamp(math.Ceil(x)) }

func clamp(x float64) int32 {
	if !(x > 0) { // or no number
		return 0
	}
	return int32(min(x, math.MaxInt32))
}

// plus adds and stays at the largest number rather than going over it.
func plus(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// times is a·b/by in whole numbers, for by > 0: at least 0, and the largest number rather than more.
func times(a, b, by int64) int64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	high, low := bits.Mul64(uint64(a), uint64(b))
	if high >= uint64(by) {
		return math.MaxInt64
	}
	n, _ := bits.Div64(high, low, uint64(by))
	return int64(min(n, math.MaxInt64))
}

// direction is a step for the metrics.
func direction(from, to int32) string {
	switch cmp.Compare(to, from) {
	case 1:
		return actionUp
	case -1:
		return actionDown
	}
	return actionNone
}
