// Package pvexpander sees to claims that want more than they have. The volumes of drivers are grown by the drivers' own resizers,
// which watch claims themselves: it is only told that they are waited for. A local volume of ours is a folder, whose capacity is a
// number and nothing else: volume and claim get the new one at once
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims). It is run by the loop and
// keyed by claims.
//
// What always holds: a claim's capacity is never more than its volume's, which is written first; nothing shrinks.
package pvexpander

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corelisters "k8s.io/client-go/listers/core/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t       loop.Tools
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister

	mu   sync.Mutex
	told map[loop.Key]string // guarded by mu: the size of which was said that somebody else is waited for
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	core := t.Informers.Core().V1()
	c := &controller{t: t, claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(), told: map[loop.Key]string{}}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "persistentvolumeclaims", Wakes: loop.Func("itself, when it wants more than it has", growing)},
		},
		Reads:     []string{"persistentvolumes"},
		Reconcile: c.reconcile,
	}
}

// growing is the claim itself while it wants more than it has, and when it no longer does.
func growing(e loop.Event) []loop.Key {
	for _, o := range []any{e.Old, e.New} {
		if claim, ok := o.(*corev1.PersistentVolumeClaim); ok && wantsMore(claim) {
			return []loop.Key{loop.KeyOf(claim)}
		}
	}
	return nil
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	claim, err := c.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.say(key, "")
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	v, err := c.volumes.Get(claim.Spec.VolumeName)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, err
	}
	if wantsMore(claim) && (v == nil || !volumehelpers.IsVolumeBoundToClaim(v, claim)) {
		return 0, loop.ErrStale // it is bound: the cache of volumes is behind, or soon the claim is lost
	}
	plan := decide(claim, v)
	if plan.others {
		size := claim.Spec.Resources.Requests.Storage().String()
		if c.say(key, size) {
			c.t.Recorder.Event(claim, corev1.EventTypeNormal, "ExternalExpanding", "waiting for an external controller to expand this PVC")
		}
		return 0, nil
	}
	c.say(key, "")
	if plan.claim == nil {
		return 0, nil
	}
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().PersistentVolumes(), v, plan.volume); err != nil {
		return 0, err
	}
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().PersistentVolumeClaims(key.Namespace), claim, plan.claim); err != nil {
		return 0, err
	}
	c.t.Recorder.Eventf(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "ExpandVolume succeeded for volume %s", key)
	return 0, nil
}

// say notes what was said last about a claim, and returns whether that is something new.
func (c *controller) say(key loop.Key, size string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[key] == size {
		return false
	}
	if size == "" {
		delete(c.told, key)
	} else {
		c.told[key] = size
	}
	return true
}
