package feed

import (
	"context"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	schedcache "pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/queue"
)

// listener is a plugin that hears of every event, and is helped by none.
type listener chan framework.EventKind

func (listener) PreEnqueue(*nodeinfo.Pod) *framework.Status { return nil }

func (l listener) Helps(_ string, _ *nodeinfo.Pod, e framework.Event) bool {
	l <- e.Kind
	return false
}

// TestGoing is that waiting pods hear of what goes, where that may help them.
func TestGoing(t *testing.T) {
	name := metav1.ObjectMeta{Name: "x"}
	api := fake.NewClientset(&corev1.Node{ObjectMeta: name}, &storagev1.CSINode{ObjectMeta: name}, &storagev1.CSIDriver{ObjectMeta: name},
		&storagev1.VolumeAttachment{ObjectMeta: name})
	heard := make(listener, 100)
	q := queue.New(heard)
	f := New("default-scheduler", informers.NewSharedInformerFactory(api, 0), q, schedcache.New(), zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	if err := f.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	q.Set(nodeinfo.NewPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "p"}}))
	it, err := q.Pop(ctx)
	if err != nil {
		t.Fatal(err)
	}
	q.Park(it, []string{"listener"})
	for _, c := range []struct {
		what   string
		remove func(context.Context, string, metav1.DeleteOptions) error
		want   framework.EventKind
	}{
		{"a node", api.CoreV1().Nodes().Delete, framework.NodeGone},
		{"a node's drivers", api.StorageV1().CSINodes().Delete, framework.DriversChanged},
		{"a driver", api.StorageV1().CSIDrivers().Delete, framework.StorageChanged},
		{"an attachment", api.StorageV1().VolumeAttachments().Delete, framework.DriversChanged},
	} {
		if err := c.remove(ctx, "x", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != c.want {
			t.Errorf("%s went: heard %s", c.what, got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
