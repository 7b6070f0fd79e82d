// Package pvbinder gives claims their volumes and says of both in which phase they are: it binds a claim to the smallest volume that
// satisfies it, or asks the provisioner of the claim's class for one, and says of a volume whose claim is gone that it is released
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/). It is run by the loop; its keys are claims (with a namespace)
// and volumes (without). Volumes are made and deleted by provisioners, which this controller asks by annotations only; what waits
// for its first consumer is bound by the scheduler, which writes the volume's claimRef or the claim's selected node.
//
// What always holds: a binding is four writes, each of which can be the last before a crash: the volume's claimRef, the volume's
// phase, the claim's volume name, the claim's status. The first decides: a volume belongs to the claim whose UID it names, and
// that write fails when the volume has changed since it was chosen, so a volume never goes to two claims.
package pvbinder

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t       loop.Tools
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	classes storagelisters.StorageClassLister
	pods    corelisters.PodLister

	claimIndex, volumeIndex cache.Indexer

	// What was written and is not in the caches yet.
	ownClaims  *memory[*corev1.PersistentVolumeClaim]
	ownVolumes *memory[*corev1.PersistentVolume]

	mu sync.Mutex
	// Guarded by mu.
	taken map[string]types.UID // volumes that are being bound at this moment, with the claims
	told  map[loop.Key]event   // the last event about each claim, so that it is not repeated while nothing changes
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	claims, volumes := t.Informers.Core().V1().PersistentVolumeClaims(), t.Informers.Core().V1().PersistentVolumes()
	c := &controller{
		t: t, claims: claims.Lister(), volumes: volumes.Lister(),
		classes:    t.Informers.Storage().V1().StorageClasses().Lister(),
		pods:       t.Informers.Core().V1().Pods().Lister(),
		claimIndex: index(claims.Informer(), claimIndexes), volumeIndex: index(volumes.Informer(), volumeIndexes),
		ownClaims: newMemory[*corev1.PersistentVolumeClaim](), ownVolumes: newMemory[*corev1.PersistentVolume](),
		taken: map[string]types.UID{}, told: map[loop.Key]event{},
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "persistentvolumeclaims", Wakes: loop.Any(loop.Self, loop.Func("volumes that name it, or that it names", c.volumesOf))},
			{Resource: "persistentvolumes", Wakes: loop.Any(loop.Self, loop.Func("claims that it names, that name it, or that it may satisfy", c.claimsOf))},
			{Resource: "storageclasses.storage.k8s.io", Wakes: loop.Func("claims without a volume that name it, or no class", c.claimsOfClass)},
			{Resource: "pods", Wakes: loop.Func("claims of a pod that waits for a node", consumed)},
		},
		Reconcile: c.reconcile,
	}
}

// Names of the indexes.
const (
	byVolume  = "pvbinder volume"  // claims, by the volume that they name
	byPending = "pvbinder pending" // claims that want any volume, by class
	byClass   = "pvbinder class"   // volumes, by class
	byClaim   = "pvbinder claim"   // volumes, by the claim that they name
)

var claimIndexes = cache.Indexers{
	byVolume: func(o any) ([]string, error) { return []string{o.(*corev1.PersistentVolumeClaim).Spec.VolumeName}, nil },
	byPending: func(o any) ([]string, error) {
		claim := o.(*corev1.PersistentVolumeClaim)
		if claim.Spec.VolumeName != "" || metav1.HasAnnotation(claim.ObjectMeta, volumehelpers.AnnBindCompleted) {
			return nil, nil
		}
		return []string{pendingKey(claim)}, nil
	},
}

// noClass is the place of claims that say nothing of a class, in the index byPending: no class has such a name.
const noClass = "/"

func pendingKey(claim *corev1.PersistentVolumeClaim) string {
	if !volumehelpers.PersistentVolumeClaimHasClass(claim) {
		return noClass
	}
	return volumehelpers.GetPersistentVolumeClaimClass(claim)
}

var volumeIndexes = cache.Indexers{
	byClass: func(o any) ([]string, error) {
		return []string{volumehelpers.GetPersistentVolumeClass(o.(*corev1.PersistentVolume))}, nil
	},
	byClaim: func(o any) ([]string, error) {
		if ref := o.(*corev1.PersistentVolume).Spec.ClaimRef; ref != nil {
			return []string{refKey(ref).String()}, nil
		}
		return nil, nil
	},
}

