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

// going is a pod that is being deleted, with so many seconds left.
func going(p *corev1.Pod, seconds int64) *corev1.Pod {
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{}, &seconds
	return p
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
		{"succeeded, and still there", podWith("n", corev1.PodSucceeded, named), claim("data"), true},
		{"failed, and still there", podWith("n", corev1.PodFailed, named), claim("data"), true},
		{"ending", going(podWith("n", corev1.PodRunning, named), 30), claim("data"), true},
		{"shut down, and held by somebody's finalizer", going(podWith("n", corev1.PodSucceeded, named), 0), claim("data"), true},
		{"made for it, which has succeeded", podWith("n", corev1.PodSucceeded, own), claim("p-scratch", "p"), true},
		{"made for it, which is ending", going(podWith("n", corev1.PodRunning, own), 30), claim("p-scratch", "p"), true},
		{"made for it, which is shut down and waits for it to go", going(podWith("n", corev1.PodFailed, own), 0), claim("p-scratch", "p"), false},
	} {
		if got := uses(c.pod, c.claim); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestReleased(t *testing.T) {
	running, over := podWith("n", corev1.PodRunning, named, own), podWith("n", corev1.PodSucceeded, named, own)
	down := going(podWith("n", corev1.PodSucceeded, named, own), 0)
	keys := []loop.Key{{Namespace: "ns", Name: "data"}, {Namespace: "ns", Name: "p-scratch"}}
	for _, c := range []struct {
		what string
		e    loop.Event
		want []loop.Key
	}{
		{"it runs on", loop.Event{Old: running, New: running}, nil},
		{"it is over, and keeps what it has", loop.Event{Old: running, New: over}, nil},
		{"it is shut down", loop.Event{Old: over, New: down}, keys},
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
