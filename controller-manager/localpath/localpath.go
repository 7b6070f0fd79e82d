// Package localpath makes volumes for claims out of folders of the nodes, so that a claim works on a cluster that has nothing else:
// it is the provisioner pilothouse.dev/local-path of StorageClasses.
//
//	claim, its pod's node chosen ──▶ PersistentVolume pvc-UID with our finalizer (here)
//	                                   └▶ folder DIR/pvc-UID on the node          (kubelet/localvolumes)
//	claim deleted, volume Released ──▶ deletion of the volume                      (here)
//	                                   └▶ folder removed, then the finalizer       (kubelet/localvolumes)
//
// The binder (pvbinder) says in annotations which claims are ours, the scheduler which node a claim's first pod goes to. A node
// that is gone or cannot have the volume is handed back to the scheduler by taking that annotation away. What always holds: a
// claim has at most one volume, named by its UID; a volume with reclaim policy Retain is never deleted; the finalizer is taken
// away here only when the node is gone for good, since nobody else is left to do it.
// See https://kubernetes.io/docs/concepts/storage/persistent-volumes/#provisioning
package localpath

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/localvolume"
)

// goneFor is how long a node must have been missing before its volumes are given up: one that registers anew keeps them.
const goneFor = 40 * time.Second

type controller struct {
	t       loop.Tools
	dir     string
	patient time.Duration
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	nodes   corelisters.NodeLister
	classes storagelisters.StorageClassLister

	made, failed, removed, stuck *prometheus.CounterVec

	mu      sync.Mutex
	missing map[string]time.Time // guarded by mu: since when a node that a volume waits for is not there
}

// New returns the constructor for the nodes' folder of volumes, which the kubelets must be told, too.
func New(dir string) func(loop.Tools) loop.Controller { return with(dir, goneFor) }

func with(dir string, patient time.Duration) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		core := t.Informers.Core().V1()
		c := &controller{
			t: t, dir: dir, patient: patient, missing: map[string]time.Time{},
			claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(), nodes: core.Nodes().Lister(),
			classes: t.Informers.Storage().V1().StorageClasses().Lister(),
			made:    t.Metrics.Counter("controller_persistentvolumeclaim_provision_total", "Volumes made for claims, by class.", "class"),
			failed:  t.Metrics.Counter("controller_persistentvolumeclaim_provision_failed_total", "Tries to make a volume that failed, by class.", "class"),
			removed: t.Metrics.Counter("controller_persistentvolume_delete_total", "Volumes deleted after their claims, by class.", "class"),
			stuck:   t.Metrics.Counter("controller_persistentvolume_delete_failed_total", "Tries to delete a volume that failed, by class.", "class"),
		}
		return loop.Controller{
			Watches: []loop.Watch{
				{Resource: "persistentvolumeclaims", Wakes: loop.Func("itself, when it waits for a volume of ours", waiting)},
				{Resource: "persistentvolumes", Wakes: loop.Func("itself, when it is ours and goes; once it is gone, the claim that may want another", ours)},
				{Resource: "storageclasses.storage.k8s.io", Wakes: loop.Func("the claims that wait for it", c.classed)},
				{Resource: "nodes", Wakes: loop.Func("its volumes that are going, when it is gone", c.left)},
			},
			Reconcile: c.reconcile,
		}
	}
}

func waiting(e loop.Event) []loop.Key {
	if now, ok := e.New.(*corev1.PersistentVolumeClaim); ok && awaits(now) {
		return []loop.Key{loop.KeyOf(now)}
	}
	return nil
}

func ours(e loop.Event) []loop.Key {
	if e.New == nil {
		gone := e.Old.(*corev1.PersistentVolume)
		if ref := gone.Spec.ClaimRef; ref != nil && localvolume.Ours(gone) {
			return []loop.Key{{Namespace: ref.Namespace, Name: ref.Name}}
		}
		return nil
	}
	if now := e.New.(*corev1.PersistentVolume); fateOf(now) != stays {
		return []loop.Key{loop.KeyOf(now)}
	}
	return nil
}

func (c *controller) classed(e loop.Event) []loop.Key {
	now, ok := e.New.(*storagev1.StorageClass)
	if !ok || now.Provisioner != localvolume.Provisioner {
		return nil
	}
	all, err := c.claims.List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, claim := range all {
		if awaits(claim) && classOf(claim) == now.Name {
			keys = append(keys, loop.KeyOf(claim))
		}
	}
	return keys
}

func (c *controller) left(e loop.Event) []loop.Key {
	if e.New != nil {
		if e.Old == nil {
			c.found(e.New.GetName())
		}
		return nil
	}
	all, err := c.volumes.List(labels.SelectorFromSet(labels.Set{localvolume.NodeLabel: e.Old.GetName()}))
	if err != nil {
		return nil // a cache does not fail, and a name that is no label has no volumes
	}
	var keys []loop.Key
	for _, v := range all {
		if fateOf(v) == orphan {
			keys = append(keys, loop.KeyOf(v))
		}
	}
	return keys
}

// reconcile takes claims by namespace and name, volumes by name alone.
func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if key.Namespace == "" {
		v, err := c.volumes.Get(key.Name)
		if err != nil {
			return 0, ignoreGone(err)
		}
		return c.end(ctx, v)
	}
	claim, err := c.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if err != nil || !awaits(claim) {
		return 0, ignoreGone(err)
	}
	return 0, c.provision(ctx, claim)
}

