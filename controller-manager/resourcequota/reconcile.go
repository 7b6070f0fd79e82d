package resourcequota

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/pkg/quota"
)

const (
	// tries is how often a write is tried again at once when admission has charged the quota meanwhile.
	tries = 5
	// unlisted is how soon to look again while a resource that the quota names is not listed yet; when it is, all quotas are woken.
	unlisted = time.Second
)

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	have, err := c.quotas.ResourceQuotas(key.Namespace).Get(key.Name)
	if err != nil {
		return 0, ignoreGone(err)
	}
	now := time.Now()
	there, open, err := c.count(have, now)
	if err != nil {
		return 0, err
	}
	a := c.books.read(key, now)
	given := settled(a.gone, have.Spec.Hard, there)
	client := c.t.Clients.Kube.CoreV1().ResourceQuotas(key.Namespace)
	seen := have.Status.Used
	for range tries {
		want := have.DeepCopy()
		want.Status.Hard = have.Spec.Hard
		want.Status.Used = next(have, there, a)
		if _, err = loop.Commit(ctx, client, have, want); err == nil {
			c.books.returned(key, given)
			return c.again(open, want.Status.Used, there, a.until, now), nil
		}
		if !apierrors.IsConflict(err) {
			break
		}
		if have, err = c.newest(ctx, key); have == nil || err != nil {
			return 0, err
		}
		a.lately = quota.Add(a.lately, quota.More(have.Status.Used, seen)) // the book has not heard of it yet
		seen = have.Status.Used
	}
	if !apierrors.IsConflict(err) {
		// It may have been written all the same. What was seen to go is then not given back twice, but when all is settled.
		c.books.returned(key, given)
	}
	return 0, ignoreGone(err)
}

// newest reads the quota from the API, nil when it is gone. It is a list, for that is what the controller has the right to.
func (c *controller) newest(ctx context.Context, key loop.Key) (*corev1.ResourceQuota, error) {
	list, err := c.t.Clients.Kube.CoreV1().ResourceQuotas(key.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + key.Name})
	if err != nil {
		return nil, fmt.Errorf("reading quota %s: %w", key, err)
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	return &list.Items[0], nil
}

// settled is what of that which was seen to go is done with once the quota is written: what was counted, and what the quota does not
// name any more.
func settled(gone, hard, there corev1.ResourceList) corev1.ResourceList {
	done := corev1.ResourceList{}
	for name, q := range gone {
		_, counted := there[name]
		if _, named := hard[name]; counted || !named {
			done[name] = q
		}
	}
	return done
}

// again is when to look again.
func (c *controller) again(open bool, used, there corev1.ResourceList, until, now time.Time) time.Duration {
	switch {
	case open:
		return unlisted
	case len(quota.More(quota.Only(used, namesOf(there)), there)) > 0:
		return max(until.Sub(now), time.Second) // something is charged and not there
	}
	return 0
}

// next is what the quota should say is used. It is pure.
func next(q *corev1.ResourceQuota, there corev1.ResourceList, a account) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name := range q.Spec.Hard {
		had, known := q.Status.Used[name]
		is, counted := there[name]
		switch {
		case !counted && known:
			out[name] = had // nobody's, or not listed yet
		case !counted:
		case !known || is.Cmp(had) >= 0:
			out[name] = keep(had, is)
		default:
			rest := had.DeepCopy()
			rest.Sub(a.gone[name])
			if !a.unknown {
				most := is.DeepCopy()
				most.Add(a.lately[name])
				if most.Cmp(rest) < 0 {
					rest = most
				}
			}
			if rest.Cmp(is) < 0 {
				rest = is
			}
			out[name] = keep(had, rest)
		}
	}
	return out
}

// keep is b, or a when it is the same amount, so that how it is written stays.
func keep(a, b resource.Quantity) resource.Quantity {
	if a.Cmp(b) == 0 && (a.Format != "" || b.Format == "") {
		return a
	}
	return b
}

// count reckons what is there of what a quota names; open says that some of it is not listed yet. Names that nobody uses up are not
// in it.
func (c *controller) count(q *corev1.ResourceQuota, now time.Time) (sum corev1.ResourceList, open bool, err error) {
	sum = corev1.ResourceList{}
	by := map[schema.GroupResource][]corev1.ResourceName{}
	for name := range q.Spec.Hard {
		if gr, ok := quota.ResourceOf(name); ok && !quota.Ignored(gr) {
			by[gr] = append(by[gr], name)
		}
	}
	for gr, names := range by {
		slices.Sort(names)
		used, state, err := c.countOf(q, gr, names, now)
		if err != nil {
			return nil, false, fmt.Errorf("counting %s: %w", gr, err)
		}
		switch state {
		case pending:
			open = true
		case listed:
			for _, name := range names {
				sum[name] = resource.Quantity{Format: resource.DecimalSI}
			}
			sum = quota.Add(sum, quota.Only(used, names))
		}
	}
	return sum, open, nil
}

// countOf reckons what the objects of one resource use.
func (c *controller) countOf(q *corev1.ResourceQuota, gr schema.GroupResource, names []corev1.ResourceName, now time.Time) (corev1.ResourceList, state, error) {
	meter := quota.Of(gr)
	sum := corev1.ResourceList{}
	add := func(o metav1.Object) { sum = quota.Add(sum, used(meter, q, o, now)) }
	switch gr {
	case quota.Pods:
		pods, err := c.pods.Pods(q.Namespace).List(labels.Everything())
		for _, p := range pods {
			c.writeOff(q, p, now)
			add(p)
		}
		return sum, listed, err
	case quota.Services:
		services, err := c.services.Services(q.Namespace).List(labels.Everything())
		for _, s := range services {
			add(s)
		}
		return sum, listed, err
	case quota.Claims:
		claims, err := c.claims.PersistentVolumeClaims(q.Namespace).List(labels.Everything())
		for _, p := range claims {
			add(p)
		}
		return sum, listed, err
	}
	if len(quota.Scopes(q)) > 0 {
		return sum, listed, nil // in no scope
	}
	sum, state := c.tallies.count(gr, q.Namespace)
	return sum, state, nil
}

// writeOff gives back, to all quotas of its namespace, what a pod used whose time to end has passed, once.
func (c *controller) writeOff(q *corev1.ResourceQuota, p *corev1.Pod, now time.Time) {
	if pod.Terminal(p) || !quota.Over(p, now) || !c.books.writeOff(p.UID) {
		return
	}
	for _, q := range c.all(q.Namespace) {
		meter := quota.Of(quota.Pods)
		c.books.freed(loop.KeyOf(q), quota.More(used(meter, q, p, time.Time{}), used(meter, q, p, now)))
	}
}

func namesOf(list corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	return names
}
