// Package hpa sets the number of replicas of whatever has a scale by metrics, as a HorizontalPodAutoscaler says
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/). It is called by the loop; it reads autoscalers and
// pods from caches, scales and metrics from the API, and writes scales and the autoscalers' status.
//
// hpa.go brings the pieces together. target.go finds and writes scales, metrics.go asks for measurements; all else is pure:
// replicas.go reckons what one metric proposes, behavior.go what of that may be done now, given what was advised and done before,
// reconcile.go decides, status.go words it.
//
// What always holds: one metric that cannot be read keeps from scaling down, never from scaling up; a pod without a measurement, or
// not yet ready, is taken for what changes least; an autoscaler is looked at once a period and when its spec changes, each on its
// own clock; nothing is written but what changed.
//
// A restart forgets what was advised. It is taken to be the number of replicas that is there, advised just now, so that nothing goes
// sooner than its stabilization window after the restart. Of what was done the status still knows when the last time was and, until
// the look after it, how much it was; where it does not know how much, policies for scaling down count as used up for their period.
package hpa

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

// Config is what holds for all autoscalers; the flags --horizontal-pod-autoscaler-* set it.
type Config struct {
	Period    time.Duration // between two looks
	Downscale time.Duration // stabilization of scaling down, where an autoscaler does not say
	Tolerance float64       // likewise, in both directions
	CPUInit   time.Duration // how long after its start a pod's CPU counts only while it is ready
	ReadyWait time.Duration // how long after its start a pod counts as never having been ready
}

type controller struct {
	t       loop.Tools
	cfg     Config
	hpas    autoscalinglisters.HorizontalPodAutoscalerLister
	store   cache.Store
	pods    corelisters.PodLister
	wrote   *loop.Versions
	targets *targets
	metrics *source
	numbers numbers

	mu     sync.Mutex
	memory map[loop.Key]*history // guarded by mu; a history itself is its key's, and one key is worked on once at a time
	who    map[loop.Key]selected // guarded by mu: which pods each autoscaler was last found to scale
}

// selected is a selector, its text and what it was read of.
type selected struct {
	of   autoscalingv2.CrossVersionObjectReference
	text string
	labels.Selector
}

// New returns the constructor.
func New(cfg Config) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		inf := t.Informers.Autoscaling().V2().HorizontalPodAutoscalers()
		c := &controller{
			t: t, cfg: cfg, hpas: inf.Lister(), store: inf.Informer().GetStore(), pods: t.Informers.Core().V1().Pods().Lister(), wrote: loop.NewVersions(),
			targets: newTargets(t.Clients), metrics: newSource(t.Clients), numbers: newNumbers(t.Metrics),
			memory: map[loop.Key]*history{}, who: map[loop.Key]selected{},
		}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "horizontalpodautoscalers.autoscaling", Wakes: loop.Func("itself, when its spec changed", changed)},
			},
			Reads:     []string{"pods"},
			Reconcile: c.reconcile,
		}
	}
}

// changed leaves out what only the status says: that we wrote ourselves.
func changed(e loop.Event) []loop.Key {
	if e.Old != nil && e.New != nil && e.Old.GetGeneration() == e.New.GetGeneration() {
		return nil
	}
	return loop.Self.Keys(e)
}

// reconcile looks once. What fails is told in the status and tried again after a period, as metrics may be away for long; only a
// write of the status that was lost to another is made good at once.
func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	hpa, err := c.hpas.HorizontalPodAutoscalers(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.forget(key)
		c.wrote.Seen(key, c.store.LastStoreSyncResourceVersion()) // forgets it
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !c.wrote.Seen(key, c.store.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	start := time.Now()
	l := look{hpa: hpa, cfg: c.cfg, now: start, past: c.past(hpa)}
	target, err := c.targets.find(ctx, hpa)
	if err == nil {
		l.scale = target.scale
		if l.measures() {
			l.selector, l.refused = c.selector(hpa, l.scale.selector)
			if l.refused == nil {
				c.measure(ctx, &l)
			}
		}
	} else {
		l.lost = err
		if apierrors.IsNotFound(err) {
			c.scalesNothing(key)
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	o := l.decide()
	if o.rescale {
		hpa, err = c.rescale(ctx, hpa, target, &l, &o)
		if err != nil {
			return 0, err
		}
	}
	for _, e := range o.events {
		c.t.Recorder.Event(hpa, e.kind, e.reason, e.message)
	}
	c.numbers.note(hpa, &l, &o, time.Since(start))
	if _, err := c.write(ctx, hpa, o.status); err != nil {
		return 0, err
	}
	return c.cfg.Period, nil
}

// rescale writes the new number. That the target goes to zero is noted before it does: the note is what later brings it back.
func (c *controller) rescale(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, t target, l *look, o *outcome) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	if o.replicas == 0 {
		note := *hpa.Status.DeepCopy()
		note.Conditions = withCondition(note.Conditions, scaledToZero(l.now, true))
		var err error
		if hpa, err = c.write(ctx, hpa, note); err != nil {
			return hpa, err
		}
	}
	err := c.targets.set(ctx, t, o.replicas)
	if apierrors.IsConflict(err) { // what it was decided on is no longer so
		return hpa, fmt.Errorf("scaling %s: %w", l.reference(), err)
	}
	if err != nil {
		o.notRescaled(l, err)
		return hpa, nil
	}
	o.rescaled(l)
	c.t.Log.Info("scaled", zap.String("namespace", hpa.Namespace), zap.String("name", hpa.Name), zap.String("target", l.reference()),
		zap.Int32("from", l.scale.spec), zap.Int32("to", o.replicas), zap.String("reason", o.why))
	return hpa, nil
}

func (c *controller) write(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, s autoscalingv2.HorizontalPodAutoscalerStatus) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	want := hpa.DeepCopy()
	want.Status = s
	got, err := loop.Commit(ctx, c.t.Clients.Kube.AutoscalingV2().HorizontalPodAutoscalers(hpa.Namespace), hpa, want)
	if err != nil {
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			c.t.Recorder.Event(hpa, corev1.EventTypeWarning, "FailedUpdateStatus", err.Error())
		}
		return hpa, err
	}
	if got != hpa {
		c.wrote.Wrote(loop.KeyOf(hpa), got.ResourceVersion)
	}
	return got, nil
}

