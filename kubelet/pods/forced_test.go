package pods

import (
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A pod that was deleted by force and still ends does not have its successor refused; one that others know of does.
func TestWhoWasDeletedByForceRefusesNobody(t *testing.T) {
	one := func(uid types.UID) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0", UID: uid},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}}}},
		}
	}
	ws := New(Config{}, *(&stage{}).parts(), zap.NewNop())
	old := newWorker(one("old"), &ws.cfg, &ws.parts, zap.NewNop())
	ws.pods["old"] = old
	n := &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")}}}
	if no := ws.letsIn(one("new"), n); no == nil || no.reason != "NodePorts" {
		t.Errorf("beside a pod with that port: %+v", no)
	}
	old.wish(old.newest(), true)
	if no := ws.letsIn(one("new"), n); no != nil {
		t.Errorf("beside a pod that was deleted by force: %+v", no)
	}
}
