// Package localvolumes keeps the folders of the volumes that the provisioner pilothouse.dev/local-path has made for claims on this node:
// it makes them, and removes them with all that is in them when their volumes go.
//
//	volume with our node's label appears         folder DIR/NAME is made (also by who mounts it first)
//	it is being deleted, released, used by none   folder removed, then our finalizer, which ends the object
//	… with reclaim policy Retain                  finalizer removed, the folder stays
//
// main runs Keeper; the volumes of pods make folders through Dirs. What always holds: only DIR/NAME of a volume that says so itself is
// ever made or removed, never through a link and never across a mount (Dirs); a folder goes only after the API has said that its
// volume does, and when no pod's folder on this node names the volume; what belongs to no volume is told in the log and left alone. Nothing is
// remembered: a restart finds volumes by their watch and users by their folders.
package localvolumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"pilothouse.dev/pkg/localvolume"
)

// Users says who mounts a volume.
type Users interface {
	// Uses says whether a pod of this node has a volume among its own, in this life of the kubelet or a former one.
	Uses(volume string) (bool, error)
	// Released has something to read when a pod's volumes were taken down. For one reader.
	Released() <-chan struct{}
}

// Recorder tells users what happened.
type Recorder interface {
	Eventf(object runtime.Object, kind, reason, format string, args ...any)
}

// Parts are what a Keeper needs.
type Parts struct {
	Dirs     *Dirs
	Informer cache.SharedIndexInformer // see Informer; its factory runs it
	Volumes  typedcorev1.PersistentVolumeInterface
	Users    Users
	Events   Recorder
}

// Keeper follows the volumes of one node.
type Keeper struct {
	Parts
	queue workqueue.TypedRateLimitingInterface[string]
	log   *zap.Logger
}

// Informer makes the informer of a node's volumes. A node whose name is no label has none: the provisioner makes none for it.
func Informer(kube kubernetes.Interface, node string) cache.SharedIndexInformer {
	only := labels.SelectorFromSet(labels.Set{localvolume.NodeLabel: node}).String()
	return coreinformers.NewFilteredPersistentVolumeInformer(kube, 0, cache.Indexers{}, func(o *metav1.ListOptions) { o.LabelSelector = only })
}

// New stores what it is given.
func New(parts Parts, log *zap.Logger) *Keeper {
	return &Keeper{Parts: parts, log: log.Named("local volumes"),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())}
}

// workers: emptying a large folder does not keep others waiting.
const workers = 2

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	wake := func(obj any) {
		if v, ok := obj.(*corev1.PersistentVolume); ok {
			k.queue.Add(v.Name)
		}
	}
	reg, err := k.Informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: wake, UpdateFunc: func(_, now any) { wake(now) }})
	if err != nil {
		return fmt.Errorf("listening to volumes: %w", err)
	}
	defer k.Informer.RemoveEventHandler(reg)
	var all sync.WaitGroup
	defer all.Wait()
	defer k.queue.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
		return nil
	}
	k.leftovers()
	for range workers {
		all.Go(func() {
			for k.next(ctx) {
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.Users.Released():
			for _, obj := range k.Informer.GetStore().List() {
				if v := obj.(*corev1.PersistentVolume); v.DeletionTimestamp != nil {
					k.queue.Add(v.Name)
				}
			}
		}
	}
}

func (k *Keeper) next(ctx context.Context) bool {
	name, down := k.queue.Get()
	if down || ctx.Err() != nil {
		return false
	}
	defer k.queue.Done(name)
	obj, there, err := k.Informer.GetStore().GetByKey(name)
	if err != nil || !there {
		k.queue.Forget(name)
		return true
	}
	v := obj.(*corev1.PersistentVolume)
	err = k.keep(ctx, v)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		k.queue.Forget(name)
	case errors.Is(err, ErrElsewhere):
		k.queue.Forget(name) // until it changes
		k.log.Warn("a volume of this node is not kept here", zap.String("name", name), zap.String("path", pathOf(v)))
		if v.DeletionTimestamp != nil {
			k.Events.Eventf(v, corev1.EventTypeWarning, "VolumeFailedDelete", "%v", err)
		}
	default:
		k.log.Warn("keeping the folder of a volume", zap.String("name", name), zap.Error(err))
		if v.DeletionTimestamp != nil {
			k.Events.Eventf(v, corev1.EventTypeWarning, "VolumeFailedDelete", "%v", err)
		}
		k.queue.AddRateLimited(name)
	}
	return true
}

