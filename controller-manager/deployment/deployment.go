// Package deployment leads a Deployment from one generation of its pods to the next: it makes a ReplicaSet a template, moves
// replicas between them by the strategy, keeps history for rollbacks, and says in the status how far it is. It is called by
// the loop; it reads Deployments and ReplicaSets from caches, never pods: all it must know of pods the ReplicaSets' status says.
//
// What always holds: of the wished number, never more than maxUnavailable are missing and never more than maxSurge too many by
// our doing; nothing is decided on a cache that is behind our own writes. decide (reconcile.go) is pure.
package deployment

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
)

var kind = appsv1.SchemeGroupVersion.WithKind("Deployment")

type controller struct {
	t           loop.Tools
	deployments appslisters.DeploymentLister
	sets        appslisters.ReplicaSetLister
	setStore    cache.Store
	wrote       *loop.Versions // of ReplicaSets, by Deployment
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	apps := t.Informers.Apps().V1()
	c := &controller{
		t: t, wrote: loop.NewVersions(),
		deployments: apps.Deployments().Lister(),
		sets:        apps.ReplicaSets().Lister(),
		setStore:    apps.ReplicaSets().Informer().GetStore(),
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "deployments.apps", Wakes: loop.Self},
			{Resource: "replicasets.apps", Wakes: loop.Any(loop.Owner("Deployment"), loop.Func("Deployments that may adopt it", c.adopters))},
		},
		Reconcile: c.reconcile,
	}
}

// adopters are the Deployments whose selector matches a ReplicaSet that nobody controls.
func (c *controller) adopters(e loop.Event) []loop.Key {
	rs, ok := e.New.(*appsv1.ReplicaSet)
	if !ok || metav1.GetControllerOfNoCopy(rs) != nil || rs.DeletionTimestamp != nil {
		return nil
	}
	all, err := c.deployments.Deployments(rs.Namespace).List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, d := range all {
		if sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil && !sel.Empty() && sel.Matches(labels.Set(rs.Labels)) {
			keys = append(keys, loop.KeyOf(d))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	d, err := c.deployments.Deployments(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.wrote.Seen(key, c.setStore.LastStoreSyncResourceVersion()) // forgets it
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || selector.Empty() {
		return 0, nil // the API server refuses these
	}
	if !c.wrote.Seen(key, c.setStore.LastStoreSyncResourceVersion()) {
		return 0, loop.ErrStale
	}
	all, err := c.sets.ReplicaSets(d.Namespace).List(labels.Everything())
	if err != nil {
		return 0, err
	}
	sets, err := podset.Claim(ctx, c.claimer(d), selector, all)
	if err != nil {
		return 0, err
	}
	if r := rollBack(d, sets); r != nil {
		return 0, c.goBack(ctx, d, r)
	}
	p := decide(d, sets, time.Now())
	return p.again, c.apply(ctx, d, p)
}

func (c *controller) claimer(d *appsv1.Deployment) podset.Claimer {
	apps := c.t.Clients.Kube.AppsV1()
	return podset.Claimer{
		Owner: d, Kind: kind,
		Live: func(ctx context.Context) (metav1.Object, error) {
			return apps.Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
		},
		Patch: func(ctx context.Context, name string, patch []byte) error {
			_, err := apps.ReplicaSets(d.Namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return err
		},
	}
}

// apply writes a plan: the new ReplicaSet, the numbers, what is beyond the history, the Deployment's revision, its status.
func (c *controller) apply(ctx context.Context, d *appsv1.Deployment, p plan) error {
	key := loop.KeyOf(d)
	sets := c.t.Clients.Kube.AppsV1().ReplicaSets(d.Namespace)
	if p.create != nil {
		made, err := sets.Create(ctx, p.create, metav1.CreateOptions{})
		switch {
		case apierrors.IsAlreadyExists(err):
			return c.collided(ctx, d, p.create)
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return nil
		case err != nil:
			return c.notCreated(ctx, d, p.create, err)
		}
		c.wrote.Wrote(key, made.ResourceVersion)
		c.scaled(d, made.Name, 0, *made.Spec.Replicas)
	}
	for _, ch := range p.changes {
		got, err := loop.Commit(ctx, sets, ch.have, ch.want)
		if err != nil {
			return err
		}
		if got != ch.have {
			c.wrote.Wrote(key, got.ResourceVersion)
		}
		c.scaled(d, ch.have.Name, *ch.have.Spec.Replicas, *ch.want.Spec.Replicas)
	}
	for _, rs := range p.remove {
		err := sets.Delete(ctx, rs.Name, *metav1.NewPreconditionDeleteOptions(string(rs.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting ReplicaSet %s beyond the history limit: %w", rs.Name, err)
		}
	}
	want := d.DeepCopy()
	setAnnotation(want, revisionAnnotation, p.revision)
	deployments := c.t.Clients.Kube.AppsV1().Deployments(d.Namespace)
	d, err := loop.Commit(ctx, deployments, d, want)
	if err != nil {
		return err
	}
	want = d.DeepCopy()
	want.Status = p.status
	_, err = loop.Commit(ctx, deployments, d, want)
	return err
}

func (c *controller) scaled(d *appsv1.Deployment, name string, from, to int32) {
	if from == to {
		return
	}
	way := "up"
	if to < from {
		way = "down"
	}
	c.t.Recorder.Eventf(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", way, name, from, to)
}

// collided is called when the new ReplicaSet's name is taken: by what we made ourselves and do not see yet, or by a stranger,
// in which case the hash is salted anew.
func (c *controller) collided(ctx context.Context, d *appsv1.Deployment, wanted *appsv1.ReplicaSet) error {
	live, err := c.t.Clients.Kube.AppsV1().ReplicaSets(d.Namespace).Get(ctx, wanted.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading ReplicaSet %s, whose name is taken: %w", wanted.Name, err)
	}
	if metav1.IsControlledBy(live, d) && sameTemplate(&live.Spec.Template, &wanted.Spec.Template) {
		c.wrote.Wrote(loop.KeyOf(d), live.ResourceVersion)
		return loop.ErrStale
	}
	want := d.DeepCopy()
	n := int32(1)
	if d.Status.CollisionCount != nil {
		n += *d.Status.CollisionCount
	}
	want.Status.CollisionCount = &n
	_, err = loop.Commit(ctx, c.t.Clients.Kube.AppsV1().Deployments(d.Namespace), d, want)
	return err // the write wakes us again
}

// goBack writes a rollback, or only that there is none; the write wakes us again.
func (c *controller) goBack(ctx context.Context, d *appsv1.Deployment, r *rollback) error {
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.AppsV1().Deployments(d.Namespace), d, r.want); err != nil {
		return err
	}
	c.t.Recorder.Event(d, r.kind, r.reason, r.detail)
	return nil
}

// notCreated says in the status why there is no new ReplicaSet.
func (c *controller) notCreated(ctx context.Context, d *appsv1.Deployment, wanted *appsv1.ReplicaSet, cause error) error {
	message := fmt.Sprintf("Failed to create new replica set %q: %v", wanted.Name, cause)
	c.t.Recorder.Event(d, corev1.EventTypeWarning, "ReplicaSetCreateError", message)
	cause = fmt.Errorf("creating ReplicaSet %s: %w", wanted.Name, cause)
	if !hasDeadline(d) {
		return cause
	}
	want := d.DeepCopy()
	setCondition(&want.Status, condition(appsv1.DeploymentProgressing, corev1.ConditionFalse, "ReplicaSetCreateError", message, time.Now()))
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.AppsV1().Deployments(d.Namespace), d, want); err != nil {
		return err
	}
	return cause
}
