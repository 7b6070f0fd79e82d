package replicaset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/controller-manager/loop"
)

// family is one of the two kinds that keep a number of pods. Both are read in the shape of a ReplicaSet; an object that is in
// truth a ReplicationController says so in its TypeMeta, by which events find it.
type family struct {
	kind     schema.GroupVersionKind
	resource string
	get      func(namespace, name string) (*appsv1.ReplicaSet, error)
	list     func(namespace string) ([]*appsv1.ReplicaSet, error)
	live     func(ctx context.Context, namespace, name string) (metav1.Object, error)
	// commit writes the difference between two states of an object.
	commit func(ctx context.Context, have, want *appsv1.ReplicaSet) error
}

func replicaSets(t loop.Tools) family {
	sets, client := t.Informers.Apps().V1().ReplicaSets().Lister(), t.Clients.Kube.AppsV1()
	return family{
		kind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), resource: "replicasets.apps",
		get: func(namespace, name string) (*appsv1.ReplicaSet, error) { return sets.ReplicaSets(namespace).Get(name) },
		list: func(namespace string) ([]*appsv1.ReplicaSet, error) {
			return sets.ReplicaSets(namespace).List(labels.Everything())
		},
		live: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return client.ReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		commit: func(ctx context.Context, have, want *appsv1.ReplicaSet) error {
			_, err := loop.Commit(ctx, client.ReplicaSets(have.Namespace), have, want)
			return err
		},
	}
}

func replicationControllers(t loop.Tools) family {
	lister, client := t.Informers.Core().V1().ReplicationControllers().Lister(), t.Clients.Kube.CoreV1()
	return family{
		kind: corev1.SchemeGroupVersion.WithKind("ReplicationController"), resource: "replicationcontrollers",
		get: func(namespace, name string) (*appsv1.ReplicaSet, error) {
			rc, err := lister.ReplicationControllers(namespace).Get(name)
			if err != nil {
				return nil, err
			}
			return asReplicaSet(rc), nil
		},
		list: func(namespace string) ([]*appsv1.ReplicaSet, error) {
			all, err := lister.ReplicationControllers(namespace).List(labels.Everything())
			if err != nil {
				return nil, err
			}
			sets := make([]*appsv1.ReplicaSet, 0, len(all))
			for _, rc := range all {
				sets = append(sets, asReplicaSet(rc))
			}
			return sets, nil
		},
		live: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return client.ReplicationControllers(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		commit: func(ctx context.Context, have, want *appsv1.ReplicaSet) error {
			_, err := loop.Commit(ctx, client.ReplicationControllers(have.Namespace), asController(have), asController(want))
			return err
		},
	}
}

// asReplicaSet is a ReplicationController in the other shape. What it points to is shared, and must not be changed.
func asReplicaSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ReplicationController"},
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector},
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas, ReadyReplicas: rc.Status.ReadyReplicas,
			AvailableReplicas: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	for _, c := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rs
}

// asController takes asReplicaSet back. How many pods are going is not said of a ReplicationController.
func asController(rs *appsv1.ReplicaSet) *corev1.ReplicationController {
	rc := &corev1.ReplicationController{
		ObjectMeta: rs.ObjectMeta,
		Spec: corev1.ReplicationControllerSpec{
			Replicas: rs.Spec.Replicas, MinReadySeconds: rs.Spec.MinReadySeconds, Selector: rs.Spec.Selector.MatchLabels, Template: &rs.Spec.Template,
		},
		Status: corev1.ReplicationControllerStatus{
			Replicas: rs.Status.Replicas, FullyLabeledReplicas: rs.Status.FullyLabeledReplicas, ReadyReplicas: rs.Status.ReadyReplicas,
			AvailableReplicas: rs.Status.AvailableReplicas, ObservedGeneration: rs.Status.ObservedGeneration,
		},
	}
	for _, c := range rs.Status.Conditions {
		rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rc
}
