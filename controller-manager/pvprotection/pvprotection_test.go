package pvprotection

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

func podWith(node string, phase corev1.PodPhase, volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p"},
		Spec:       corev1.PodSpec{NodeName: node, Volumes: volumes}, Status: corev1.PodStatus{Phase: phase},
	}
}

var (
	named = corev1.Volume{Name: "a", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}
	own   = corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}
	other = corev1.Volume{Name: "b", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
)

func TestUses(t *testing.T) {
	claim := func(name string, owners ...string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		yes := true
		for _, o := range owners {
			c.OwnerReferences = append(c.OwnerReferences, metav1.OwnerReference{Kind: "Pod", Name: o, UID: types.UID(o), Controller: &yes})
		}
		return c
	}
	for _, c := range []struct {
		what  string
		pod   *corev1.Pod
		claim *corev1.PersistentVolumeClaim
		want  bool
	}{
		{"on a node", podWith("n", corev1.PodRunning, other, named), claim("data"), true},
		{"made for it", podWith("n", corev1.PodPending, own), claim("p-scratch", "p"), true},
		{"made for another, by that name", podWith("n", corev1.PodPending, own), claim("p-scratch", "q"), false},
		{"made by hand, by that name", podWith("n", corev1.PodPending, own), claim("p-scratch"), false},
		{"another's", podWith("n", corev1.PodRunning, named), claim("logs"), false},
		{"not on a node", podWith("", corev1.PodPending, named), claim("data"), false},
		{"succeeded", podWith("n", corev1.PodSucceeded, named), claim("data"), false},
		{"failed", podWith("n", corev1.PodFailed, named), claim("data"), false},
	} {
		if got := uses(c.pod, c.claim); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestReleased(t *testing.T) {
	running, over := podWith("n", corev1.PodRunning, named, own), podWith("n", corev1.PodSucceeded, named, own)
	keys := []loop.Key{{Namespace: "ns", Name: "data"}, {Namespace: "ns", Name: "p-scratch"}}
	for _, c := range []struct {
		what string
		e    loop.Event
		want []loop.Key
	}{
		{"it runs on", loop.Event{Old: running, New: running}, nil},
		{"it is over", loop.Event{Old: running, New: over}, keys},
		{"it is gone", loop.Event{Old: running}, keys},
	} {
		if got := released(c.e); !slices.Equal(got, c.want) {
			t.Errorf("%s: wakes %v", c.what, got)
		}
	}
}

func TestProtected(t *testing.T) {
	for _, c := range []struct {
		have    []string
		protect bool
		want    []string
	}{
		{nil, true, []string{claimFinalizer}},
		{[]string{"x"}, true, []string{"x", claimFinalizer}},
		{[]string{claimFinalizer}, true, []string{claimFinalizer}},
		{[]string{claimFinalizer, "x"}, false, []string{"x"}},
		{[]string{"x"}, false, []string{"x"}},
	} {
		if got := protected(c.have, claimFinalizer, c.protect); !slices.Equal(got, c.want) {
			t.Errorf("%v, %v: %v", c.have, c.protect, got)
		}
	}
}
