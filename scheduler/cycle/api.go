package cycle

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/preempt"
)

// API is what the cycle asks of the API server. Errors are those of client-go. Safe for concurrent use.
type API interface {
	// Bind gives the pod its node: of this UID, and only if it has none.
	Bind(ctx context.Context, p *nodeinfo.Pod, node string) error
	// Get is the pod of this name as it is now.
	Get(ctx context.Context, p *nodeinfo.Pod) (*corev1.Pod, error)
	// SetCondition writes one condition and the nomination into the status of exactly this version of the pod; a conflict if
	// it has changed.
	SetCondition(ctx context.Context, p *corev1.Pod, c corev1.PodCondition, nominated string) error
	preempt.API
}

// Over is the API through a client.
func Over(kube kubernetes.Interface) API { return client{kube} }

type client struct{ kube kubernetes.Interface }

func (c client) Bind(ctx context.Context, p *nodeinfo.Pod, node string) error {
	return c.kube.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
}

func (c client) Get(ctx context.Context, p *nodeinfo.Pod) (*corev1.Pod, error) {
	return c.kube.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
}

func (c client) SetCondition(ctx context.Context, p *corev1.Pod, condition corev1.PodCondition, nominated string) error {
	status := map[string]any{"conditions": []corev1.PodCondition{moved(p, condition)}}
	if nominated != p.Status.NominatedNodeName {
		status["nominatedNodeName"] = nominated
	}
	return c.patchStatus(ctx, p, map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion}, status)
}

func (c client) MarkDisrupted(ctx context.Context, victim *corev1.Pod, condition corev1.PodCondition) error {
	return c.patchStatus(ctx, victim, map[string]any{"uid": victim.UID},
		map[string]any{"conditions": []corev1.PodCondition{moved(victim, condition)}})
}

func (c client) Delete(ctx context.Context, victim *corev1.Pod) error {
	return c.kube.CoreV1().Pods(victim.Namespace).Delete(ctx, victim.Name, *metav1.NewPreconditionDeleteOptions(string(victim.UID)))
}

// moved is a condition with the time at which its status last changed.
func moved(p *corev1.Pod, condition corev1.PodCondition) corev1.PodCondition {
	status := corev1.PodStatus{}
	if old := pod.Condition(p, condition.Type); old != nil {
		status.Conditions = append(status.Conditions, *old)
	}
	condition.ObservedGeneration = p.Generation
	pod.SetCondition(&status, condition, time.Now())
	return status.Conditions[0]
}

func (c client) patchStatus(ctx context.Context, p *corev1.Pod, metadata, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": metadata, "status": status})
	if err != nil {
		return fmt.Errorf("writing the patch of a status: %w", err)
	}
	_, err = c.kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
