package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/pkg/logging"
)

// shared is a folder of a file system whose mounts are told to all who have it, as systemd has it of the whole node.
func shared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(unix.Mount("tmpfs", dir, "tmpfs", 0, ""), unix.Mount("", dir, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// disk mounts a file system with a file in it.
func disk(t *testing.T, at string) (file string) {
	t.Helper()
	file = filepath.Join(at, "precious")
	if err := errors.Join(os.MkdirAll(at, 0o755), unix.Mount("tmpfs", at, "tmpfs", 0, ""), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

func there(t *testing.T, file string) {
	t.Helper()
	if _, err := os.Stat(file); err != nil {
		t.Errorf("it was taken from the node: %v", err)
	}
}

// TestMountsOfTheNodeStay: what is mounted in a folder of the node comes along when that is bound for a pod; when the pod ends, the node keeps it.
func TestMountsOfTheNodeStay(t *testing.T) {
	base := shared(t)
	inSub, inClaim := disk(t, filepath.Join(base, "host/sub/disk")), disk(t, filepath.Join(base, "local/disk"))
	s := newStorage()
	_, pv := s.bound("data", filepath.Join(base, "local"))
	pv.Spec.MountOptions = []string{"noexec"}
	m := New(filepath.Join(base, "kubelet"), Parts{Tokens: &tokens{}, Storage: s}, logging.ForTest(t))
	p := podWith(claimVolume("data"), volume("host", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: filepath.Join(base, "host")}}))
	vols, err := m.Setup(t.Context(), p, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the container starts again
		sub, err := vols["host"].Sub("sub", "c", 0)
		if err != nil {
			t.Fatal(err)
		}
		there(t, filepath.Join(sub, "disk/precious"))
		there(t, inSub)
	}
	there(t, filepath.Join(vols["v"].Path, "disk/precious"))
	if err := m.Teardown(t.Context(), p.UID); err != nil {
		t.Fatal(err)
	}
	there(t, inSub)
	there(t, inClaim)
	if n := mountedBelow(t, m.root); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
}

// TestHiddenMount: a container that may show its mounts to the node has mounted something over another mount of its own.
func TestHiddenMount(t *testing.T) {
	m := manager(t, objects{})
	host := t.TempDir()
	file := filepath.Join(host, "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := podWith(volume("v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}))
	vols, err := m.Setup(t.Context(), p, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	dir := vols["v"].Path
	if err := errors.Join(os.Mkdir(dir+"/x", 0o755), unix.Mount(host, dir+"/x", "", unix.MS_BIND, ""), unix.Mount("tmpfs", dir, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	if err := m.Teardown(t.Context(), p.UID); err != nil {
		t.Error(err)
	}
	there(t, file)
	if n := mountedBelow(t, m.root); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
}

// TestRootIsALink: the kubelet's folder may be a link, which mounts don't know of.
func TestRootIsALink(t *testing.T) {
	real, host := t.TempDir(), t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	file := filepath.Join(host, "sub/precious")
	if err := errors.Join(os.Symlink(real, link), os.Mkdir(filepath.Join(host, "sub"), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmountBelow(real); err != nil {
			t.Error(err)
		}
	})
	m := New(link, Parts{Tokens: &tokens{}}, logging.ForTest(t))
	p := podWith(volume("host", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}))
	vols, err := m.Setup(t.Context(), p, resolve.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := vols["host"].Sub("sub", "c", 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := mountedBelow(t, real); n != 1 {
		t.Errorf("%d mounts, want 1", n)
	}
	if err := m.Teardown(t.Context(), p.UID); err != nil {
		t.Error(err)
	}
	there(t, file)
	if n := mountedBelow(t, real); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
}

// TestRemoveKeepsMounts: what somebody mounts after all was unmounted is an error, and keeps what it holds.
func TestRemoveKeepsMounts(t *testing.T) {
	dir := t.TempDir()
	file := disk(t, filepath.Join(dir, "pod/volumes/late"))
	if err := Remove(t.Context(), filepath.Join(dir, "pod")); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v", err)
	}
	there(t, file)
	if err := errors.Join(unmountBelow(dir), Remove(t.Context(), filepath.Join(dir, "pod")), Remove(t.Context(), filepath.Join(dir, "none/pod"))); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "pod")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