func pathOf(v *corev1.PersistentVolume) string {
	if v.Spec.Local == nil {
		return ""
	}
	return v.Spec.Local.Path
}

// keep brings a volume's folder to what it should be.
func (k *Keeper) keep(ctx context.Context, v *corev1.PersistentVolume) error {
	if v.DeletionTimestamp == nil {
		made, err := k.Dirs.Make(v)
		if made {
			k.log.Info("made the folder of a volume", zap.String("name", v.Name), zap.String("path", pathOf(v)))
		}
		return err
	}
	if !due(v) {
		return nil // woken when it changes
	}
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		used, err := k.Users.Uses(v.Name)
		if err != nil || used {
			return err // woken when a pod's volumes are taken down
		}
		if asSeen, err := k.asSeen(ctx, v); err != nil || !asSeen {
			return err // woken when the newer one is here
		}
		if err := k.Dirs.Remove(ctx, v); err != nil {
			return err
		}
		k.log.Info("removed the folder of a volume", zap.String("name", v.Name), zap.String("path", pathOf(v)))
	} else {
		k.log.Info("a volume is gone, its folder stays", zap.String("name", v.Name), zap.String("path", pathOf(v)))
	}
	return k.release(ctx, v)
}

// asSeen says whether a volume is still as the watch has told: what is removed cannot be brought back, and somebody may have saved it
// meanwhile, by its reclaim policy or by force.
func (k *Keeper) asSeen(ctx context.Context, v *corev1.PersistentVolume) (bool, error) {
	list, err := k.Volumes.List(ctx, metav1.ListOptions{ // a kubelet may list these, and get those of its pods only
		LabelSelector: labels.SelectorFromSet(labels.Set{localvolume.NodeLabel: v.Labels[localvolume.NodeLabel]}).String(),
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, v.Name).String(),
	})
	if err != nil {
		return false, fmt.Errorf("reading volume %s before its folder is removed: %w", v.Name, err)
	}
	return len(list.Items) == 1 && list.Items[0].UID == v.UID && list.Items[0].ResourceVersion == v.ResourceVersion, nil
}

// due says whether a volume is going and waits for us: no claim holds it any more.
func due(v *corev1.PersistentVolume) bool {
	return v.DeletionTimestamp != nil && slices.Contains(v.Finalizers, localvolume.Finalizer) &&
		v.Status.Phase != corev1.VolumeBound && !slices.Contains(v.Finalizers, localvolume.Protection)
}

// release takes the finalizer away, from the very volume that was looked at.
func (k *Keeper) release(ctx context.Context, v *corev1.PersistentVolume) error {
	rest := slices.DeleteFunc(slices.Clone(v.Finalizers), func(f string) bool { return f == localvolume.Finalizer })
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": v.UID, "resourceVersion": v.ResourceVersion, "finalizers": rest}})
	if err != nil {
		return fmt.Errorf("writing a patch: %w", err)
	}
	_, err = k.Volumes.Patch(ctx, v.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return nil // woken when the newer one is here
	}
	return fmt.Errorf("letting volume %s go: %w", v.Name, err)
}

// leftovers tells of folders that are no volume's of this node: somebody has put them there, or a volume's object was removed by force.
func (k *Keeper) leftovers() {
	names, err := k.Dirs.Names()
	if err != nil {
		k.log.Warn("looking for folders of no volume", zap.Error(err))
		return
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		_, there, err := k.Informer.GetStore().GetByKey(name)
		return there || err != nil
	})
	if len(names) > 0 {
		k.log.Info("folders that belong to no volume of this node are left alone", zap.Int("count", len(names)), zap.Strings("names", names[:min(len(names), 20)]))
	}
}
