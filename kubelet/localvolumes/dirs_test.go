package localvolumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/localvolume"
)

// local is a volume as the provisioner makes it.
func local(dir, name string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": localvolume.Provisioner}, Finalizers: []string{localvolume.Finalizer},
			Labels: map[string]string{localvolume.NodeLabel: "n1"},
		},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: localvolume.Path(dir, name)}},
		},
	}
}

func write(t *testing.T, file string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestMake(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "volumes")
	d := NewDirs(dir)
	v := local(dir, "pvc-1")
	if made, err := d.Make(v); !made || err != nil {
		t.Fatal(made, err)
	}
	if st, err := os.Stat(dir + "/pvc-1"); err != nil || st.Mode().Perm() != 0o777 {
		t.Errorf("%v %v", st, err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder of folders: %v %v", st, err)
	}
	if err := os.Chmod(dir+"/pvc-1", 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/pvc-1/kept")
	if made, err := d.Make(v); made || err != nil {
		t.Fatal(made, err)
	}
	if st, err := os.Stat(dir + "/pvc-1"); err != nil || st.Mode().Perm() != 0o750 || !exists(t, dir+"/pvc-1/kept") {
		t.Errorf("a second look changed it: %v %v", st, err)
	}
	if err := os.Symlink("/etc", dir+"/pvc-2"); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/pvc-3")
	for _, name := range []string{"pvc-2", "pvc-3"} {
		if _, err := d.Make(local(dir, name)); err == nil || !strings.Contains(err.Error(), "is no folder") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestElsewhere: what a volume says of its folder decides nothing: only DIR/NAME is touched.
func TestElsewhere(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	write(t, other+"/pvc-1/precious")
	d := NewDirs(dir)
	for what, change := range map[string]func(*corev1.PersistentVolume){
		"another folder":   func(v *corev1.PersistentVolume) { v.Spec.Local.Path = other + "/pvc-1" },
		"the folder above": func(v *corev1.PersistentVolume) { v.Spec.Local.Path = dir },
		"a way out": func(v *corev1.PersistentVolume) {
			v.Spec.Local.Path = dir + "/pvc-1/../../" + filepath.Base(other) + "/pvc-1"
		},
		"another volume's":   func(v *corev1.PersistentVolume) { v.Spec.Local.Path = dir + "/pvc-2" },
		"of another's maker": func(v *corev1.PersistentVolume) { v.Annotations = nil },
		"of another kind": func(v *corev1.PersistentVolume) {
			v.Spec.Local, v.Spec.HostPath = nil, &corev1.HostPathVolumeSource{Path: other + "/pvc-1"}
		},
	} {
		v := local(dir, "pvc-1")
		change(v)
		if _, err := d.Make(v); !errors.Is(err, ErrElsewhere) {
			t.Errorf("%s: made: %v", what, err)
		}
		if err := d.Remove(t.Context(), v); !errors.Is(err, ErrElsewhere) {
			t.Errorf("%s: removed: %v", what, err)
		}
	}
	// A name never leads out, whoever let it into the API.
	v := local(dir, "..")
	if err := d.Remove(t.Context(), v); err == nil {
		t.Error("removed the folder above")
	}
	if !exists(t, other+"/pvc-1/precious") || !exists(t, dir) {
		t.Error("something is gone")
	}
}

// TestRemove removes what pods leave, however hard they make it, and nothing that links lead to.
func TestRemove(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside+"/precious")
	write(t, dir+"/pvc-2/neighbour")
	d := NewDirs(dir)
	in := dir + "/pvc-1"
	write(t, in+"/a/b/file")
	for name, to := range map[string]string{"out": outside, "file": outside + "/precious", "side": "../pvc-2", "up": "..", "self": ".", "gone": "/nowhere", "a/b/deep-out": outside} {
		if err := os.Symlink(to, filepath.Join(in, name)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 * many / 2 { // more than is read at once
		write(t, fmt.Sprintf("%s/many/%d", in, i))
	}
	if err := errors.Join(unix.Mkfifo(in+"/fifo", 0o600), unix.Mknod(in+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(in+"/closed", 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), local(dir, "pvc-1")); err != nil {
		t.Fatal(err)
	}
	if exists(t, in) || !exists(t, outside+"/precious") || !exists(t, dir+"/pvc-2/neighbour") {
		t.Error("it is there, or something else is gone")
	}
	if err := d.Remove(t.Context(), local(dir, "pvc-1")); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
	if err := NewDirs(dir+"/none").Remove(t.Context(), local(dir+"/none", "pvc-1")); err != nil {
		t.Errorf("removing where nothing was made: %v", err)
	}
	if err := os.Symlink(outside, in); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), local(dir, "pvc-1")); err != nil || exists(t, in) || !exists(t, outside+"/precious") {
		t.Errorf("a link in the folder's place: %v", err)
	}
}

// TestRemoveDeep removes folders nested far deeper than a path may be long.
func TestRemoveDeep(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Mkdir("pvc-1", 0o755); err != nil {
		t.Fatal(err)
	}
	name := "pvc-1"
	for range 2000 { // each step is within the one before, as a program in a container would do it
		next, err := root.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(next.Mkdir("folder", 0o755), next.Mkdir(".removing-1", 0o755), root.Close()); err != nil {
			t.Fatal(err)
		}
		root, name = next, "folder"
	}
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d := NewDirs(dir)
	if err := d.Remove(ended, local(dir, "pvc-1")); !errors.Is(err, context.Canceled) {
		t.Errorf("a kubelet that ends goes on: %v", err)
	}
	if err := d.Remove(t.Context(), local(dir, "pvc-1")); err != nil || exists(t, dir+"/pvc-1") {
		t.Errorf("it is there: %v", err)
	}
}

// TestRemoveMounted: what is mounted within the folder is another's, even when it is a folder of the same disk.
func TestRemoveMounted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts, so it needs root")
	}
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside+"/precious")
	d := NewDirs(dir)
	for _, at := range []string{"/pvc-1", "/pvc-2/in/side"} {
		if err := os.MkdirAll(dir+at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(outside, dir+at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		unmount := func() {
			if err := unix.Unmount(dir+at, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				t.Error(err)
			}
		}
		t.Cleanup(unmount)
		v := local(dir, strings.Split(at, "/")[1])
		if err := d.Remove(t.Context(), v); !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s: %v", at, err)
		}
		if !exists(t, outside+"/precious") {
			t.Fatal("it was removed through the mount")
		}
		unmount()
		if err := d.Remove(t.Context(), v); err != nil || exists(t, dir+"/"+v.Name) {
			t.Errorf("%s, unmounted: %v", at, err)
		}
	}
}
