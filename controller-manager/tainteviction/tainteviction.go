// Package tainteviction ends pods on nodes with NoExecute taints, when their toleration of them runs out. Taints are set by
// nodelifecycle or by people; a taint taken away in time spares the pods.
//
// What always holds: a pod's own tolerations win; only a pod that says nothing of not-ready and unreachable nodes gets the
// default. The time counts from when the taint was added, so a restart neither lengthens nor shortens it.
package tainteviction

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

type controller struct {
	t       loop.Tools
	patient time.Duration // of pods that do not say
	podList corelisters.PodLister
	pods    podset.Reader
	nodes   corelisters.NodeLister

	mu   sync.Mutex
	seen map[string]map[corev1.Taint]time.Time // guarded by mu: by node, taints that bear no time of their own
}

// New returns the constructor for a default patience.
func New(patience time.Duration) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		core := t.Informers.Core().V1()
		c := &controller{
			t: t, patient: patience, seen: map[string]map[corev1.Taint]time.Time{},
			podList: core.Pods().Lister(), pods: podset.NewReader(t.Informers), nodes: core.Nodes().Lister(),
		}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "pods", Wakes: loop.Func("itself, when bound or its tolerations change", placed)},
				{Resource: "nodes", Wakes: loop.Func("its pods, when its NoExecute taints change", c.tainted)},
			},
			Reconcile: c.reconcile,
		}
	}
}

func placed(e loop.Event) []loop.Key {
	now, ok := e.New.(*corev1.Pod)
	if !ok || now.Spec.NodeName == "" {
		return nil
	}
	if old, ok := e.Old.(*corev1.Pod); ok && old.Spec.NodeName == now.Spec.NodeName && equality.Semantic.DeepEqual(old.Spec.Tolerations, now.Spec.Tolerations) {
		return nil
	}
	return []loop.Key{loop.KeyOf(now)}
}

func (c *controller) tainted(e loop.Event) []loop.Key {
	old, _ := e.Old.(*corev1.Node)
	now, _ := e.New.(*corev1.Node)
	if now == nil {
		c.forget(old.Name)
		return nil // podgc's work
	}
	if old != nil && equality.Semantic.DeepEqual(noExecute(old), noExecute(now)) || old == nil && len(noExecute(now)) == 0 {
		return nil
	}
	pods, err := c.pods.On(now.Name)
	if err != nil {
		return nil // a cache does not fail
	}
	keys := make([]loop.Key, 0, len(pods))
	for _, p := range pods {
		keys = append(keys, loop.KeyOf(p))
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	p, err := c.podList.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || !pod.Active(p) || p.Spec.NodeName == "" {
		return 0, err
	}
	node, err := c.nodes.Get(p.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return 0, nil // the node's appearance wakes us
	}
	if err != nil {
		return 0, err
	}
	now := time.Now()
	at, evict := deadline(p, c.since(node, now), c.patient)
	if !evict {
		return 0, nil
	}
	if wait := at.Sub(now); wait > 0 {
		return wait, nil
	}
	return 0, c.evict(ctx, p, now)
}

// since are a node's NoExecute taints, each with the time it was added or, where it bears none, first seen.
func (c *controller) since(node *corev1.Node, now time.Time) []corev1.Taint {
	taints := noExecute(node)
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.seen[node.Name]
	fresh := map[corev1.Taint]time.Time{}
	for i := range taints {
		if taints[i].TimeAdded != nil {
			continue
		}
		first, ok := known[taints[i]]
		if !ok {
			first = now
		}
		fresh[taints[i]] = first
		at := metav1.NewTime(first)
		taints[i].TimeAdded = &at
	}
	if len(fresh) == 0 {
		delete(c.seen, node.Name)
	} else {
		c.seen[node.Name] = fresh
	}
	return taints
}

func (c *controller) forget(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, node)
}

// evict says in the pod's status why, and deletes it; its owner makes another.
func (c *controller) evict(ctx context.Context, p *corev1.Pod, now time.Time) error {
	pods := c.t.Clients.Kube.CoreV1().Pods(p.Namespace)
	want := p.DeepCopy()
	pod.SetCondition(&want.Status, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager",
		Message: "Taint manager: deleting due to NoExecute taint",
	}, now)
	if _, err := loop.Commit(ctx, pods, p, want); err != nil {
		return err
	}
	err := pods.Delete(ctx, p.Name, *metav1.NewPreconditionDeleteOptions(string(p.UID)))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("evicting: %w", err)
	}
	c.t.Log.Info("evicted a pod from a tainted node", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.String("node", p.Spec.NodeName))
	c.t.Recorder.Eventf(p, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", p.Namespace, p.Name)
	return nil
}

func noExecute(n *corev1.Node) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectNoExecute })
}
