// Package namespace empties a namespace that is being deleted, and lets it go when nothing is left: first its pods, so that
// nothing runs whose secrets and policies are gone already, then everything of every kind the API server knows, custom ones
// among them. What holds it up it says in the namespace's conditions.
//
// What always holds: the finalizer «kubernetes» goes only after every kind was listed empty. What an aggregated server keeps that
// does not answer cannot be listed: the others are emptied all the same, and it is waited for, but not for ever.
package namespace

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t          loop.Tools
	namespaces corelisters.NamespaceLister

	mu      sync.Mutex
	tries   map[string]int               // guarded by mu: looks at a namespace that found something left, by its name
	fertile map[schema.GroupVersion]bool // guarded by mu: group versions that were discovered, and whether they keep what can be deleted
}

// patience is how long a namespace that is empty otherwise waits for an API group whose server does not answer. A dead server of
// metrics, or one that nobody will start again, must not hold namespaces for ever.
const patience = 2 * time.Minute

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	c := &controller{t: t, namespaces: t.Informers.Core().V1().Namespaces().Lister(), tries: map[string]int{}, fertile: map[schema.GroupVersion]bool{}}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "namespaces", Wakes: loop.Func("itself, when it is being deleted", going)},
			{Resource: "pods", Wakes: loop.Func("its namespace, when both are going", c.podGone)},
		},
		Reconcile: c.reconcile,
	}
}

func going(e loop.Event) []loop.Key {
	if e.Last().GetDeletionTimestamp() == nil {
		return nil
	}
	return []loop.Key{loop.KeyOf(e.Last())}
}

func (c *controller) podGone(e loop.Event) []loop.Key {
	if e.New != nil {
		return nil
	}
	if ns, err := c.namespaces.Get(e.Old.GetNamespace()); err != nil || ns.DeletionTimestamp == nil {
		return nil
	}
	return []loop.Key{{Name: e.Old.GetNamespace()}}
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	ns, err := c.namespaces.Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && (ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes)) {
		c.forget(key.Name) // also when somebody else let it go
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	kinds, unseen, err := c.kinds(ctx)
	if err != nil {
		return 0, err
	}
	report := newReport()
	if len(unseen) > 0 {
		report.discovery = &discovery.ErrGroupDiscoveryFailed{Groups: unseen}
		report.waited = time.Since(ns.DeletionTimestamp.Time) >= patience
	}
	c.empty(ctx, ns.Name, kinds, report)
	want := ns.DeepCopy()
	want.Status.Phase = corev1.NamespaceTerminating
	want.Status.Conditions = conditions(ns.Status.Conditions, report, time.Now())
	client := c.t.Clients.Kube.CoreV1().Namespaces()
	got, err := loop.Commit(ctx, client, ns, want)
	if err != nil {
		return 0, err
	}
	if !report.done() {
		return c.pause(ns.Name), report.err()
	}
	c.forget(ns.Name)
	if report.discovery != nil {
		c.t.Log.Warn("letting a namespace go, though a group of the API does not say what it keeps in it", zap.String("namespace", ns.Name), zap.Error(report.discovery))
		c.t.Recorder.Eventf(ns, corev1.EventTypeWarning, "NamespaceContentUnknown", "Deleted, though what these keep in it is not known: %v", report.discovery)
	}
	want = got.DeepCopy()
	want.Spec.Finalizers = slices.DeleteFunc(want.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if _, err := client.Finalize(ctx, want, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("finalizing: %w", err)
	}
	c.t.Log.Info("namespace is empty and gone", zap.String("namespace", ns.Name))
	return 0, nil
}

// pause is after how long to look again at what is left: soon at first, then rarely, as finalizers may take for ever.
func (c *controller) pause(name string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.tries[name]
	c.tries[name]++
	return min(250*time.Millisecond<<min(n, 10), 15*time.Second)
}

func (c *controller) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tries, name)
}
