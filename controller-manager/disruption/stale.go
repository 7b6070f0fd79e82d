package disruption

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pod"
)

// Stale makes the controller of pods that were to be disrupted and were not.
func Stale(t loop.Tools) loop.Controller {
	c := &stale{t: t, pods: t.Informers.Core().V1().Pods().Lister()}
	return loop.Controller{
		Watches:   []loop.Watch{{Resource: "pods", Wakes: loop.Func("itself, when it is to be disrupted", announced)}},
		Reconcile: c.reconcile,
	}
}

type stale struct {
	t    loop.Tools
	pods corelisters.PodLister
}

func announced(e loop.Event) []loop.Key {
	if p, ok := e.New.(*corev1.Pod); ok && target(p) != nil {
		return []loop.Key{loop.KeyOf(p)}
	}
	return nil
}

// target is the condition that says that a pod, which goes on as if nothing was, is about to be disrupted.
func target(p *corev1.Pod) *corev1.PodCondition {
	c := pod.Condition(p, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue || !pod.Active(p) {
		return nil
	}
	return c
}

func (c *stale) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	p, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := time.Now()
	left := remaining(p, now)
	if left >= 0 {
		return left, nil
	}
	patch, err := takenBack(p, now)
	if err != nil {
		return 0, err
	}
	_, err = c.t.Clients.Kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("taking back that pod %s is to be disrupted: %w", key, err)
	}
	return 0, nil
}

// remaining is how long to wait before the announcement is taken back: negative now, 0 never.
func remaining(p *corev1.Pod, now time.Time) time.Duration {
	c := target(p)
	if c == nil {
		return 0
	}
	if left := c.LastTransitionTime.Add(patience).Sub(now); left > 0 {
		return left
	}
	return -1
}

// takenBack says in the condition that nothing came of it. It is only taken for the pod as it was looked at.
func takenBack(p *corev1.Pod, now time.Time) ([]byte, error) {
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now), ObservedGeneration: p.Generation,
		}}},
	})
}
