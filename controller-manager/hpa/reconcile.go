package hpa

import (
	"errors"
	"fmt"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/controller-manager/loop"
)

// look is all that one decision is made of.
type look struct {
	hpa      *autoscalingv2.HorizontalPodAutoscaler
	cfg      Config
	now      time.Time
	past     *history
	lost     error // why the scale could not be read
	scale    scale
	refused  *refusal // why its selector is of no use
	selector labels.Selector
	pods     []*corev1.Pod
	readings []reading // one a metric of the spec
}

// refusal is a selector's: the event's reason and the condition's, the message of the event, and that of the condition.
type refusal struct{ event, condition, message, told string }

// standing is where a target stands before any metric is asked.
type standing int

const (
	within  standing = iota
	resting          // at zero, by somebody's will
	above
	below
)

func (l *look) least() int32 {
	if l.hpa.Spec.MinReplicas != nil {
		return *l.hpa.Spec.MinReplicas
	}
	return 1
}

// standing: at zero a target rests, unless it was scaled there by its metrics.
func (l *look) standing() standing {
	switch current := l.scale.spec; {
	case current == 0 && !l.wentToZero():
		return resting
	case current > l.hpa.Spec.MaxReplicas:
		return above
	case current < l.least():
		return below
	}
	return within
}

func (l *look) wentToZero() bool {
	return slices.ContainsFunc(l.hpa.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScaledToZero && c.Status == corev1.ConditionTrue
	})
}

// measures says whether metrics have a say.
func (l *look) measures() bool { return l.standing() == within }

func (l *look) reference() string {
	return l.hpa.Spec.ScaleTargetRef.Kind + "/" + l.hpa.Namespace + "/" + l.hpa.Spec.ScaleTargetRef.Name
}

// decide says what is to be done and told. It also takes into the history what is advised.
func (l *look) decide() outcome {
	o := outcome{now: l.now, status: *l.hpa.Status.DeepCopy(), action: actionNone, problem: problemNone}
	o.status.ObservedGeneration = new(l.hpa.Generation)
	if l.lost != nil {
		o.lost(l.lost)
		return o
	}
	o.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current := l.scale.spec
	l.past.begin(current, l.now)
	if current > 0 && l.wentToZero() {
		o.setCondition(scaledToZero(l.now, false))
	}
	o.replicas = current
	var metrics []autoscalingv2.MetricStatus
	switch l.standing() {
	case resting:
		o.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
	case above:
		o.replicas, o.why = l.hpa.Spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas"
	case below:
		o.replicas, o.why = l.least(), "Current number of replicas below Spec.MinReplicas"
	default:
		advised, because, ok := l.advise(&o)
		metrics = make([]autoscalingv2.MetricStatus, len(o.proposals))
		for i, p := range o.proposals {
			metrics[i] = p.status
		}
		if !ok {
			o.status.CurrentReplicas, o.status.CurrentMetrics = current, metrics
			return o
		}
		switch {
		case advised > current:
			o.why = because + " above target"
		case advised < current:
			o.why = "All metrics below target"
		}
		o.replicas = l.allowed(&o, advised)
	}
	o.rescale = o.replicas != current
	if o.rescale {
		o.action = direction(current, o.replicas)
	}
	o.status.CurrentReplicas, o.status.DesiredReplicas, o.status.CurrentMetrics = current, o.replicas, metrics
	if at := l.past.scaled; !at.IsZero() && (o.status.LastScaleTime == nil || at.Truncate(time.Second).After(o.status.LastScaleTime.Time)) {
		o.status.LastScaleTime = new(metav1.NewTime(at)) // a status that was not written
	}
	return o
}

// advise is the greatest number that a metric proposes, and which one does. It is no advice when none could be read, or when some
// could not and the others would go down.
func (l *look) advise(o *outcome) (replicas int32, because string, ok bool) {
	fail := func(err error) (int32, string, bool) {
		o.event(corev1.EventTypeWarning, "FailedComputeMetricsReplicas", err.Error())
		return 0, "", false
	}
	if l.refused != nil {
		o.event(corev1.EventTypeWarning, l.refused.event, l.refused.message)
		o.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, l.refused.condition, l.refused.told)
		o.problem = problemInternal
		return fail(errors.New(l.refused.message))
	}
	replicas = -1
	var first *proposal
	wrong := 0
	for i := range l.hpa.Spec.Metrics {
		p := l.propose(&l.hpa.Spec.Metrics[i], l.readings[i])
		o.proposals = append(o.proposals, p)
		switch {
		case p.err != nil:
			o.event(corev1.EventTypeWarning, p.reason, p.short.Error())
			if first == nil {
				first = &p
			}
			wrong++
		case p.replicas > replicas:
			replicas, because = p.replicas, p.name
		}
	}
	if wrong > 0 {
		o.problem = problemInternal
		if first.spec {
			o.problem = problemSpec
		}
	}
	if wrong > 0 && replicas < l.scale.spec || replicas < 0 {
		err := fmt.Errorf("invalid metrics (%d invalid out of %d)", wrong, len(l.hpa.Spec.Metrics))
		if first != nil {
			o.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, first.reason, "the HPA was unable to compute the replica count: "+first.short.Error())
			err = fmt.Errorf("%w, first error is: %w", err, first.err)
		}
		return fail(err)
	}
	o.condition(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+because)
	return replicas, because, true
}

// What limits the number of replicas, as the condition ScalingLimited tells it.
var (
	free    = [2]string{"DesiredWithinRange", "the desired count is within the acceptable range"}
	tooFast = [2]string{"ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"}
	tooSlow = [2]string{"ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"}
	tooMany = [2]string{"TooManyReplicas", "the desired replica count is more than the maximum replica count"}
	tooFew  = [2]string{"TooFewReplicas", "the desired replica count is less than the minimum replica count"}
)

// allowed is how much of what is advised is done now: first what is steady, of that what the limits leave.
func (l *look) allowed(o *outcome, advised int32) int32 {
	h, current, least, most, low, high := l.past, l.scale.spec, l.least(), l.hpa.Spec.MaxReplicas, tooFew, tooMany
	var steady int32
	upward := false
	if b := l.hpa.Spec.Behavior; b == nil {
		steady = h.highest(advised, l.cfg.Downscale, l.now)
		h.advise(advised, l.now, l.cfg.Downscale)
		if n := plainUpLimit(current); n < most {
			most, high = n, tooFast
		}
	} else {
		up, down := upRules(b), downRules(b, l.cfg.Downscale)
		steady, upward = h.steady(current, advised, up.window, down.window, l.now), advised >= current
		h.advise(advised, l.now, max(up.window, down.window))
		if n := h.upLimit(up, current, l.now); steady > current && n < most {
			most, high = n, tooFast
		}
		if n := h.downLimit(down, current, l.now); steady < current && n > least {
			least, low = n, tooSlow
		}
	}
	switch {
	case steady == advised:
		o.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "ReadyForNewScale", "recommended size matches current size")
	case upward:
		o.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation")
	default:
		o.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")
	}
	switch {
	case steady < least:
		o.limited(low)
		return least
	case steady > most:
		o.limited(high)
		return most
	}
	o.limited(free)
	return steady
}

// sharing are the autoscalers whose selectors match one of the pods.
func sharing(pods []*corev1.Pod, names []loop.Key, of []selected) (found []loop.Key) {
	for i, s := range of {
		if slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return s.Matches(labels.Set(p.Labels)) }) {
			found = append(found, names[i])
		}
	}
	return found
}
