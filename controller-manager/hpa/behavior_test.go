package hpa

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pods(n, seconds int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: seconds}
}

func percent(n, seconds int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: seconds}
}

func ago(s int) time.Time { return noon.Add(-time.Duration(s) * time.Second) }

func TestLimits(t *testing.T) {
	const (
		most     = autoscalingv2.MaxChangePolicySelect
		least    = autoscalingv2.MinChangePolicySelect
		disabled = autoscalingv2.DisabledPolicySelect
	)
	policies := func(p ...autoscalingv2.HPAScalingPolicy) []autoscalingv2.HPAScalingPolicy { return p }
	for _, c := range []struct {
		name     string
		choose   autoscalingv2.ScalingPolicySelect
		policies []autoscalingv2.HPAScalingPolicy
		steps    []step
		dim      time.Time
		current  int32
		up, down int32
	}{
		{"pods", most, policies(pods(4, 15)), nil, time.Time{}, 10, 14, 6},
		{"percent", most, policies(percent(50, 15)), nil, time.Time{}, 10, 15, 5},
		{"percent is rounded to where something happens up, and down to the whole", most, policies(percent(10, 15)), nil, time.Time{}, 5, 6, 4},
		{"percent without a rounding error", most, policies(percent(29, 15)), nil, time.Time{}, 100, 129, 71},
		{"the greater of two", most, policies(pods(4, 15), percent(100, 15)), nil, time.Time{}, 10, 20, 0},
		{"the smaller of two", least, policies(pods(4, 15), percent(100, 15)), nil, time.Time{}, 10, 14, 6},
		{"disabled", disabled, policies(pods(4, 15)), nil, time.Time{}, 10, 10, 10},
		{"some of it is used up", most, policies(pods(4, 60)), []step{{3, ago(30)}}, time.Time{}, 10, 11, 3},
		{"all of it is used up", most, policies(pods(4, 60)), []step{{4, ago(30)}}, time.Time{}, 10, 10, 2},
		{"what is long ago is not", most, policies(pods(4, 60)), []step{{4, ago(60)}}, time.Time{}, 10, 14, 6},
		{"down and up in one period", most, policies(pods(4, 60)), []step{{-3, ago(50)}, {2, ago(20)}}, time.Time{}, 10, 15, 7},
		{"percent is of what there was", most, policies(percent(100, 60)), []step{{5, ago(10)}}, time.Time{}, 10, 10, 0},
		{"each policy by its own period", least, policies(pods(2, 15), pods(4, 60)), []step{{3, ago(30)}}, time.Time{}, 10, 11, 8},
		{"never below what there is", most, policies(pods(1, 60)), []step{{5, ago(10)}}, time.Time{}, 10, 10, 4},
		{"from zero by percent", most, policies(percent(100, 15)), nil, time.Time{}, 0, 1, 0},
		{"never below zero", most, policies(pods(9, 15)), nil, time.Time{}, 3, 12, 0},
		{"a step nobody remembers keeps from going down", most, policies(pods(2, 60)), nil, ago(30), 10, 12, 10},
		{"but not in a period after it", most, policies(pods(2, 60), pods(1, 15)), nil, ago(30), 10, 12, 9},
		{"nor when it is past", most, policies(pods(2, 60)), nil, ago(60), 10, 12, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &history{steps: c.steps, dim: c.dim}
			r := rules{choose: c.choose, policies: c.policies}
			if up, down := h.upLimit(r, c.current, noon), h.downLimit(r, c.current, noon); up != c.up || down != c.down {
				t.Errorf("from %d to %d, want from %d to %d", down, up, c.down, c.up)
			}
		})
	}
	for current, want := range map[int32]int32{0: 4, 1: 4, 2: 4, 3: 6, 100: 200, 1 << 30: 1<<31 - 1} {
		if got := plainUpLimit(current); got != want {
			t.Errorf("from %d plainly to %d, want %d", current, got, want)
		}
	}
}

func TestSteady(t *testing.T) {
	for _, c := range []struct {
		name             string
		advice           []advice
		up, down         time.Duration
		current, advised int32
		want             int32
	}{
		{"nothing known", nil, time.Minute, time.Minute, 5, 8, 8},
		{"up at once without a window", []advice{{3, ago(10)}}, 0, time.Minute, 5, 8, 8},
		{"up to the least advised", []advice{{6, ago(10)}, {9, ago(20)}}, time.Minute, 0, 5, 8, 6},
		{"up not when less was advised than there is", []advice{{3, ago(10)}}, time.Minute, 0, 5, 8, 5},
		{"up, what is long ago does not count", []advice{{3, ago(60)}}, time.Minute, 0, 5, 8, 8},
		{"down at once without a window", []advice{{9, ago(10)}}, time.Minute, 0, 5, 2, 2},
		{"down to the most advised", []advice{{3, ago(10)}, {4, ago(20)}}, 0, time.Minute, 5, 2, 4},
		{"down not when more was advised", []advice{{9, ago(10)}}, 0, time.Minute, 5, 2, 5},
		{"down, what is long ago does not count", []advice{{9, ago(61)}}, 0, time.Minute, 5, 2, 2},
		{"as it is", []advice{{3, ago(10)}, {9, ago(20)}}, time.Minute, time.Minute, 5, 5, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &history{advice: c.advice}
			if got := h.steady(c.current, c.advised, c.up, c.down, noon); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
	h := &history{advice: []advice{{9, ago(301)}, {7, ago(300)}, {3, ago(1)}}}
	if got := h.highest(2, 5*time.Minute, noon); got != 7 {
		t.Errorf("highest is %d, want 7", got)
	}
	h.advise(2, noon, 5*time.Minute)
	if len(h.advice) != 3 || h.advice[2].replicas != 2 {
		t.Errorf("keeps %v", h.advice)
	}
}

// What was done last is known again after a restart, as far as the status tells.
func TestRecall(t *testing.T) {
	at := metav1.NewTime(ago(10))
	of := func(current, desired int32, last *metav1.Time) *history {
		h := &autoscalingv2.HorizontalPodAutoscaler{}
		h.Status.CurrentReplicas, h.Status.DesiredReplicas, h.Status.LastScaleTime = current, desired, last
		return recall(h)
	}
	if h := of(3, 3, nil); len(h.steps) != 0 || !h.dim.IsZero() || !h.scaled.IsZero() {
		t.Errorf("never scaled: %+v", h)
	}
	if h := of(3, 7, &at); len(h.steps) != 1 || h.steps[0] != (step{4, at.Time}) || !h.dim.IsZero() {
		t.Errorf("just scaled: %+v", h)
	}
	if h := of(7, 7, &at); len(h.steps) != 0 || !h.dim.Equal(at.Time) || !h.scaled.Equal(at.Time) {
		t.Errorf("scaled before: %+v", h)
	}
	h := of(7, 7, &at)
	h.begin(7, noon)
	h.begin(9, noon)
	if len(h.advice) != 1 || h.advice[0] != (advice{7, noon}) {
		t.Errorf("begins with %v", h.advice)
	}
	if got := h.steady(7, 2, 0, 5*time.Minute, noon.Add(4*time.Minute)); got != 7 {
		t.Errorf("goes to %d before the window after the restart has passed", got)
	}
}
