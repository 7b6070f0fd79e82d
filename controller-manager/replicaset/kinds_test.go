package replicaset

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/reference"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/api"
)

func TestReplicationControllerInTheOtherShape(t *testing.T) {
	rc := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "rc", ResourceVersion: "7", Generation: 3, Labels: map[string]string{"a": "b"}},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: ptr.To[int32](3), MinReadySeconds: 5, Selector: map[string]string{"app": "web"},
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}},
		},
		Status: corev1.ReplicationControllerStatus{
			Replicas: 5, FullyLabeledReplicas: 4, ReadyReplicas: 3, AvailableReplicas: 2, ObservedGeneration: 1,
			Conditions: []corev1.ReplicationControllerCondition{{Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue,
				LastTransitionTime: metav1.NewTime(time.Unix(9, 0)), Reason: "FailedCreate", Message: "quota"}},
		},
	}
	rs := asReplicaSet(rc)
	if back := asController(rs); !equality.Semantic.DeepEqual(back, rc) {
		t.Errorf("came back as %+v, was %+v", back, rc)
	}
	ref, err := reference.GetReference(api.Scheme, rs)
	if err != nil || ref.Kind != "ReplicationController" || ref.APIVersion != "v1" || ref.UID != "rc" {
		t.Errorf("events are of %+v (%v)", ref, err)
	}
}
