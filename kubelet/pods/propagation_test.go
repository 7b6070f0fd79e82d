package pods_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// TestMountPropagation: what is mounted in a volume later is seen by containers that want it, and the mounts of one that may show its own are seen
// by the node and by the others; whoever asks for nothing sees neither, and shows nothing
// (https://kubernetes.io/docs/concepts/storage/volumes/#mount-propagation).
func TestMountPropagation(t *testing.T) {
	n := newNode(t)
	base := t.TempDir()
	in := func(path string) string { return filepath.Join(base, path) }
	mount := func(path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(in(path), 0o755), unix.Mount("tmpfs", in(path), "tmpfs", 0, ""), unix.Mount("", in(path), "", unix.MS_SHARED, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(in(path), unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	write := func(path string) {
		t.Helper()
		if err := os.WriteFile(in(path), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mount("")
	mount("nested")
	for _, dir := range []string{"ours", "theirs", "nested/hidden", "sub/late"} {
		if err := os.MkdirAll(in(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	with := func(c corev1.Container, at, sub string, how *corev1.MountPropagationMode) corev1.Container {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "v", MountPath: at, SubPath: sub, MountPropagation: how})
		c.SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
		return c
	}
	until := func(path string) string { return "until test -e " + path + "; do usleep 50000; done; " }
	sees := "ls /v/ours /v/theirs"
	both := tells("both", until("/v/ready")+"mount -t tmpfs x /v/theirs && touch /v/theirs/b && mount -t tmpfs x /none/nested/hidden && touch /none/nested/hidden/x && touch /v/mounted; "+
		until("/v/ours/a")+sees)
	p := newPod("p",
		with(with(both, "/v", "", new(corev1.MountPropagationBidirectional)), "/none", "", nil),
		with(tells("host", until("/v/ours/a")+until("/v/theirs/b")+sees), "/v", "", new(corev1.MountPropagationHostToContainer)),
		with(tells("sub", until("/v/late/a")+"ls /v"), "/v", "sub", new(corev1.MountPropagationHostToContainer)),
		with(tells("none", until("/v/over")+sees), "/v", "", new(corev1.MountPropagationNone)),
		with(tells("unsaid", until("/v/over")+sees), "/v", "", nil),
	)
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: base}}}}
	n.api.create(p)
	n.api.until(p.UID, "running", func(p *corev1.Pod) bool {
		running := 0
		for _, cs := range p.Status.ContainerStatuses {
			if cs.State.Running != nil {
				running++
			}
		}
		return running == len(p.Spec.Containers)
	})
	write("ready")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(in("mounted")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the container has not mounted: %s", n.list())
		}
	}
	if _, err := os.Stat(in("theirs/b")); err != nil {
		t.Errorf("the node does not see what a container may show: %v", err)
	}
	if _, err := os.Stat(in("nested/hidden/x")); err == nil {
		t.Error("the node sees a mount in a volume that is to show none")
	}
	mount("ours")
	write("ours/a")
	mount("sub/late")
	write("sub/late/a")
	ended := func(name string) *corev1.Pod {
		return n.api.until(p.UID, name+" has ended", func(p *corev1.Pod) bool { _, over := said(p, name); return over })
	}
	for _, name := range []string{"both", "host", "sub"} {
		ended(name)
	}
	write("over")
	ended("none")
	now := ended("unsaid")
	all := "/v/ours:\na\n\n/v/theirs:\nb"
	for name, want := range map[string]string{"both": all, "host": all, "sub": "late", "none": "/v/ours:\n\n/v/theirs:", "unsaid": "/v/ours:\n\n/v/theirs:"} {
		if got, _ := said(now, name); got != want {
			t.Errorf("%s sees %q, want %q", name, got, want)
		}
	}
	n.api.delete(p.UID, 1)
	n.api.until(p.UID, "gone", gone)
	for _, file := range []string{"ours/a", "theirs/b", "sub/late/a"} {
		if _, err := os.Stat(in(file)); err != nil {
			t.Errorf("gone with the pod: %v", err)
		}
	}
	if err := unix.Unmount(in("theirs"), 0); err != nil { // the container's own doing
		t.Error(err)
	}
}
