package policy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Periods are the pace of the loop.
type Periods struct {
	Min    time.Duration // between two writes
	Verify time.Duration // between two looks at what the kernel holds
}

// Backoff bounds after a write that failed.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// Enforcer is the loop between the API and the kernel. It follows pods and
// namespaces only while there is a policy.
type Enforcer struct {
	api     kubernetes.Interface
	writer  *Writer
	periods Periods
	ready   func(context.Context) error
	log     *zap.Logger
	woken   chan struct{}

	policies   *table[Policy]
	namespaces *table[Namespace]
	pods       *table[Pod]
	local      *ranges

	// Owned by Run.
	stop  func() // ends following pods and namespaces; nil: they are not followed
	retry time.Duration
}

// New makes an Enforcer for the node of that name. ready returns once SetNode
// has been told of the node, or ctx ends.
func New(node string, api kubernetes.Interface, writer *Writer, periods Periods, ready func(context.Context) error, log *zap.Logger) *Enforcer {
	e := &Enforcer{api: api, writer: writer, periods: periods, ready: ready, log: log, woken: make(chan struct{}, 1)}
	e.policies = newTable(func(o any) *Policy {
		np := o.(*networkingv1.NetworkPolicy)
		p, err := policyOf(np)
		if err != nil {
			log.Error("a policy can't be understood and is ignored", zap.String("namespace", np.Namespace), zap.String("name", np.Name), zap.Error(err))
		}
		return p
	}, func(a, b *Policy) bool { return a.equal(b) }, e.wake)
	e.namespaces = newTable(func(o any) *Namespace { return namespaceOf(o.(*corev1.Namespace)) }, func(a, b *Namespace) bool { return *a == *b }, e.wake)
	e.pods = newTable(func(o any) *Pod { return podOf(o.(*corev1.Pod), node) }, (*Pod).equal, e.wake)
	e.local = &ranges{wake: e.wake}
	return e
}

func (e *Enforcer) wake() {
	select {
	case e.woken <- struct{}{}:
	default:
	}
}

// SetNode tells of this node.
func (e *Enforcer) SetNode(n *corev1.Node) {
	texts := n.Spec.PodCIDRs
	if len(texts) == 0 && n.Spec.PodCIDR != "" {
		texts = []string{n.Spec.PodCIDR}
	}
	e.local.set(texts)
}

// Run works until ctx ends. What is in the kernel before all is known, of an
// older run perhaps, is left as it is until then; and it stays when Run ends.
func (e *Enforcer) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	networking := e.api.NetworkingV1().RESTClient()
	running.Go(func() {
		follow(ctx, networking, "networkpolicies", fields.Everything(), &networkingv1.NetworkPolicy{}, e.policies)
	})
	if err := e.ready(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("waiting for the node: %w", err)
	}
	verify := time.NewTicker(e.periods.Verify)
	defer verify.Stop()
	for {
		// Writes are apart by the pause; what wakes us meanwhile is written together.
		pause := time.NewTimer(max(e.periods.Min, e.retry))
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
		if e.retry > 0 {
			e.step(ctx, &running)
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.woken:
			e.step(ctx, &running)
		case <-verify.C:
			e.verify(ctx, &running)
		}
	}
}

// step follows what must be followed, and writes if all is known.
func (e *Enforcer) step(ctx context.Context, running *sync.WaitGroup) {
	policies, filled := e.policies.count()
	if !filled {
		return
	}
	if policies > 0 && e.stop == nil {
		e.follow(ctx, running)
	}
	if policies > 0 {
		_, pods := e.pods.count()
		_, namespaces := e.namespaces.count()
		if !pods || !namespaces {
			return // their coming wakes us
		}
	}
	e.write()
}

// follow begins to follow pods and namespaces.
func (e *Enforcer) follow(ctx context.Context, running *sync.WaitGroup) {
	ctx, cancel := context.WithCancel(ctx)
	var both sync.WaitGroup
	core := e.api.CoreV1().RESTClient()
	run := func(work func()) {
		both.Add(1)
		running.Go(func() {
			defer both.Done()
			work()
		})
	}
	run(func() { follow(ctx, core, "namespaces", fields.Everything(), &corev1.Namespace{}, e.namespaces) })
	alive := fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
	run(func() { follow(ctx, core, "pods", alive, &corev1.Pod{}, e.pods) })
	e.stop = func() {
		cancel()
		both.Wait()
		e.pods.forget()
		e.namespaces.forget()
		e.writer.Forget()
		e.stop = nil
	}
}

// follow keeps a table as the API says until ctx ends.
func follow[T any](ctx context.Context, api rest.Interface, resource string, which fields.Selector, object runtime.Object, t *table[T]) {
	source := cache.NewListWatchFromClient(api, resource, "", which)
	cache.NewReflectorWithOptions(source, object, t, cache.ReflectorOptions{Name: "policy " + resource}).RunWithContext(ctx)
}

// write has everything new written.
func (e *Enforcer) write() {
	start := time.Now()
	n := News{Policies: e.policies.take(), Namespaces: e.namespaces.take(), Pods: e.pods.take(), Local: e.local.take()}
	stats, err := e.writer.Set(n)
	if err != nil {
		syncFailures.Inc()
		e.retry = min(max(2*e.retry, firstRetry), lastRetry)
		e.log.Error("writing the policies' rules failed", zap.Duration("retryAfter", e.retry), zap.Error(err))
		return
	}
	e.retry = 0
	e.note(stats)
	policies, _ := e.policies.count()
	written(start, policies)
	e.log.Debug("policies written", zap.Int("policies", policies), zap.Int("elements", stats.Elements),
		zap.Int("chains", stats.Chains), zap.Duration("took", time.Since(start)))
}

// verify has the rules looked after, and lets pods and namespaces go if there
// has been no policy for a while.
func (e *Enforcer) verify(ctx context.Context, running *sync.WaitGroup) {
	start := time.Now()
	policies, filled := e.policies.count()
	if filled && policies == 0 && e.stop != nil {
		e.stop()
	}
	e.step(ctx, running) // takes out what has rested
	stats, err := e.writer.Verify()
	if err != nil { // the next look tries again
		syncFailures.Inc()
		e.log.Error("looking after the policies' rules failed", zap.Error(err))
		return
	}
	e.note(stats)
	verified(start)
}

// note tells of a repair: an older run left other rules, or somebody has been at
// the table.
func (e *Enforcer) note(stats Stats) {
	if !stats.Repaired {
		return
	}
	repairs.Inc()
	e.log.Info("the kernel did not hold the policies' rules; it does now", zap.Int("elements", stats.Elements), zap.Int("chains", stats.Chains))
}
