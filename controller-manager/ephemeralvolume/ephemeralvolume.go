// Package ephemeralvolume makes the claims of generic ephemeral volumes: a claim named after pod and volume, which the pod owns, so
// that it goes with the pod (https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes). It is run
// by the loop and keyed by pods. A claim of that name that is not the pod's is left alone, and the pod is told.
package ephemeralvolume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/ephemeral"

	"pilothouse.dev/controller-manager/loop"
)

type controller struct {
	t       loop.Tools
	pods    corelisters.PodLister
	claims  corelisters.PersistentVolumeClaimLister
	byClaim cache.Indexer

	created, failed prometheus.Counter
}

// byClaim is the index over pods by the claims that are made for them.
const byClaim = "ephemeral claim"

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	core := t.Informers.Core().V1()
	c := &controller{
		t: t, pods: core.Pods().Lister(), claims: core.PersistentVolumeClaims().Lister(), byClaim: core.Pods().Informer().GetIndexer(),
		created: t.Metrics.Counter("ephemeral_volume_controller_create_total", "Requests to make the claim of an ephemeral volume.").WithLabelValues(),
		failed:  t.Metrics.Counter("ephemeral_volume_controller_create_failures_total", "Those of them that failed.").WithLabelValues(),
	}
	err := core.Pods().Informer().AddIndexers(cache.Indexers{byClaim: func(o any) ([]string, error) {
		var keys []string
		p := o.(*corev1.Pod)
		for i := range p.Spec.Volumes {
			if v := &p.Spec.Volumes[i]; v.Ephemeral != nil {
				keys = append(keys, p.Namespace+"/"+ephemeral.VolumeClaimName(p, v))
			}
		}
		return keys, nil
	}})
	if err != nil {
		panic("indexing pods by ephemeral volumes: " + err.Error())
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "pods", Wakes: loop.Func("itself, when it is new and has ephemeral volumes", appeared)},
			{Resource: "persistentvolumeclaims", Wakes: loop.Func("the pod that it was made for, when it is gone", c.gone)},
		},
		Reconcile: c.reconcile,
	}
}

// appeared is a pod with ephemeral volumes that was not there before: the volumes of a pod never change.
func appeared(e loop.Event) []loop.Key {
	p, ok := e.New.(*corev1.Pod)
	if !ok || e.Old != nil || p.DeletionTimestamp != nil {
		return nil
	}
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Ephemeral != nil {
			return []loop.Key{loop.KeyOf(p)}
		}
	}
	return nil
}

func (c *controller) gone(e loop.Event) []loop.Key {
	if e.New != nil {
		return nil
	}
	pods, err := c.byClaim.ByIndex(byClaim, loop.KeyOf(e.Old).String())
	if err != nil {
		panic("reading the index of ephemeral volumes: " + err.Error())
	}
	var keys []loop.Key
	for _, p := range pods {
		keys = append(keys, loop.KeyOf(p.(*corev1.Pod)))
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || pod.DeletionTimestamp != nil {
		return 0, err
	}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil {
			continue
		}
		claim, err := c.claims.PersistentVolumeClaims(key.Namespace).Get(ephemeral.VolumeClaimName(pod, v))
		switch {
		case apierrors.IsNotFound(err):
			if err := c.create(ctx, pod, v); err != nil {
				errs = append(errs, err)
			}
		case err != nil:
			errs = append(errs, err)
		default:
			if foreign := ephemeral.VolumeIsForPod(pod, claim); foreign != nil { // woken when it is gone
				c.tell(pod, v, foreign)
			}
		}
	}
	return 0, errors.Join(errs...)
}

func (c *controller) create(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	want := claimFor(pod, v)
	c.created.Inc()
	_, err := c.t.Clients.Kube.CoreV1().PersistentVolumeClaims(pod.Namespace).Create(ctx, want, metav1.CreateOptions{})
	if err == nil {
		return nil
	}
	c.failed.Inc()
	if !apierrors.IsAlreadyExists(err) { // else the cache is behind, and what it will show decides
		c.tell(pod, v, fmt.Errorf("create PVC %s: %w", want.Name, err))
	}
	return fmt.Errorf("making claim %s for an ephemeral volume: %w", want.Name, err)
}

func (c *controller) tell(pod *corev1.Pod, v *corev1.Volume, err error) {
	c.t.Recorder.Eventf(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: %v", v.Name, err)
}

// claimFor is the claim of a pod's ephemeral volume.
func claimFor(pod *corev1.Pod, v *corev1.Volume) *corev1.PersistentVolumeClaim {
	t := v.Ephemeral.VolumeClaimTemplate.DeepCopy()
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: ephemeral.VolumeClaimName(pod, v), Labels: t.Labels, Annotations: t.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: t.Spec,
	}
}
