package job

import (
	"context"
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/controller-manager/loop"
)

// server is the world through the API server.
type server struct{ kube kubernetes.Interface }

func (s server) create(ctx context.Context, p *corev1.Pod) (*corev1.Pod, error) {
	return s.kube.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
}

func (s server) remove(ctx context.Context, p *corev1.Pod) error {
	return s.kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, *metav1.NewPreconditionDeleteOptions(string(p.UID)))
}

// guard gives a pod the finalizer, if it is as we know it, or takes it away, whatever else has changed.
func (s server) guard(ctx context.Context, p *corev1.Pod, on bool) error {
	meta := finalizerPatch(on)
	meta["uid"] = p.UID
	if on {
		meta["resourceVersion"] = p.ResourceVersion
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return err
	}
	_, err = s.kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// finalizerPatch is what a strategic merge patch says of an object's metadata to give it the finalizer, or take it away.
func finalizerPatch(on bool) map[string]any {
	field := "$deleteFromPrimitiveList/finalizers"
	if on {
		field = "finalizers"
	}
	return map[string]any{field: []string{batchv1.JobTrackingFinalizer}}
}

func (s server) commit(ctx context.Context, have, want *batchv1.Job) (*batchv1.Job, error) {
	return loop.Commit(ctx, s.kube.BatchV1().Jobs(have.Namespace), have, want)
}

// live reads a job and its pods as they are now, the pods last.
func (s server) live(ctx context.Context, j *batchv1.Job) (*batchv1.Job, *corev1.PodList, error) {
	now, err := s.kube.BatchV1().Jobs(j.Namespace).Get(ctx, j.Name, metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the job: %w", err)
	}
	list, err := s.kube.CoreV1().Pods(j.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(j.Spec.Selector)})
	if err != nil {
		return nil, nil, fmt.Errorf("listing its pods: %w", err)
	}
	return now, list, nil
}
