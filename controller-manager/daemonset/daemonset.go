// Package daemonset keeps one pod of a template on every node that fits a DaemonSet, and leads them from one template to the next.
// It is called by the loop; it reads DaemonSets, nodes, pods and revisions from caches, writes pods, revisions and the DaemonSet's
// status, and binds nothing: a pod names its node by an affinity, and the scheduler does the rest.
//
// What always holds: a node gets a pod only when no other of the same DaemonSet is there, going ones included, but for the second
// one of a surge; nothing is decided while a created pod is not in the cache yet; a change of a node wakes only the DaemonSets for
// which it makes a difference. decide (reconcile.go, rollout.go) is pure.
//
//	node fits ──► pod made ──► running ──► of an old template: replaced, within maxUnavailable or maxSurge
//	                 ▲             ├─────► failed: deleted after a growing pause ──┐
//	                 └─────────────┴───────────────────────────────────────────────┘
package daemonset

import (
	"context"
	"errors"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/controller-manager/revisions"
)

var kind = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

type controller struct {
	t       loop.Tools
	sets    appslisters.DaemonSetLister
	nodes   corelisters.NodeLister
	pods    podset.Reader
	ledger  *podset.Ledger
	history *revisions.History
	pauses  *pauses
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	c := &controller{
		t: t, pods: podset.NewReader(t.Informers), ledger: podset.NewLedger(), history: revisions.New(t), pauses: newPauses(),
		sets:  t.Informers.Apps().V1().DaemonSets().Lister(),
		nodes: t.Informers.Core().V1().Nodes().Lister(),
	}
	adopters := loop.Func("DaemonSets that may adopt it", c.adopters)
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "daemonsets.apps", Wakes: loop.Self},
			{Resource: "controllerrevisions.apps", Wakes: loop.Any(loop.Owner("DaemonSet"), adopters)},
			{Resource: "pods", Wakes: loop.Any(loop.Owner("DaemonSet"), adopters)},
			{Resource: "nodes", Wakes: loop.Func("DaemonSets for which the change matters", c.concerned)},
		},
		Reconcile: c.reconcile,
	}
}

// adopters are the DaemonSets whose selector matches a pod or revision that nobody controls.
func (c *controller) adopters(e loop.Event) []loop.Key {
	o := e.New
	if o == nil || metav1.GetControllerOfNoCopy(o) != nil || o.GetDeletionTimestamp() != nil {
		return nil
	}
	sets, err := c.sets.DaemonSets(o.GetNamespace()).List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, ds := range sets {
		if sel, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector); err == nil && !sel.Empty() && sel.Matches(labels.Set(o.GetLabels())) {
			keys = append(keys, loop.KeyOf(ds))
		}
	}
	return keys
}

