// Package replicaset keeps as many pods of a template alive as a ReplicaSet, or its older form, a ReplicationController, asks for.
// It is called by the loop, once for each of the two kinds (kinds.go); it reads them and pods from caches and writes pods and the
// status, never the spec.
//
// What always holds: pods that were created or deleted but are not in the cache yet are counted (podset.Ledger), so a stale
// cache never makes one pod too many or too few.
package replicaset

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

type controller struct {
	t      loop.Tools
	sets   family
	pods   podset.Reader
	ledger *podset.Ledger
}

// New makes the controller of ReplicaSets.
func New(t loop.Tools) loop.Controller { return of(t, replicaSets(t)) }

// Older makes the controller of ReplicationControllers.
func Older(t loop.Tools) loop.Controller { return of(t, replicationControllers(t)) }

func of(t loop.Tools, sets family) loop.Controller {
	c := &controller{t: t, sets: sets, pods: podset.NewReader(t.Informers), ledger: podset.NewLedger()}
	kind := sets.kind.Kind
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: sets.resource, Wakes: loop.Self},
			{Resource: "pods", Wakes: loop.Any(loop.Owner(kind), loop.Func(kind+"s that may adopt it", c.adopters))},
		},
		Reconcile: c.reconcile,
	}
}

// adopters are the ReplicaSets whose selector matches a pod that nobody controls.
func (c *controller) adopters(e loop.Event) []loop.Key {
	pod, ok := e.New.(*corev1.Pod)
	if !ok || metav1.GetControllerOfNoCopy(pod) != nil || pod.DeletionTimestamp != nil {
		return nil
	}
	sets, err := c.sets.list(pod.Namespace)
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, rs := range sets {
		if sel, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector); err == nil && !sel.Empty() && sel.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, loop.KeyOf(rs))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	rs, err := c.sets.get(key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		c.ledger.Forget(key)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil || selector.Empty() {
		return 0, nil // the API server refuses these
	}
	version := c.pods.Version() // before listing: the list is at least that new
	candidates, err := c.pods.Candidates(rs)
	if err != nil {
		return 0, err
	}
	unseen := c.ledger.Unseen(key, candidates, version)
	pods, err := podset.Claim(ctx, c.claimer(rs), selector, candidates)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	p := decide(rs, pods, unseen)
	failed := c.apply(ctx, rs, p, now)
	status, again := nextStatus(rs, pods, failed, now)
	want := rs.DeepCopy()
	want.Status = status
	if err := c.sets.commit(ctx, rs, want); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed.err
	}
	return again, nil
}

func (c *controller) claimer(rs *appsv1.ReplicaSet) podset.Claimer {
	return podset.Claimer{
		Owner: rs, Kind: c.sets.kind,
		Live: func(ctx context.Context) (metav1.Object, error) { return c.sets.live(ctx, rs.Namespace, rs.Name) },
		Patch: func(ctx context.Context, name string, patch []byte) error {
			_, err := c.t.Clients.Kube.CoreV1().Pods(rs.Namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return err
		},
	}
}
