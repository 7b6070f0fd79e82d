package statefulset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

// outcome is what was done of a plan. Its methods that change it may be called at once.
type outcome struct {
	mu      sync.Mutex
	created []*corev1.Pod
	removed map[types.UID]bool
}

func (o *outcome) note(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
}

// gone are the pods on their way out: those deleted before, and now.
func (o *outcome) gone(before map[types.UID]bool) map[types.UID]bool {
	all := maps.Clone(o.removed)
	maps.Copy(all, before)
	return all
}

// apply writes a plan: one step after the other, up to the first that fails; or, when they need not wait for each other, each sort side
// by side.
func (c *controller) apply(ctx context.Context, set *appsv1.StatefulSet, p plan) (*outcome, error) {
	o := &outcome{removed: map[types.UID]bool{}}
	for _, h := range p.hindered {
		c.t.Recorder.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Pod %s in StatefulSet %s failed error: %s", h.pod, set.Name, h.why)
	}
	for _, claim := range p.contested {
		c.t.Recorder.Eventf(set, corev1.EventTypeWarning, "ConflictingController",
			"PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim", claim)
	}
	if !p.atOnce {
		for _, s := range p.steps {
			if err := c.take(ctx, set, s, o); err != nil {
				return o, err
			}
		}
		return o, nil
	}
	sorts := map[verb][]step{}
	for _, s := range p.steps {
		sorts[s.do] = append(sorts[s.do], s)
	}
	var errs []error
	for _, do := range []verb{settle, update, remove} {
		for some := range slices.Chunk(sorts[do], burst) {
			_, err := podset.Together(len(some), func(i int) error { return c.take(ctx, set, some[i], o) })
			errs = append(errs, err)
		}
	}
	made := sorts[create]
	_, err := podset.SlowStart(ctx, len(made), func(ctx context.Context, i int) error { return c.take(ctx, set, made[i], o) })
	return o, errors.Join(append(errs, err)...)
}

// take does one step. In a namespace that is ending nothing can be made, and soon the set is gone too: that is no failure.
func (c *controller) take(ctx context.Context, set *appsv1.StatefulSet, s step, o *outcome) error {
	for _, w := range s.claims {
		if err := c.writeClaim(ctx, set, s.pod, w); err != nil {
			if s.do == create {
				c.told(set, "create", s.pod, err)
			}
			return ending(err)
		}
	}
	pods, key := c.t.Clients.Kube.CoreV1().Pods(set.Namespace), loop.KeyOf(set)
	switch s.do {
	case create:
		made, err := pods.Create(ctx, s.pod, metav1.CreateOptions{})
		if err == nil {
			c.ledger.Created(key, made)
			o.note(func() { o.created = append(o.created, made) })
		}
		c.told(set, "create", s.pod, err)
		return ending(wrapped("creating", s.pod, err))
	case update:
		got, err := pods.Update(ctx, s.pod, metav1.UpdateOptions{})
		if err == nil {
			c.wrotePods.Wrote(key, got.ResourceVersion)
		}
		c.told(set, "update", s.pod, err)
		return wrapped("updating", s.pod, err)
	case remove:
		c.ledger.Deleting(key, s.pod.UID)
		err := pods.Delete(ctx, s.pod.Name, *metav1.NewPreconditionDeleteOptions(string(s.pod.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			c.ledger.Kept(key, s.pod.UID)
			c.told(set, "delete", s.pod, err)
			return wrapped("deleting", s.pod, err)
		}
		o.note(func() { o.removed[s.pod.UID] = true })
		if pod.Terminal(s.pod) {
			c.holds.fell(fallen(set, s.pod), time.Now())
		}
		c.told(set, "delete", s.pod, err)
	}
	return nil
}

func wrapped(doing string, p *corev1.Pod, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s pod %s: %w", doing, p.Name, err)
}

// ending swallows the refusal to make something in a namespace that is being deleted.
func ending(err error) error {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}

// writeClaim makes a claim for a pod, or gives one its owners.
func (c *controller) writeClaim(ctx context.Context, set *appsv1.StatefulSet, p *corev1.Pod, w claimWrite) error {
	claims, name := c.t.Clients.Kube.CoreV1().PersistentVolumeClaims(set.Namespace), w.want.Name
	if w.have != nil {
		got, err := claims.Update(ctx, w.want, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("could not update claim %s for delete policy ownerRefs: %w", name, err)
		}
		c.wroteClaims.Wrote(loop.KeyOf(set), got.ResourceVersion)
		return nil
	}
	got, err := claims.Create(ctx, w.want, metav1.CreateOptions{})
	switch {
	case err == nil:
		c.wroteClaims.Wrote(loop.KeyOf(set), got.ResourceVersion)
		c.t.Recorder.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success", name, p.Name, set.Name)
		return nil
	case !quiet(err):
		c.t.Recorder.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Claim %s for Pod %s in StatefulSet %s failed error: %v", name, p.Name, set.Name, err)
	}
	return fmt.Errorf("failed to create PVC %s: %w", name, err)
}

// told tells users what became of a pod.
func (c *controller) told(set *appsv1.StatefulSet, verb string, p *corev1.Pod, err error) {
	reason := map[string]string{"create": "Create", "update": "Update", "delete": "Delete"}[verb]
	switch {
	case err == nil:
		c.t.Recorder.Eventf(set, corev1.EventTypeNormal, "Successful"+reason, "%s Pod %s in StatefulSet %s successful", verb, p.Name, set.Name)
	case !quiet(err):
		c.t.Recorder.Eventf(set, corev1.EventTypeWarning, "Failed"+reason, "%s Pod %s in StatefulSet %s failed error: %v", verb, p.Name, set.Name, err)
	}
}

// quiet says whether an error is nothing to tell users: it goes away by looking again, or everything there does.
func quiet(err error) bool {
	return apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) ||
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
