// Package podset is what every controller of a set of pods needs: finding the pods of an owner, adopting and releasing by
// selector, making pods from a template, creating many of them carefully, choosing which to give up, and remembering what was
// written but not yet seen. Its callers are replicaset, job, statefulset and their like; deployment claims ReplicaSets with it.
//
// What always holds: a pod is created or deleted at most once for one decision, because a Ledger counts own writes until the
// cache shows them; an object is adopted only after its would-be owner was read live and found not to be going.
package podset

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// Names of the indexes over pods: by controlling owner's UID (by namespace for pods that have none), and by node.
const (
	byOwner = "controller"
	byNode  = "node"
)

// Reader finds pods by owner in the informer's cache.
type Reader struct{ indexer cache.Indexer }

// NewReader asks the factory for the pod informer and its index. It is called while controllers are made, before the factory is
// started; an informer that has already ended is a broken table.
func NewReader(f informers.SharedInformerFactory) Reader {
	inf := f.Core().V1().Pods().Informer()
	r := Reader{inf.GetIndexer()}
	if _, there := r.indexer.GetIndexers()[byOwner]; there {
		return r
	}
	err := inf.AddIndexers(cache.Indexers{
		byOwner: func(obj any) ([]string, error) { return []string{ownerKey(obj.(*corev1.Pod))}, nil },
		byNode:  func(obj any) ([]string, error) { return []string{obj.(*corev1.Pod).Spec.NodeName}, nil },
	})
	if err != nil {
		panic("indexing pods: " + err.Error())
	}
	return r
}

func ownerKey(pod *corev1.Pod) string {
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		return string(ref.UID)
	}
	return "orphans " + pod.Namespace
}

// Owned are the pods whose controlling owner has this UID.
func (r Reader) Owned(uid types.UID) ([]*corev1.Pod, error) { return r.list(byOwner, string(uid)) }

// On are the pods bound to a node.
func (r Reader) On(node string) ([]*corev1.Pod, error) { return r.list(byNode, node) }

// Candidates are the pods the owner controls, and those of its namespace that nobody does: what Claim wants.
func (r Reader) Candidates(owner metav1.Object) ([]*corev1.Pod, error) {
	own, err := r.list(byOwner, string(owner.GetUID()))
	if err != nil {
		return nil, err
	}
	orphans, err := r.list(byOwner, "orphans "+owner.GetNamespace())
	if err != nil {
		return nil, err
	}
	return append(own, orphans...), nil
}

// Version is the resource version up to which the cache has seen all changes.
func (r Reader) Version() string { return r.indexer.LastStoreSyncResourceVersion() }

func (r Reader) list(index, key string) ([]*corev1.Pod, error) {
	objs, err := r.indexer.ByIndex(index, key)
	if err != nil {
		return nil, err
	}
	pods := make([]*corev1.Pod, 0, len(objs))
	for _, o := range objs {
		pods = append(pods, o.(*corev1.Pod))
	}
	return pods, nil
}

// FromTemplate makes an owner's pod; the API server completes its name.
func FromTemplate(t *corev1.PodTemplateSpec, owner metav1.Object, kind schema.GroupVersionKind) *corev1.Pod {
	t = t.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       owner.GetNamespace(),
			GenerateName:    owner.GetName() + "-",
			Labels:          t.Labels,
			Annotations:     t.Annotations,
			Finalizers:      t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, kind)},
		},
		Spec: t.Spec,
	}
}
