// Package resourcequota keeps what resource quotas say is used near what is there. Admission charges a quota before an object is
// stored, so what it says is never too little; this controller gives back what was deleted, and mends what went wrong.
//
// To give back too much would let a namespace exceed its quota: objects may have been charged and not be stored yet, and no list
// shows them. So what a quota says is used is lowered by two reasons only:
//
//   - what was seen to go (deleted, finished, shrunk) is given back at once, that much and no more;
//   - what is there, with all that was charged lately, is less than what the quota says: then the rest is nobody's. «Lately» is
//     longer than a request may take.
//
// It is raised to what is there at any time. Pods, services and claims are read from the caches of all controllers; of other kinds,
// only those that some quota names are watched, and only their names are kept.
package resourcequota

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/quota"
)

type controller struct {
	t        loop.Tools
	period   time.Duration
	quotas   corelisters.ResourceQuotaLister
	pods     corelisters.PodLister
	services corelisters.ServiceLister
	claims   corelisters.PersistentVolumeClaimLister
	books    *books
	tallies  *tallies
}

// New returns the constructor for how often every quota is reckoned anew.
func New(period time.Duration) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		core := t.Informers.Core().V1()
		c := &controller{
			t: t, period: period,
			quotas: core.ResourceQuotas().Lister(), pods: core.Pods().Lister(), services: core.Services().Lister(),
			claims: core.PersistentVolumeClaims().Lister(), books: newBooks(),
		}
		c.tallies = newTallies(t)
		freed := func(of schema.GroupResource) loop.Waker {
			return loop.Func("the quotas of its namespace, when it uses less of them", func(e loop.Event) []loop.Key { return c.freed(of, e) })
		}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "resourcequotas", Wakes: loop.Func("itself, unless it was only charged", c.quotaChanged)},
				{Resource: "pods", Wakes: freed(quota.Pods)},
				{Resource: "services", Wakes: freed(quota.Services)},
				{Resource: "persistentvolumeclaims", Wakes: freed(quota.Claims)},
			},
			Reconcile: c.reconcile,
			Feed:      c.feed,
			Feeds:     "the metadata of what quotas count, and the time of the next full reckoning",
		}
	}
}

// quotaChanged notes what a quota was charged.
func (c *controller) quotaChanged(e loop.Event) []loop.Key {
	key := loop.KeyOf(e.Last())
	if e.New == nil {
		c.books.close(key)
		c.tallies.look()
		return nil
	}
	now := e.New.(*corev1.ResourceQuota)
	if e.Old == nil {
		c.books.open(key, len(now.Status.Used) == 0, time.Now())
		c.tallies.look()
		return []loop.Key{key}
	}
	old := e.Old.(*corev1.ResourceQuota)
	c.books.raised(key, quota.More(now.Status.Used, old.Status.Used), time.Now())
	if !equality.Semantic.DeepEqual(now.Spec, old.Spec) {
		c.tallies.look()
		return []loop.Key{key}
	}
	if !quota.Equal(now.Status.Hard, now.Spec.Hard) || len(now.Status.Used) < len(old.Status.Used) ||
		len(quota.More(old.Status.Used, now.Status.Used)) > 0 {
		return []loop.Key{key}
	}
	return nil
}

// freed notes what an object no longer uses, and wakes the quotas that it used.
func (c *controller) freed(of schema.GroupResource, e loop.Event) []loop.Key {
	o := e.Last()
	if !c.books.has(o.GetNamespace()) {
		return nil
	}
	if e.Old == nil {
		c.books.added(o.GetNamespace())
		return nil
	}
	// That its time has passed is no event, so here a pod is over only if that was written off already.
	var at time.Time
	if c.books.isWrittenOff(o.GetUID()) {
		at = endOfTime
	}
	if e.New == nil {
		c.books.forget(o.GetUID())
	}
	meter := quota.Of(of)
	var keys []loop.Key
	for _, q := range c.all(o.GetNamespace()) {
		less := quota.More(used(meter, q, e.Old, at), used(meter, q, e.New, at))
		if len(less) > 0 {
			key := loop.KeyOf(q)
			c.books.freed(key, less)
			keys = append(keys, key)
		}
	}
	return keys
}

// endOfTime is when all that ends with time is over.
var endOfTime = time.Unix(1<<40, 0)

// used is what an object, nil for none, uses of a quota.
func used(m quota.Meter, q *corev1.ResourceQuota, o metav1.Object, at time.Time) corev1.ResourceList {
	names := m.Names(q.Spec.Hard)
	if o == nil || len(names) == 0 || !m.InScopes(q, o) {
		return nil
	}
	return quota.Only(m.Usage(o, at), names)
}

// lookEvery is how often quotas are looked at in whose namespaces something was made: an object may turn out to be there although its
// maker was told that it failed, and was given back what it was charged.
const lookEvery = 10 * time.Second

// feed watches what quotas name, and wakes quotas with time.
func (c *controller) feed(ctx context.Context, wake func(loop.Key)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tells := listener{
		changed: func(of schema.GroupResource, namespace string, gone corev1.ResourceList) {
			for _, key := range c.gone(of, namespace, gone) {
				wake(key)
			}
		},
		full: func() { c.wakeAll(wake) },
	}
	wg.Go(func() { c.tallies.run(ctx, c.named, tells) })
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	all := time.NewTicker(c.period)
	defer all.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			for _, key := range c.books.takeAdded() {
				wake(key)
			}
		case <-all.C:
			c.wakeAll(wake)
		}
	}
}

func (c *controller) wakeAll(wake func(loop.Key)) {
	for _, q := range c.all(metav1.NamespaceAll) {
		wake(loop.KeyOf(q))
	}
}

// all are the quotas of a namespace, or of all.
func (c *controller) all(namespace string) []*corev1.ResourceQuota {
	quotas, err := c.quotas.ResourceQuotas(namespace).List(labels.Everything())
	if err != nil {
		return nil // a lister over a cache has no errors
	}
	return quotas
}

// gone notes that an object of a kind that is only counted, or that has no scopes, is gone; nothing gone: that there is one more.
func (c *controller) gone(of schema.GroupResource, namespace string, gone corev1.ResourceList) []loop.Key {
	if !c.books.has(namespace) {
		return nil
	}
	if gone == nil {
		c.books.added(namespace)
		return nil
	}
	meter := quota.Of(of)
	var keys []loop.Key
	for _, q := range c.all(namespace) {
		if names := meter.Names(q.Spec.Hard); len(names) > 0 && len(quota.Scopes(q)) == 0 {
			key := loop.KeyOf(q)
			c.books.freed(key, quota.Only(gone, names))
			keys = append(keys, key)
		}
	}
	return keys
}

// named are the resources beside the three with caches that quotas name.
func (c *controller) named() []schema.GroupResource {
	var all []schema.GroupResource
	for _, q := range c.all(metav1.NamespaceAll) {
		for name := range q.Spec.Hard {
			if gr, ok := quota.ResourceOf(name); ok && !cached(gr) && !quota.Ignored(gr) && !slices.Contains(all, gr) {
				all = append(all, gr)
			}
		}
	}
	return all
}

func cached(gr schema.GroupResource) bool {
	return gr == quota.Pods || gr == quota.Services || gr == quota.Claims
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
