// Package disruption says in the status of a PodDisruptionBudget how many of its pods may be disrupted now, which evictions (an
// action of the API server) spend one by one; and takes back from pods the word that they will be disrupted when nothing came of
// it. It is called by the loop, once for each of the two; it reads budgets, pods and workloads from caches, scales of other kinds
// live, and writes the status of budgets and one condition of pods.
//
// What always holds: a pod that an eviction has noted counts as gone until it is, or for two minutes; a status is only written over
// the one it was reckoned from, so that what an eviction spent meanwhile is never given back; while it is not known how many pods
// there should be, none may be disrupted. decide (reconcile.go) is pure.
package disruption

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t           loop.Tools
	budgets     policylisters.PodDisruptionBudgetLister
	budgetStore cache.Store
	pods        corelisters.PodLister
	scales      *scales
	wrote       *loop.Versions // of budgets
	told        *loop.Told[note]
}

// New makes the controller of budgets.
func New(t loop.Tools) loop.Controller {
	policy := t.Informers.Policy().V1().PodDisruptionBudgets()
	c := &controller{
		t: t, budgets: policy.Lister(), budgetStore: policy.Informer().GetStore(), pods: t.Informers.Core().V1().Pods().Lister(),
		scales: newScales(t), wrote: loop.NewVersions(), told: loop.NewTold[note](),
	}
	watches := []loop.Watch{
		{Resource: "poddisruptionbudgets.policy", Wakes: loop.Self},
		{Resource: "pods", Wakes: loop.Func("budgets that select it", c.ofPod)},
	}
	for _, resource := range []string{"deployments.apps", "replicasets.apps", "statefulsets.apps", "replicationcontrollers"} {
		watches = append(watches, loop.Watch{Resource: resource, Wakes: loop.Func("budgets that select its pods", c.ofWorkload)})
	}
	return loop.Controller{Watches: watches, Reconcile: c.reconcile}
}

// ofPod are the budgets that a change of a pod concerns.
func (c *controller) ofPod(e loop.Event) []loop.Key {
	old, _ := e.Old.(*corev1.Pod)
	now, _ := e.New.(*corev1.Pod)
	if old != nil && now != nil && !changed(old, now) {
		return nil
	}
	return c.selecting(e.Old, e.New)
}

// selecting are the budgets that select one of these, by their labels; nil is none.
func (c *controller) selecting(objects ...metav1.Object) []loop.Key {
	var keys []loop.Key
	for _, o := range objects {
		if o == nil {
			continue
		}
		all, err := c.budgets.PodDisruptionBudgets(o.GetNamespace()).List(labels.Everything())
		if err != nil {
			return nil // a cache does not fail
		}
		for _, b := range all {
			key := loop.KeyOf(b)
			if sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && sel.Matches(labels.Set(o.GetLabels())) && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// ofWorkload are the budgets that a change of how many pods there should be concerns.
func (c *controller) ofWorkload(e loop.Event) []loop.Key {
	var before, after workload
	if e.Old != nil {
		before = workloadOf(e.Old)
	}
	if e.New != nil {
		after = workloadOf(e.New)
	}
	if e.Old != nil && e.New != nil && before.replicas == after.replicas && before.owner == after.owner {
		return nil
	}
	pod := &metav1.ObjectMeta{Namespace: e.Last().GetNamespace(), Labels: before.labels}
	if e.New != nil {
		pod.Labels = after.labels
	}
	return c.selecting(pod)
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	b, err := c.budgets.PodDisruptionBudgets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.tell(nil, key, nil)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return 0, nil // the API server refuses these
	}
	if !c.wrote.Seen(key, c.budgetStore.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	pods, err := c.pods.Pods(b.Namespace).List(selector)
	if err != nil {
		return 0, err
	}
	e, failed := expectation{}, error(nil)
	if byScale(b) {
		e, failed = c.scales.expect(ctx, pods)
	} else {
		e.pods = int32(len(pods))
	}
	if errors.Is(failed, loop.ErrStale) {
		return 0, failed
	}
	var p plan
	if failed != nil {
		p = unknown(b, failed, time.Now())
	} else {
		p = decide(b, pods, e, time.Now())
	}
	c.tell(b, key, p.notes)
	want := b.DeepCopy()
	want.Status = p.status
	got, err := loop.Commit(ctx, c.t.Clients.Kube.PolicyV1().PodDisruptionBudgets(b.Namespace), b, want)
	if err != nil {
		return 0, err
	}
	if got != b {
		c.wrote.Wrote(key, got.ResourceVersion)
	}
	if failed != nil && !lasting(failed) {
		return 0, failed
	}
	return p.again, nil
}

// tell records what is to be said, but for what the last look at the same budget said already. A nil budget is one that is gone.
func (c *controller) tell(b *policyv1.PodDisruptionBudget, key loop.Key, notes []note) {
	for _, n := range c.told.News(key, notes) {
		if n.pod != nil {
			c.t.Recorder.Event(n.pod, n.kind, n.reason, n.message)
		} else {
			c.t.Recorder.Event(b, n.kind, n.reason, n.message)
		}
	}
}