func refKey(ref *corev1.ObjectReference) loop.Key {
	return loop.Key{Namespace: ref.Namespace, Name: ref.Name}
}

// index adds indexes to an informer that has not been started; one that has is a broken table.
func index(inf cache.SharedIndexInformer, with cache.Indexers) cache.Indexer {
	if err := inf.AddIndexers(with); err != nil {
		panic("indexing for the volume binder: " + err.Error())
	}
	return inf.GetIndexer()
}

func (c *controller) volumesOf(e loop.Event) []loop.Key {
	var keys []loop.Key
	for _, o := range []metav1.Object{e.Old, e.New} {
		if o == nil {
			continue
		}
		claim := o.(*corev1.PersistentVolumeClaim)
		if claim.Spec.VolumeName != "" {
			keys = append(keys, loop.Key{Name: claim.Spec.VolumeName})
		}
		for _, v := range indexed[*corev1.PersistentVolume](c.volumeIndex, byClaim, loop.KeyOf(claim).String()) {
			keys = append(keys, loop.Key{Name: v.Name})
		}
	}
	return keys
}

func (c *controller) claimsOf(e loop.Event) []loop.Key {
	var keys []loop.Key
	for _, o := range []metav1.Object{e.Old, e.New} {
		if o == nil {
			continue
		}
		if ref := o.(*corev1.PersistentVolume).Spec.ClaimRef; ref != nil {
			keys = append(keys, refKey(ref))
		}
	}
	for _, claim := range indexed[*corev1.PersistentVolumeClaim](c.claimIndex, byVolume, e.Last().GetName()) {
		keys = append(keys, loop.KeyOf(claim))
	}
	v, ok := e.New.(*corev1.PersistentVolume)
	if !ok || v.Spec.ClaimRef != nil || v.Status.Phase != corev1.VolumeAvailable {
		return keys
	}
	class := volumehelpers.GetPersistentVolumeClass(v)
	pending := indexed[*corev1.PersistentVolumeClaim](c.claimIndex, byPending, class)
	if class == "" {
		pending = append(pending, indexed[*corev1.PersistentVolumeClaim](c.claimIndex, byPending, noClass)...)
	}
	for _, claim := range pending {
		if satisfies(v, claim) == nil {
			keys = append(keys, loop.KeyOf(claim))
		}
	}
	return keys
}

func (c *controller) claimsOfClass(e loop.Event) []loop.Key {
	class, ok := e.New.(*storagev1.StorageClass)
	if !ok {
		return nil
	}
	pending := indexed[*corev1.PersistentVolumeClaim](c.claimIndex, byPending, class.Name)
	if isDefault(class) {
		pending = append(pending, indexed[*corev1.PersistentVolumeClaim](c.claimIndex, byPending, noClass)...)
	}
	keys := make([]loop.Key, 0, len(pending))
	for _, claim := range pending {
		keys = append(keys, loop.KeyOf(claim))
	}
	return keys
}

// consumed are the claims of a new pod that has no node: what is told of a waiting claim names the pods that it waits for.
func consumed(e loop.Event) []loop.Key {
	p, ok := e.New.(*corev1.Pod)
	if !ok || e.Old != nil || p.Spec.NodeName != "" {
		return nil
	}
	var keys []loop.Key
	for i := range p.Spec.Volumes {
		if name := claimName(p, &p.Spec.Volumes[i]); name != "" {
			keys = append(keys, loop.Key{Namespace: p.Namespace, Name: name})
		}
	}
	return keys
}

// indexed are the objects under a key of an index that exists.
func indexed[T any](ix cache.Indexer, name, key string) []T {
	objs, err := ix.ByIndex(name, key)
	if err != nil {
		panic("reading an index of the volume binder: " + err.Error())
	}
	found := make([]T, 0, len(objs))
	for _, o := range objs {
		found = append(found, o.(T))
	}
	return found
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if key.Namespace != "" {
		return 0, c.reconcileClaim(ctx, key)
	}
	return 0, c.reconcileVolume(ctx, key)
}

// claim is a claim as newest known, nil when there is none.
func (c *controller) claim(key loop.Key) (*corev1.PersistentVolumeClaim, error) {
	claim, err := c.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c.ownClaims.newest(claim), nil
}

// volume is a volume as newest known, nil when there is none.
func (c *controller) volume(name string) (*corev1.PersistentVolume, error) {
	v, err := c.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c.ownVolumes.newest(v), nil
}
