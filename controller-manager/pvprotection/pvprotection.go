// Package pvprotection keeps storage that is in use from vanishing: a claim that is being deleted stays while there is a pod on a node
// that uses it, be it that this has ended, a volume while it is bound. It is two controllers that take the finalizers away, which admission has added
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection).
package pvprotection

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"pilothouse.dev/controller-manager/loop"
)

// The finalizers, as Kubernetes users know them.
const (
	claimFinalizer  = "kubernetes.io/pvc-protection"
	volumeFinalizer = "kubernetes.io/pv-protection"
)

type claims struct {
	t      loop.Tools
	claims corelisters.PersistentVolumeClaimLister
	pods   corelisters.PodLister
}

// Claims is the constructor of the controller of claims.
func Claims(t loop.Tools) loop.Controller {
	core := t.Informers.Core().V1()
	c := &claims{t: t, claims: core.PersistentVolumeClaims().Lister(), pods: core.Pods().Lister()}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "persistentvolumeclaims", Wakes: loop.Self},
			{Resource: "pods", Wakes: loop.Func("the claims it used, when it is gone or shut down", released)},
		},
		Reconcile: c.reconcile,
	}
}

// released are the claims that a pod no longer uses.
func released(e loop.Event) []loop.Key {
	if e.New != nil && !shutDown(e.New.(*corev1.Pod)) {
		return nil
	}
	p := e.Last().(*corev1.Pod)
	var keys []loop.Key
	for _, name := range claimsOf(p) {
		keys = append(keys, loop.Key{Namespace: p.Namespace, Name: name})
	}
	return keys
}

// claimsOf names the claims of a pod, those that were made for it among them.
func claimsOf(p *corev1.Pod) []string {
	var names []string
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, ephemeral.VolumeClaimName(p, v))
		}
	}
	return names
}

// uses says whether a pod holds a claim: it is on a node, and there. One that has ended may be mounted still, and users read what it
// left. One that is not on a node yet will not start once the claim is being deleted, nor will one whose own claim should be of that
// name and is another's. What was made for a pod is let go when the pod is shut down: it may be what the pod's end waits for.
func uses(p *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if p.Namespace != claim.Namespace || p.Spec.NodeName == "" {
		return false
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		switch {
		case v.PersistentVolumeClaim != nil:
			return v.PersistentVolumeClaim.ClaimName == claim.Name
		case v.Ephemeral != nil:
			return !shutDown(p) && ephemeral.VolumeClaimName(p, &v) == claim.Name && ephemeral.VolumeIsForPod(p, claim) == nil
		}
		return false
	})
}

// shutDown says whether a pod that is being deleted has no time left: its kubelet is done with it, or was not asked.
func shutDown(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0
}

// used says whether some pod uses a claim. That none does is asked of the API, not of a cache: a pod that is not in it yet would
// lose its storage.
func (c *claims) used(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	cached, err := c.pods.Pods(claim.Namespace).List(labels.Everything())
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(cached, func(p *corev1.Pod) bool { return uses(p, claim) }) {
		return true, nil
	}
	live, err := c.t.Clients.Kube.CoreV1().Pods(claim.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("listing the pods that may use claim %s: %w", loop.KeyOf(claim), err)
	}
	return slices.ContainsFunc(live.Items, func(p corev1.Pod) bool { return uses(&p, claim) }), nil
}

func (c *claims) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	have, err := c.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if err != nil {
		return 0, ignoreGone(err)
	}
	protect := have.DeletionTimestamp == nil
	if have.DeletionTimestamp != nil && slices.Contains(have.Finalizers, claimFinalizer) {
		if used, err := c.used(ctx, have); used || err != nil {
			return 0, err // woken when it is over
		}
	}
	want := have.DeepCopy()
	if want.Finalizers = protected(have.Finalizers, claimFinalizer, protect); slices.Equal(want.Finalizers, have.Finalizers) {
		return 0, nil
	}
	_, err = loop.Commit(ctx, c.t.Clients.Kube.CoreV1().PersistentVolumeClaims(key.Namespace), have, want)
	return 0, ignoreGone(err)
}

type volumes struct {
	t       loop.Tools
	volumes corelisters.PersistentVolumeLister
}

// Volumes is the constructor of the controller of volumes.
func Volumes(t loop.Tools) loop.Controller {
	c := &volumes{t: t, volumes: t.Informers.Core().V1().PersistentVolumes().Lister()}
	return loop.Controller{
		Watches:   []loop.Watch{{Resource: "persistentvolumes", Wakes: loop.Self}},
		Reconcile: c.reconcile,
	}
}

func (c *volumes) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	have, err := c.volumes.Get(key.Name)
	if err != nil {
		return 0, ignoreGone(err)
	}
	if have.DeletionTimestamp != nil && have.Status.Phase == corev1.VolumeBound {
		return 0, nil // woken when it is released
	}
	want := have.DeepCopy()
	want.Finalizers = protected(have.Finalizers, volumeFinalizer, have.DeletionTimestamp == nil)
	if slices.Equal(want.Finalizers, have.Finalizers) {
		return 0, nil
	}
	_, err = loop.Commit(ctx, c.t.Clients.Kube.CoreV1().PersistentVolumes(), have, want)
	return 0, ignoreGone(err)
}

// protected is finalizers with ours, or without.
func protected(finalizers []string, ours string, protect bool) []string {
	switch has := slices.Contains(finalizers, ours); {
	case protect && !has:
		return append(slices.Clone(finalizers), ours)
	case !protect && has:
		return slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool { return f == ours })
	}
	return finalizers
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
