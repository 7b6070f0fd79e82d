// Package podgc deletes pods that no kubelet will: those of nodes that are gone, finished ones beyond a number, those being
// deleted that never had a node, and those being deleted on nodes that people have declared out of service.
//
// It is woken by the pods and nodes themselves: a key is a pod, or «finished», under which the finished ones are counted.
package podgc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

const (
	quarantine = 40 * time.Second // how long a node must be gone before its pods are: it may be registering anew
	countEvery = time.Second      // finished pods are counted no more often
	remembered = time.Hour        // for how long at most a node is known to be gone
	atOnce     = 32               // deletions side by side
)

// finished is the key under which finished pods are counted; it has no namespace, as every pod has.
var finished = loop.Key{Name: "finished"}

type controller struct {
	t      loop.Tools
	keep   int
	pods   corelisters.PodLister
	byNode podset.Reader
	nodes  corelisters.NodeLister

	mu      sync.Mutex
	absent  map[string]time.Time // guarded by mu: nodes that pods name and that are not there, and since when
	counted time.Time            // guarded by mu: when the finished ones last were
}

// New returns the constructor for a number of finished pods to keep; 0 or less: all.
func New(keep int) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		core := t.Informers.Core().V1()
		c := &controller{t: t, keep: keep, pods: core.Pods().Lister(), byNode: podset.NewReader(t.Informers), nodes: core.Nodes().Lister(), absent: map[string]time.Time{}}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "pods", Wakes: loop.Func("itself, when its node is not there, it has none and goes, or it goes from one that is out of service; the count of finished ones, when it finishes", c.touched)},
				{Resource: "nodes", Wakes: loop.Func("its pods, when it is gone, or out of service", c.nodeTouched)},
			},
			Reconcile: c.reconcile,
		}
	}
}

func (c *controller) touched(e loop.Event) []loop.Key {
	now, ok := e.New.(*corev1.Pod)
	if !ok {
		return nil
	}
	var keys []loop.Key
	if old, was := e.Old.(*corev1.Pod); pod.Terminal(now) && !(was && pod.Terminal(old)) {
		keys = append(keys, finished)
	}
	node, err := c.nodes.Get(now.Spec.NodeName)
	if err != nil || now.DeletionTimestamp != nil && outOfService(node) {
		if now.Spec.NodeName != "" || now.DeletionTimestamp != nil {
			keys = append(keys, loop.KeyOf(now))
		}
	}
	return keys
}

func (c *controller) nodeTouched(e loop.Event) []loop.Key {
	now, _ := e.New.(*corev1.Node)
	if now != nil {
		c.forget(now.Name)
		if !outOfService(now) {
			return nil
		}
	}
	pods, err := c.byNode.On(e.Last().GetName())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, p := range pods {
		if now == nil || p.DeletionTimestamp != nil {
			keys = append(keys, loop.KeyOf(p))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if key == finished {
		return c.trim(ctx)
	}
	p, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := time.Now()
	node, gone, err := c.home(ctx, p, now)
	if err != nil {
		return 0, err
	}
	v, again := judge(p, node, gone, now)
	if v == nil {
		return again, nil
	}
	return 0, c.delete(ctx, *v, now)
}

// home is the pod's node, or nil and for how long it has been gone: absent from the cache and, after the quarantine, asked live.
func (c *controller) home(ctx context.Context, p *corev1.Pod, now time.Time) (*corev1.Node, time.Duration, error) {
	name := p.Spec.NodeName
	if name == "" {
		return nil, 0, nil
	}
	node, err := c.nodes.Get(name)
	if err == nil {
		c.forget(name)
		return node, 0, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, 0, err
	}
	gone := c.since(name, now)
	if gone < quarantine {
		return nil, gone, nil
	}
	node, err = c.t.Clients.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil: // the cache is behind
		c.forget(name)
		return node, 0, nil
	case !apierrors.IsNotFound(err):
		return nil, 0, fmt.Errorf("asking for node %s: %w", name, err)
	}
	return nil, gone, nil
}

// since is for how long a node is known to be gone.
func (c *controller) since(node string, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, known := c.absent[node]
	if !known {
		for n, at := range c.absent { // those whose pods are gone, too; for others it begins anew
			if now.Sub(at) > remembered {
				delete(c.absent, n)
			}
		}
		first = now
		c.absent[node] = now
	}
	return now.Sub(first)
}

func (c *controller) forget(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.absent, node)
}

// trim deletes finished pods beyond the number to keep. Many finish at once, so it counts no more often than countEvery.
func (c *controller) trim(ctx context.Context) (time.Duration, error) {
	if c.keep <= 0 {
		return 0, nil
	}
	now := time.Now()
	if wait := c.countSoon(now); wait > 0 {
		return wait, nil
	}
	pods, err := c.pods.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	return 0, inTurn(excess(pods, c.keep), func(v victim) error { return c.delete(ctx, v, now) })
}

// inTurn deletes some at a time. One that cannot be deleted keeps none of the others; the first error is told.
func inTurn(victims []victim, remove func(victim) error) (first error) {
	for some := range slices.Chunk(victims, atOnce) {
		if _, err := podset.Together(len(some), func(i int) error { return remove(some[i]) }); first == nil {
			first = err
		}
	}
	return first
}

// countSoon notes a count, or says after how long there may be one.
func (c *controller) countSoon(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if next := c.counted.Add(countEvery); now.Before(next) {
		return next.Sub(now)
	}
	c.counted = now
	return 0
}

// delete ends a pod that has no kubelet: at once, its status telling why.
func (c *controller) delete(ctx context.Context, v victim, now time.Time) error {
	p := v.pod
	pods := c.t.Clients.Kube.CoreV1().Pods(p.Namespace)
	if !pod.Terminal(p) {
		want := p.DeepCopy()
		want.Status.Phase = corev1.PodFailed
		if v.disrupted {
			pod.SetCondition(&want.Status, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", Message: "PodGC: " + v.why,
			}, now)
		}
		if _, err := loop.Commit(ctx, pods, p, want); err != nil {
			return ignoreGone(err)
		}
	}
	opts := metav1.NewPreconditionDeleteOptions(string(p.UID))
	none := int64(0)
	opts.GracePeriodSeconds = &none
	err := ignoreGone(pods.Delete(ctx, p.Name, *opts))
	c.t.Metrics.Counter("pod_gc_collector_force_delete_pods_total", "Pods that were deleted by force, by reason.", "namespace", "reason").WithLabelValues(p.Namespace, v.reason).Inc()
	if err != nil {
		c.t.Metrics.Counter("pod_gc_collector_force_delete_pod_errors_total", "Pods that could not be deleted by force, by reason.", "namespace", "reason").WithLabelValues(p.Namespace, v.reason).Inc()
	}
	return err
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
