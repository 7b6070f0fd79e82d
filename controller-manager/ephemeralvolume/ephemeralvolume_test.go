package ephemeralvolume

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
)

func pod(change ...func(*corev1.Pod)) *corev1.Pod {
	class := "fast"
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u1"}}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "plain", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}},
			Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: &class},
		}}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func TestClaimFor(t *testing.T) {
	p := pod()
	c := claimFor(p, &p.Spec.Volumes[1])
	if c.Name != "p-scratch" || c.Namespace != "ns" || c.Labels["a"] != "b" || c.Annotations["c"] != "d" || *c.Spec.StorageClassName != "fast" {
		t.Errorf("%+v", c)
	}
	o := metav1.GetControllerOf(c)
	if o == nil || o.UID != "u1" || o.Kind != "Pod" || o.APIVersion != "v1" || o.Name != "p" || o.BlockOwnerDeletion == nil || !*o.BlockOwnerDeletion {
		t.Errorf("owner %+v", o)
	}
}

func TestAppeared(t *testing.T) {
	for _, tc := range []struct {
		name string
		e    loop.Event
		want int
	}{
		{"new", loop.Event{New: pod()}, 1},
		{"changed", loop.Event{Old: pod(), New: pod()}, 0},
		{"gone", loop.Event{Old: pod()}, 0},
		{"going", loop.Event{New: pod(func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} })}, 0},
		{"without such volumes", loop.Event{New: pod(func(p *corev1.Pod) { p.Spec.Volumes = p.Spec.Volumes[:1] })}, 0},
	} {
		if got := appeared(tc.e); len(got) != tc.want {
			t.Errorf("%s: wakes %v", tc.name, got)
		}
	}
}