// concerned are the DaemonSets for which a node comes, goes, or answers otherwise than before whether a pod may be there.
func (c *controller) concerned(e loop.Event) []loop.Key {
	old, _ := e.Old.(*corev1.Node)
	now, _ := e.New.(*corev1.Node)
	if old != nil && now != nil && sameForPlacement(old, now) {
		return nil
	}
	sets, err := c.sets.List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, ds := range sets {
		if f := newFit(ds); f.judge(old) != f.judge(now) {
			keys = append(keys, loop.KeyOf(ds))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	ds, err := c.sets.DaemonSets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.ledger.Forget(key)
		c.pauses.forget(key)
		return 0, nil
	}
	if err != nil || ds.DeletionTimestamp != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil || selector.Empty() {
		return 0, nil // the API server refuses these
	}
	version := c.pods.Version() // before listing: the list is at least that new
	candidates, err := c.pods.Candidates(ds)
	if err != nil {
		return 0, err
	}
	unseen := c.ledger.Unseen(key, candidates, version)
	pods, err := podset.Claim(ctx, c.claimer(ds, c.patchPod(ds.Namespace)), selector, candidates)
	if err != nil {
		return 0, err
	}
	now, history, err := c.revision(ctx, ds, selector)
	if errors.Is(err, revisions.ErrTaken) {
		return 0, c.collided(ctx, ds)
	}
	if err != nil {
		return 0, err
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	again, err := c.settle(ctx, look(ds, now, nodes, pods), unseen)
	if err != nil {
		return 0, err
	}
	return again, c.history.Trim(ctx, history, inUse(now, history, pods), limit(ds))
}

// settle decides and applies, then writes the status of what was seen, also when not all could be done.
func (c *controller) settle(ctx context.Context, s scene, unseen podset.Unseen) (time.Duration, error) {
	key := loop.KeyOf(s.ds)
	s.now, s.gone = time.Now(), unseen.Deleting
	s.pause = func(node string) time.Duration { return c.pauses.left(key, s.ds.UID, s.ds.Generation, node, s.now) }
	var p plan
	failed := error(loop.ErrStale) // while created pods are not in the cache, nobody knows on which nodes they are
	if unseen.Creating == 0 {
		p = decide(s)
		failed = c.apply(ctx, s, p)
	}
	status, again := nextStatus(s)
	want := s.ds.DeepCopy()
	want.Status = status
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.AppsV1().DaemonSets(s.ds.Namespace), s.ds, want); err != nil {
		return 0, errors.Join(failed, err)
	}
	return sooner(again, p.again), failed
}

func (c *controller) claimer(ds *appsv1.DaemonSet, patch func(context.Context, string, []byte) error) podset.Claimer {
	return podset.Claimer{
		Owner: ds, Kind: kind, Patch: patch,
		Live: func(ctx context.Context) (metav1.Object, error) {
			return c.t.Clients.Kube.AppsV1().DaemonSets(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
		},
	}
}

func (c *controller) patchPod(namespace string) func(context.Context, string, []byte) error {
	return func(ctx context.Context, name string, patch []byte) error {
		_, err := c.t.Clients.Kube.CoreV1().Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	}
}

// revision is the one of the present template, made if there is none, and all that the DaemonSet has, it last.
func (c *controller) revision(ctx context.Context, ds *appsv1.DaemonSet, selector labels.Selector) (*appsv1.ControllerRevision, []*appsv1.ControllerRevision, error) {
	have, err := c.history.Of(ctx, c.claimer(ds, nil), selector)
	if err != nil {
		return nil, nil, err
	}
	return c.history.Sync(ctx, revisions.Wish{
		Owner: ds, Kind: kind, Template: &ds.Spec.Template, HashLabel: appsv1.DefaultDaemonSetUniqueLabelKey, Collisions: ds.Status.CollisionCount,
	}, have)
}

// collided salts the hash of the next try: the name of the revision belongs to something else. The write wakes us again.
func (c *controller) collided(ctx context.Context, ds *appsv1.DaemonSet) error {
	want := ds.DeepCopy()
	n := int32(1)
	if ds.Status.CollisionCount != nil {
		n += *ds.Status.CollisionCount
	}
	want.Status.CollisionCount = &n
	_, err := loop.Commit(ctx, c.t.Clients.Kube.AppsV1().DaemonSets(ds.Namespace), ds, want)
	return err
}

// inUse are the names of the revisions that pods are of, and of the present one.
func inUse(now *appsv1.ControllerRevision, history []*appsv1.ControllerRevision, pods []*corev1.Pod) map[string]bool {
	hashes := map[string]bool{}
	for _, p := range pods {
		hashes[p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
	}
	used := map[string]bool{now.Name: true}
	for _, r := range history {
		used[r.Name] = used[r.Name] || hashes[hashOf(r)]
	}
	return used
}

// hashOf is what pods of a revision bear as a label; its name, should somebody have made one without.
func hashOf(r *appsv1.ControllerRevision) string {
	if h := r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]; h != "" {
		return h
	}
	return r.Name
}

// limit is how many revisions beside those in use are kept.
func limit(ds *appsv1.DaemonSet) int {
	if ds.Spec.RevisionHistoryLimit == nil {
		return 10
	}
	return int(*ds.Spec.RevisionHistoryLimit)
}
