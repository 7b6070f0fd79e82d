package plugins

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"
)

// assumed holds objects as they will be: changed for a pod and not yet written, or written and not yet seen in the cache. What the
// cache shows newer wins. Safe for concurrent use.
type assumed[T metav1.Object] struct {
	mu   sync.Mutex
	objs map[cache.ObjectName]assumption[T] // guarded by mu
}

type assumption[T metav1.Object] struct {
	object  T // of the resource version that it was made from, or that the API answered with
	owner   types.UID
	written bool
}

func newAssumed[T metav1.Object]() *assumed[T] {
	return &assumed[T]{objs: map[cache.ObjectName]assumption[T]{}}
}

func nameOf(o metav1.Object) cache.ObjectName { return cache.MetaObjectToName(o) }

// set notes what will be, for a pod; written says that the API has it so.
func (a *assumed[T]) set(o T, owner types.UID, written bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.objs[nameOf(o)] = assumption[T]{o, owner, written}
}

// drop takes back what was assumed for a pod and not written.
func (a *assumed[T]) drop(o T, owner types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if had, ok := a.objs[nameOf(o)]; ok && had.owner == owner && !had.written {
		delete(a.objs, nameOf(o))
	}
}

// of is a cached object, or what is assumed of it.
func (a *assumed[T]) of(cached T) T {
	a.mu.Lock()
	defer a.mu.Unlock()
	had, ok := a.objs[nameOf(cached)]
	if !ok {
		return cached
	}
	if had.over(cached) {
		delete(a.objs, nameOf(cached))
		return cached
	}
	return had.object
}

// over says whether a cached object makes an assumption of it needless.
func (s assumption[T]) over(cached T) bool {
	if s.object.GetUID() != cached.GetUID() {
		return true
	}
	c, err := resourceversion.CompareResourceVersion(cached.GetResourceVersion(), s.object.GetResourceVersion())
	return err != nil || c > 0 || c == 0 && s.written
}

// seen forgets what the cache shows by itself.
func (a *assumed[T]) seen(cached T, gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if had, ok := a.objs[nameOf(cached)]; ok && (gone || had.over(cached)) {
		delete(a.objs, nameOf(cached))
	}
}
