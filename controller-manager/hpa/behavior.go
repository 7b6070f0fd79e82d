package hpa

import (
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/types"
)

// history is what was advised for one autoscaler and what was done, as far as it still matters.
type history struct {
	uid    types.UID
	advice []advice
	steps  []step
	dim    time.Time // when something was done of which nobody remembers how much; zero: never
	begun  bool      // something was advised in this term of leadership
	scaled time.Time // last
}

// advice is how many replicas metrics asked for at a time.
type advice struct {
	replicas int32
	at       time.Time
}

// step is by how many replicas a target was changed at a time.
type step struct {
	by int32
	at time.Time
}

// recall is what the status of an autoscaler tells to one who has just begun.
func recall(hpa *autoscalingv2.HorizontalPodAutoscaler) *history {
	h, s := &history{uid: hpa.UID}, hpa.Status
	switch {
	case s.LastScaleTime == nil:
	case s.DesiredReplicas != s.CurrentReplicas: // as they are written with a step, until the look after it
		h.scaled = s.LastScaleTime.Time
		h.steps = []step{{s.DesiredReplicas - s.CurrentReplicas, h.scaled}}
	default:
		h.scaled, h.dim = s.LastScaleTime.Time, s.LastScaleTime.Time
	}
	return h
}

// begin takes what is there for what was advised, where nothing is known.
func (h *history) begin(current int32, now time.Time) {
	if !h.begun {
		h.begun = true
		h.advice = append(h.advice, advice{current, now})
	}
}

// advise keeps an advice, and of the former ones those that still matter.
func (h *history) advise(replicas int32, now time.Time, keep time.Duration) {
	h.advice = slices.DeleteFunc(h.advice, func(a advice) bool { return a.at.Before(now.Add(-keep)) })
	h.advice = append(h.advice, advice{replicas, now})
}

// did keeps a step.
func (h *history) did(from, to int32, now time.Time) {
	const longest = 30 * time.Minute // that a policy may look back
	h.steps = slices.DeleteFunc(h.steps, func(s step) bool { return s.at.Before(now.Add(-longest)) })
	h.steps = append(h.steps, step{to - from, now})
	h.scaled = now
}

// changed is the sum of all steps in a period up to now.
func (h *history) changed(period time.Duration, now time.Time) (by int32) {
	for _, s := range h.steps {
		if s.at.After(now.Add(-period)) {
			by += s.by
		}
	}
	return by
}

// rules are one direction's, with nothing left to be assumed
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#default-behavior).
type rules struct {
	window   time.Duration
	choose   autoscalingv2.ScalingPolicySelect
	policies []autoscalingv2.HPAScalingPolicy
}

func upRules(b *autoscalingv2.HorizontalPodAutoscalerBehavior) rules {
	return complete(b.ScaleUp, 0, autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15})
}

func downRules(b *autoscalingv2.HorizontalPodAutoscalerBehavior, window time.Duration) rules {
	return complete(b.ScaleDown, window, autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15})
}

func complete(r *autoscalingv2.HPAScalingRules, window time.Duration, policies ...autoscalingv2.HPAScalingPolicy) rules {
	out := rules{window, autoscalingv2.MaxChangePolicySelect, policies}
	if r == nil {
		return out
	}
	if r.StabilizationWindowSeconds != nil {
		out.window = time.Duration(*r.StabilizationWindowSeconds) * time.Second
	}
	if r.SelectPolicy != nil {
		out.choose = *r.SelectPolicy
	}
	if len(r.Policies) > 0 {
		out.policies = r.Policies
	}
	return out
}

// steady is what is to be done when something is advised now: nothing that goes further up than the least, or further down than the
// most, that was advised within the window of that direction. The advice is not yet among what was advised.
func (h *history) steady(current, advised int32, up, down time.Duration, now time.Time) int32 {
	least, most := advised, advised
	for _, a := range h.advice {
		if a.at.After(now.Add(-up)) {
			least = min(least, a.replicas)
		}
		if a.at.After(now.Add(-down)) {
			most = max(most, a.replicas)
		}
	}
	return min(max(current, least), most)
}

// highest is the most that was advised within a window, or is now.
func (h *history) highest(advised int32, window time.Duration, now time.Time) int32 {
	for _, a := range h.advice {
		if !a.at.Before(now.Add(-window)) {
			advised = max(advised, a.replicas)
		}
	}
	return advised
}

// upLimit is how many replicas there may be now by the rules for going up.
func (h *history) upLimit(r rules, current int32, now time.Time) int32 {
	return max(current, h.limit(r, current, now, func(start int64, p autoscalingv2.HPAScalingPolicy, _ time.Duration) int64 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start + int64(p.Value)
		}
		return max(1, (start*(100+int64(p.Value))+99)/100) // 1: no share of nothing would ever get away from it
	}, r.choose == autoscalingv2.MinChangePolicySelect))
}

// downLimit is how few replicas there may be now by the rules for going down.
func (h *history) downLimit(r rules, current int32, now time.Time) int32 {
	return min(current, h.limit(r, current, now, func(start int64, p autoscalingv2.HPAScalingPolicy, period time.Duration) int64 {
		switch {
		case h.dim.After(now.Add(-period)):
			return int64(current)
		case p.Type == autoscalingv2.PodsScalingPolicy:
			return start - int64(p.Value)
		}
		return start * (100 - int64(p.Value)) / 100
	}, r.choose != autoscalingv2.MinChangePolicySelect))
}

// limit takes the lowest or the highest of what each policy allows, by what there was when its period began.
func (h *history) limit(r rules, current int32, now time.Time, allows func(start int64, p autoscalingv2.HPAScalingPolicy, period time.Duration) int64, lowest bool) int32 {
	if r.choose == autoscalingv2.DisabledPolicySelect {
		return current
	}
	var best int64
	for i, p := range r.policies {
		period := time.Duration(p.PeriodSeconds) * time.Second
		n := allows(int64(current-h.changed(period, now)), p, period)
		if i == 0 || lowest && n < best || !lowest && n > best {
			best = n
		}
	}
	return clamp(float64(best))
}

// plainUpLimit is how many replicas there may be now of a target whose autoscaler says nothing of behaviour.
func plainUpLimit(current int32) int32 { return clamp(max(2*float64(current), 4)) }
