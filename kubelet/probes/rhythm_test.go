package probes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// answers plays a prober in virtual time that tries by that function, for so long, and returns what it told.
func answers(t *testing.T, try func(at int) error, long time.Duration, targets func(begin time.Time) []Target) (told []string, tries []int, metrics []string) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		p := New(nil)
		var mu sync.Mutex
		p.try = func(context.Context, *corev1.Probe, Target) error {
			mu.Lock()
			defer mu.Unlock()
			at := int(time.Since(begin) / time.Second)
			tries = append(tries, at)
			return try(at)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		p.Set("u", targets(begin))
		go func() {
			for r := range p.Results() {
				told = append(told, fmt.Sprintf("%d %s %s healthy=%t changed=%t", int(time.Since(begin)/time.Second), r.Kind, r.Outcome, r.Healthy, r.Changed))
			}
		}()
		time.Sleep(long)
		synctest.Wait()
		metrics = gathered(t, p)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		close(p.results)
		synctest.Wait()
		if left := gathered(t, p); len(left) != 0 {
			t.Errorf("metrics of probes that are over: %q", left)
		}
	})
	return told, tries, metrics
}

func gathered(t *testing.T, p *Prober) (lines []string) {
	families, err := p.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			line := f.GetName()
			for _, l := range m.Label {
				line += " " + l.GetName() + "=" + l.GetValue()
			}
			lines = append(lines, fmt.Sprint(line, " ", m.GetCounter().GetValue(), " ", m.GetHistogram().GetSampleCount()))
		}
	}
	return lines
}

func probed(c *corev1.Container, since time.Time) []Target {
	return []Target{{Namespace: "ns", Pod: "p", Container: c, ContainerID: "c-0", Since: since}}
}

// What cannot be tried changes nothing: not even a liveness probe with a threshold of one.
func TestErroredTriesDoNotCount(t *testing.T) {
	c := &corev1.Container{Name: "c", LivenessProbe: &corev1.Probe{PeriodSeconds: 10, FailureThreshold: 1}}
	told, _, _ := answers(t, func(at int) error {
		switch {
		case at < 15:
			return unknown{errors.New("no such program")}
		case at < 25:
			return warning{"it redirects"}
		}
		return errors.New("bad")
	}, 45*time.Second, func(begin time.Time) []Target { return probed(c, begin) })
	want := []string{"0 Liveness errored healthy=true changed=false", "10 Liveness errored healthy=true changed=false",
		"20 Liveness warned healthy=true changed=false", "30 Liveness failed healthy=false changed=true"}
	if !slices.Equal(told, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// A container that was found running is first probed within a period; one that was started later at once.
func TestOnlyFoundContainersWait(t *testing.T) {
	c := &corev1.Container{Name: "c", ReadinessProbe: &corev1.Probe{PeriodSeconds: 100}}
	well := func(int) error { return nil }
	first := map[int]bool{}
	for range 10 {
		_, tries, _ := answers(t, well, 99*time.Second, func(begin time.Time) []Target { return probed(c, begin.Add(-time.Hour)) })
		if len(tries) != 1 {
			t.Fatalf("tried at %v, want once within the first period", tries)
		}
		first[tries[0]] = true
	}
	if len(first) < 2 {
		t.Errorf("ten kubelets first probed at %v", first)
	}
	_, tries, metrics := answers(t, well, 199*time.Second, func(begin time.Time) []Target { return probed(c, begin) })
	if !slices.Equal(tries, []int{0, 100}) {
		t.Errorf("a new container is probed at %v", tries)
	}
	if want := []string{
		"prober_probe_duration_seconds container=c namespace=ns pod=p probe_type=Readiness 0 2",
		"prober_probe_total container=c namespace=ns pod=p pod_uid=u probe_type=Readiness result=successful 2 0",
	}; !slices.Equal(metrics, want) {
		t.Errorf("metrics are %q", metrics)
	}
}