// provision makes a claim's volume, if the time has come and it can have one.
func (c *controller) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if have, err := c.volumes.Get(volumeName(claim)); err == nil && belongs(have, claim) {
		return nil // the binder's turn; if somebody deletes it before that, woken when it is gone
	}
	name := classOf(claim)
	class, err := c.classes.Get(name)
	if apierrors.IsNotFound(err) {
		c.complain(claim, name, err)
		return nil // woken when there is one
	}
	if err != nil || class.Provisioner != localvolume.Provisioner {
		return err
	}
	if err := refuse(claim, class); err != nil {
		c.complain(claim, name, err)
		return nil // neither of them can change that
	}
	selected := claim.Annotations[annSelectedNode]
	if selected == "" {
		return nil // woken when there is a first consumer
	}
	node, err := c.node(ctx, selected)
	if apierrors.IsNotFound(err) {
		return c.handBack(ctx, claim, fmt.Errorf("node %q is gone", selected))
	}
	if err != nil {
		return err
	}
	if err := unfit(class, node); err != nil {
		return c.handBack(ctx, claim, err)
	}
	c.t.Recorder.Eventf(claim, corev1.EventTypeNormal, "Provisioning", "External provisioner is provisioning volume for claim %q", loop.KeyOf(claim))
	return c.create(ctx, claim, volume(claim, class, node, c.dir))
}

// node finds a node; that it is not in the cache yet does not mean that it is gone.
func (c *controller) node(ctx context.Context, name string) (*corev1.Node, error) {
	n, err := c.nodes.Get(name)
	if !apierrors.IsNotFound(err) {
		return n, err
	}
	n, err = c.t.Clients.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("looking for node %s: %w", name, err)
	}
	return n, err
}

func (c *controller) create(ctx context.Context, claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) error {
	volumes := c.t.Clients.Kube.CoreV1().PersistentVolumes()
	_, err := volumes.Create(ctx, v, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		// Made in a former life, or a moment ago.
		have, getErr := volumes.Get(ctx, v.Name, metav1.GetOptions{})
		switch {
		case getErr != nil:
			err = getErr
		case belongs(have, claim):
			err = nil
		}
	}
	if err != nil {
		c.complain(claim, v.Spec.StorageClassName, err)
		return fmt.Errorf("making volume %s: %w", v.Name, err)
	}
	c.made.WithLabelValues(v.Spec.StorageClassName).Inc()
	c.t.Recorder.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", v.Name)
	return nil
}

// handBack has the scheduler choose another node.
func (c *controller) handBack(ctx context.Context, claim *corev1.PersistentVolumeClaim, why error) error {
	want := claim.DeepCopy()
	delete(want.Annotations, annSelectedNode)
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().PersistentVolumeClaims(claim.Namespace), claim, want); err != nil {
		return ignoreGone(err)
	}
	c.complain(claim, classOf(claim), fmt.Errorf("%w; another node is to be chosen", why))
	return nil
}

func (c *controller) complain(claim *corev1.PersistentVolumeClaim, class string, why error) {
	c.failed.WithLabelValues(class).Inc()
	c.t.Recorder.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", class, why)
}

// end deletes a volume whose claim is gone, and lets one go whose node is.
func (c *controller) end(ctx context.Context, v *corev1.PersistentVolume) (time.Duration, error) {
	switch fateOf(v) {
	case deleted:
		err := c.t.Clients.Kube.CoreV1().PersistentVolumes().Delete(ctx, v.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &v.UID, ResourceVersion: &v.ResourceVersion}})
		switch {
		case err == nil:
			c.removed.WithLabelValues(v.Spec.StorageClassName).Inc()
		case apierrors.IsConflict(err): // it may be to be retained by now; woken when the newer one is here
		case !apierrors.IsNotFound(err):
			c.stuck.WithLabelValues(v.Spec.StorageClassName).Inc()
			c.t.Recorder.Eventf(v, corev1.EventTypeWarning, "VolumeFailedDelete", "%v", err)
			return 0, fmt.Errorf("deleting volume %s: %w", v.Name, err)
		}
	case orphan:
		return c.release(ctx, v)
	}
	return 0, nil
}

// release takes the finalizer from a volume that is going, if its node cannot do it any more.
func (c *controller) release(ctx context.Context, v *corev1.PersistentVolume) (time.Duration, error) {
	on := v.Labels[localvolume.NodeLabel]
	if on != "" {
		_, err := c.node(ctx, on)
		if !apierrors.IsNotFound(err) {
			c.found(on)
			return 0, err // its kubelet's work
		}
	}
	if wait := c.patient - c.missed(on, time.Now()); wait > 0 {
		return wait, nil
	}
	want := v.DeepCopy()
	want.Finalizers = slices.DeleteFunc(want.Finalizers, func(f string) bool { return f == localvolume.Finalizer })
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().PersistentVolumes(), v, want); err != nil {
		return 0, ignoreGone(err)
	}
	c.t.Log.Info("a local volume's node is gone, and nobody has removed its folder", zap.String("name", v.Name), zap.String("node", on),
		zap.String("path", v.Spec.Local.Path))
	return 0, nil
}

// missed is for how long a node has been known to be missing.
func (c *controller) missed(node string, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, known := c.missing[node]
	if !known {
		since = now
		c.missing[node] = now
	}
	return now.Sub(since)
}

func (c *controller) found(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.missing, node)
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
