package resourcequota

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/quota"
)

// tally counts the objects of one resource; it is the store of a reflector. One without cancel stands for a resource that is not
// served.
type tally struct {
	meter  quota.Meter
	tells  listener
	cancel context.CancelFunc
	same   corev1.ResourceList // what every object uses; nil where they differ

	mu     sync.Mutex
	filled bool                        // guarded by mu: listed once
	by     map[string]map[string]entry // guarded by mu: by namespace and name
}

// listener is told what a tally sees.
type listener struct {
	// changed tells what an object that is gone used; nothing gone: there is one more.
	changed func(of schema.GroupResource, namespace string, gone corev1.ResourceList)
	// full tells that a resource was listed for the first time.
	full func()
}

// entry is one object.
type entry struct {
	uid  types.UID
	uses corev1.ResourceList // shared where all use the same
}

func newTally(gr schema.GroupResource, tells listener, cancel context.CancelFunc) *tally {
	t := &tally{meter: quota.Of(gr), tells: tells, cancel: cancel, by: map[string]map[string]entry{}}
	if gr != quota.Devices {
		t.same = t.meter.Usage(nil, time.Time{})
	}
	return t
}

// count is what the objects of a namespace use.
func (t *tally) count(namespace string) (corev1.ResourceList, state) {
	if t.cancel == nil {
		return nil, absent
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.filled {
		return nil, pending
	}
	sum := corev1.ResourceList{}
	if t.same != nil {
		for name := range t.same {
			sum[name] = *resource.NewQuantity(int64(len(t.by[namespace])), resource.DecimalSI)
		}
		return sum, listed
	}
	for _, e := range t.by[namespace] {
		sum = quota.Add(sum, e.uses)
	}
	return sum, listed
}

// Add and the methods below are the reflector's.
func (t *tally) Add(obj any) error { return t.Update(obj) }

func (t *tally) Update(obj any) error {
	o, err := t.object(obj)
	if err != nil {
		return err
	}
	t.mu.Lock()
	old, was := t.by[o.GetNamespace()][o.GetName()]
	now := t.putLocked(o)
	t.mu.Unlock()
	switch {
	case was && old.uid != now.uid: // deleted and made again while we did not look
		t.tells.changed(t.meter.Resource(), o.GetNamespace(), old.uses)
	case was:
		if less := quota.More(old.uses, now.uses); len(less) > 0 {
			t.tells.changed(t.meter.Resource(), o.GetNamespace(), less)
		}
	default:
		t.tells.changed(t.meter.Resource(), o.GetNamespace(), nil)
	}
	return nil
}

func (t *tally) putLocked(o metav1.Object) entry {
	ns := t.by[o.GetNamespace()]
	if ns == nil {
		ns = map[string]entry{}
		t.by[o.GetNamespace()] = ns
	}
	e := entry{o.GetUID(), t.same}
	if e.uses == nil {
		e.uses = t.meter.Usage(o, time.Time{})
	}
	ns[o.GetName()] = e
	return e
}

func (t *tally) Delete(obj any) error {
	o, err := t.object(obj)
	if err != nil {
		return err
	}
	t.mu.Lock()
	old, was := t.by[o.GetNamespace()][o.GetName()]
	t.dropLocked(o.GetNamespace(), o.GetName())
	t.mu.Unlock()
	if was {
		t.tells.changed(t.meter.Resource(), o.GetNamespace(), old.uses)
	}
	return nil
}

func (t *tally) dropLocked(namespace, name string) {
	delete(t.by[namespace], name)
	if len(t.by[namespace]) == 0 {
		delete(t.by, namespace)
	}
}

func (t *tally) Replace(list []any, _ string) error {
	type lost struct {
		namespace string
		uses      corev1.ResourceList
	}
	var gone []lost
	t.mu.Lock()
	before := t.by
	t.by = map[string]map[string]entry{}
	for _, obj := range list {
		o, err := t.object(obj)
		if err != nil {
			t.by = before
			t.mu.Unlock()
			return err
		}
		t.putLocked(o)
	}
	first := !t.filled
	t.filled = true
	for ns, names := range before {
		for name, e := range names {
			if t.by[ns][name].uid != e.uid {
				gone = append(gone, lost{ns, e.uses})
			}
		}
	}
	t.mu.Unlock()
	for _, g := range gone {
		t.tells.changed(t.meter.Resource(), g.namespace, g.uses)
	}
	if first {
		t.tells.full()
	}
	return nil
}

// Resync has nothing to do: nobody resyncs.
func (t *tally) Resync() error { return nil }

func (t *tally) object(obj any) (metav1.Object, error) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("a watch of %s gave %T", t.meter.Resource(), obj)
	}
	return o, nil
}