// past is what is remembered of an autoscaler, or what its status tells where nothing is.
func (c *controller) past(hpa *autoscalingv2.HorizontalPodAutoscaler) *history {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := loop.KeyOf(hpa)
	h := c.memory[key]
	if h == nil || h.uid != hpa.UID {
		h = recall(hpa)
		c.memory[key] = h
		delete(c.who, key)
		c.numbers.count.Set(float64(len(c.memory)))
	}
	if c.who[key].of != hpa.Spec.ScaleTargetRef {
		delete(c.who, key)
	}
	return h
}

// scalesNothing takes the pods of a target that is gone from an autoscaler: those that have its labels now may be another's.
func (c *controller) scalesNothing(key loop.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.who, key)
}

func (c *controller) forget(key loop.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.memory, key)
	delete(c.who, key)
	c.numbers.count.Set(float64(len(c.memory)))
	c.numbers.desired.DeleteLabelValues(key.Namespace, key.Name)
}

// selector reads that of a scale, and refuses one whose pods another autoscaler scales, too.
func (c *controller) selector(hpa *autoscalingv2.HorizontalPodAutoscaler, text string) (labels.Selector, *refusal) {
	s, no := parseSelector(text)
	if no != nil {
		return nil, no
	}
	mine := loop.KeyOf(hpa)
	c.mu.Lock()
	c.who[mine] = selected{hpa.Spec.ScaleTargetRef, text, s}
	var others []loop.Key
	for k := range c.who {
		if k.Namespace == mine.Namespace {
			others = append(others, k)
		}
	}
	slices.SortFunc(others, func(a, b loop.Key) int { return strings.Compare(a.Name, b.Name) })
	theirs := make([]selected, len(others))
	for i, k := range others {
		theirs[i] = c.who[k]
	}
	c.mu.Unlock()
	if len(others) == 1 {
		return s, nil
	}
	pods, err := c.pods.Pods(hpa.Namespace).List(s)
	if err != nil {
		return nil, &refusal{"InvalidSelector", "InvalidSelector", err.Error(), err.Error()}
	}
	if names := sharing(pods, others, theirs); len(names) > 1 {
		message := fmt.Sprintf("pods by selector %v are controlled by multiple HPAs: %v", text, names)
		return nil, &refusal{"AmbiguousSelector", "AmbiguousSelector", message, message}
	}
	return s, nil
}

// measure reads every metric, and the pods that they are of.
func (c *controller) measure(ctx context.Context, l *look) {
	pods, err := c.pods.Pods(l.hpa.Namespace).List(l.selector)
	l.pods = pods
	for i := range l.hpa.Spec.Metrics {
		start := time.Now()
		r := reading{err: err}
		if err == nil {
			r = c.metrics.read(ctx, l.hpa, &l.hpa.Spec.Metrics[i], l.selector, c.targets)
		}
		r.took = time.Since(start)
		l.readings = append(l.readings, r)
	}
}

// numbers are the families horizontal_pod_autoscaler_controller_*.
type numbers struct {
	looks, reads       *prometheus.CounterVec
	looking, reckoning *prometheus.HistogramVec
	count              prometheus.Gauge
	desired            *prometheus.GaugeVec
}

func newNumbers(f *loop.Families) numbers {
	const in = "horizontal_pod_autoscaler_controller_"
	buckets := prometheus.ExponentialBuckets(0.001, 2, 15)
	return numbers{
		looks:     f.Counter(in+"reconciliations_total", "Looks at autoscalers, by what was done (scale_down, scale_up, none) and what went wrong first (spec, internal, none).", "action", "error"),
		looking:   f.Histogram(in+"reconciliation_duration_seconds", "Seconds that one look takes.", buckets, "action", "error"),
		reads:     f.Counter(in+"metric_computation_total", "Metrics reckoned with, by what they propose, what went wrong and their type.", "action", "error", "metric_type"),
		reckoning: f.Histogram(in+"metric_computation_duration_seconds", "Seconds that one metric takes.", buckets, "action", "error", "metric_type"),
		count:     f.Gauge(in+"num_horizontal_pod_autoscalers", "Autoscalers that are looked after.").WithLabelValues(),
		desired:   f.Gauge(in+"desired_replicas", "Replicas that an autoscaler wants.", "namespace", "hpa_name"),
	}
}

func (n numbers) note(hpa *autoscalingv2.HorizontalPodAutoscaler, l *look, o *outcome, took time.Duration) {
	n.looks.WithLabelValues(o.action, o.problem).Inc()
	n.looking.WithLabelValues(o.action, o.problem).Observe(took.Seconds())
	n.desired.WithLabelValues(hpa.Namespace, hpa.Name).Set(float64(o.status.DesiredReplicas))
	for i, p := range o.proposals {
		action, problem, kind := direction(l.scale.spec, p.replicas), problemNone, string(hpa.Spec.Metrics[i].Type)
		if p.err != nil {
			action, problem = actionNone, problemInternal
			if p.spec {
				problem = problemSpec
			}
		}
		n.reads.WithLabelValues(action, problem, kind).Inc()
		n.reckoning.WithLabelValues(action, problem, kind).Observe(l.readings[i].took.Seconds())
	}
}
