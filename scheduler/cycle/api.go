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
)

// API is what the cycle asks of the API server. Errors are those of client-go. Safe for concurrent use.
type API interface {
	// Bind gives the pod its node: of this UID, and only if it has none.
	Bind(ctx context.Context, p *nodeinfo.Pod, node string) error
	// Get is the pod of this name as it is now.
	Get(ctx context.Context, p *nodeinfo.Pod) (*corev1.Pod, error)
	// SetCondition writes one condition into the status of exactly this version of the pod; a conflict if it has changed.
	SetCondition(ctx context.Context, p *corev1.Pod, c corev1.PodCondition) error
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

func (c client) SetCondition(ctx context.Context, p *corev1.Pod, condition corev1.PodCondition) error {
	status := corev1.PodStatus{}
	if old := pod.Condition(p, condition.Type); old != nil {
		status.Conditions = append(status.Conditions, *old)
	}
	condition.ObservedGeneration = p.Generation
	pod.SetCondition(&status, condition, time.Now())
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion},
		"status":   map[string]any{"conditions": status.Conditions},
	})
	if err != nil {
		return fmt.Errorf("writing the patch of a condition: %w", err)
	}
	_, err = c.kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
