package podset

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/endpointslice/util"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pod"
)

// byLabel is the index over pods by each of their labels.
const byLabel = "label"

// Services matches Services and pods by selector without looking at all of a namespace. Every Service is filed under one pair of
// its selector, the one under which fewest others of its namespace are: a pod meets those filed under its labels, and a Service
// the pods that have its pair. Safe for concurrent use.
type Services struct {
	pods cache.Indexer

	mu    sync.RWMutex
	files map[pair]map[string]map[string]string // guarded by mu: by name, the selectors of the Services filed there
	under map[loop.Key]pair                     // guarded by mu: where a Service is filed
}

// pair is one label with its value, in one namespace.
type pair struct{ namespace, key, value string }

func (p pair) String() string { return p.namespace + "/" + p.key + "=" + p.value }

// NewServices asks the factory for the pod informer and its index. It is called while controllers are made, before the factory
// is started; an informer that has already ended is a broken table. What it knows of Services it learns by Changed.
func NewServices(f informers.SharedInformerFactory) *Services {
	inf := f.Core().V1().Pods().Informer()
	s := &Services{pods: inf.GetIndexer(), files: map[pair]map[string]map[string]string{}, under: map[loop.Key]pair{}}
	if _, there := s.pods.GetIndexers()[byLabel]; there {
		return s
	}
	if err := inf.AddIndexers(cache.Indexers{byLabel: labelPairs}); err != nil {
		panic("indexing pods: " + err.Error())
	}
	return s
}

func labelPairs(obj any) ([]string, error) {
	p := obj.(*corev1.Pod)
	keys := make([]string, 0, len(p.Labels))
	for k, v := range p.Labels {
		keys = append(keys, pair{p.Namespace, k, v}.String())
	}
	return keys, nil
}

// Changed wakes a Service that changed, once it is filed as it now is: a pod's change that comes later finds it.
func (s *Services) Changed() loop.Waker {
	return loop.Func("itself", func(e loop.Event) []loop.Key {
		key := loop.KeyOf(e.Last())
		svc, _ := e.New.(*corev1.Service)
		s.file(key, svc)
		return []loop.Key{key}
	})
}

// file notes a Service; nil: it is gone.
func (s *Services) file(key loop.Key, svc *corev1.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, there := s.under[key]; there {
		if svc != nil && hasBackends(svc) && maps.Equal(s.files[at][key.Name], svc.Spec.Selector) {
			return
		}
		delete(s.under, key)
		if delete(s.files[at], key.Name); len(s.files[at]) == 0 {
			delete(s.files, at)
		}
	}
	if svc == nil || !hasBackends(svc) {
		return
	}
	var best pair
	for i, k := range slices.Sorted(maps.Keys(svc.Spec.Selector)) {
		if p := (pair{key.Namespace, k, svc.Spec.Selector[k]}); i == 0 || len(s.files[p]) < len(s.files[best]) {
			best = p
		}
	}
	if s.files[best] == nil {
		s.files[best] = map[string]map[string]string{}
	}
	s.files[best][key.Name] = svc.Spec.Selector
	s.under[key] = best
}

// Selecting wakes the Services that select a pod, or did, when the pod changed in a way that endpoints show. d holds them back.
func (s *Services) Selecting(d *Delay) loop.Waker {
	return loop.Func("Services that select it", func(e loop.Event) []loop.Key { return d.hold(s.touched(e)) })
}

func (s *Services) touched(e loop.Event) []loop.Key {
	var old, now any // no typed nil may get in
	if e.Old != nil {
		old = e.Old
	}
	if e.New != nil {
		now = e.New
	}
	change := util.GetPodUpdateProjectionKey(old, now)
	if change == nil {
		before, was := old.(*corev1.Pod)
		after, is := now.(*corev1.Pod)
		if !was || !is || pod.Terminal(before) == pod.Terminal(after) {
			return nil
		}
		change = &util.PodProjectionKey{Namespace: after.Namespace, Labels: after.Labels} // one that ended before it was ready
	}
	found := s.selecting(change.Namespace, change.Labels)
	if change.OldLabels == nil {
		return slices.Collect(maps.Keys(found))
	}
	for k := range s.selecting(change.Namespace, change.OldLabels) {
		if _, both := found[k]; both && !change.PodChanged {
			delete(found, k) // it shows the pod as before
		} else {
			found[k] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(found))
}

// Of are the Services that select any of these pods.
func (s *Services) Of(pods []*corev1.Pod) []loop.Key {
	found := map[loop.Key]struct{}{}
	for _, p := range pods {
		maps.Copy(found, s.selecting(p.Namespace, p.Labels))
	}
	return slices.Collect(maps.Keys(found))
}

// selecting are the Services of a namespace whose selectors match.
func (s *Services) selecting(namespace string, labels map[string]string) map[loop.Key]struct{} {
	found := map[loop.Key]struct{}{}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for k, v := range labels {
		for name, selector := range s.files[pair{namespace, k, v}] {
			if selects(selector, labels) {
				found[loop.Key{Namespace: namespace, Name: name}] = struct{}{}
			}
		}
	}
	return found
}

// Behind are the pods a Service selects, and false when its endpoints are none of ours: it has no selector, or only a name.
func (s *Services) Behind(svc *corev1.Service) ([]*corev1.Pod, bool, error) {
	if !hasBackends(svc) {
		return nil, false, nil
	}
	s.mu.RLock()
	at, filed := s.under[loop.KeyOf(svc)]
	s.mu.RUnlock()
	if v, has := svc.Spec.Selector[at.key]; !filed || !has || v != at.value { // it has changed, which will wake it once more
		for k, v := range svc.Spec.Selector {
			at = pair{svc.Namespace, k, v}
		}
	}
	objs, err := s.pods.ByIndex(byLabel, at.String())
	if err != nil {
		return nil, true, err
	}
	pods := make([]*corev1.Pod, 0, len(objs))
	for _, o := range objs {
		if p := o.(*corev1.Pod); selects(svc.Spec.Selector, p.Labels) {
			pods = append(pods, p)
		}
	}
	return pods, true, nil
}

// hasBackends says whether pods are looked for; no selector selects nothing, not everything.
func hasBackends(svc *corev1.Service) bool {
	return len(svc.Spec.Selector) > 0 && svc.Spec.Type != corev1.ServiceTypeExternalName
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, has := labels[k]; !has || got != v {
			return false
		}
	}
	return true
}
