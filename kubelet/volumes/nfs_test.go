package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/resolve"
)

// helper puts a mount.nfs onto the path that notes what it is asked, and binds what is served below served, or fails as a server does that
// is not there. (The kernels of test machines have no NFS.)
func helper(t *testing.T) (served, notes string) {
	served, notes = t.TempDir(), filepath.Join(t.TempDir(), "notes")
	bin := t.TempDir()
	script := "#!/bin/sh\necho \"$@\" >> " + notes + "\ncase $1 in away:*) echo 'mount.nfs: Connection timed out' >&2; exit 32;; esac\nexec mount --bind " + served + " \"$2\"\n"
	if err := os.WriteFile(filepath.Join(bin, nfsHelper), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return served, notes
}

// TestNFS: a server's folder, in a pod's own words and by a claim; mounted once, unmounted with the pod, and nothing on the server is removed.
func TestNFS(t *testing.T) {
	served, notes := helper(t)
	if err := os.WriteFile(filepath.Join(served, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStorage()
	_, v := s.bound("data", "")
	v.Spec.Local, v.Spec.NFS, v.Spec.MountOptions = nil, &corev1.NFSVolumeSource{Server: "fd00::1", Path: "/b"}, []string{"nfsvers=4.2", "hard"}
	m := withStorage(t, s)
	real, link := m.root, filepath.Join(t.TempDir(), "link") // the kubelet's folder may be a link
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	m.root = link
	t.Cleanup(func() { m.root = real })
	claimed := claimVolume("data")
	claimed.PersistentVolumeClaim.ReadOnly = true
	pod := podWith(volume("n", corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "files.example.com", Path: "/a"}}), claimed)
	var vols map[string]Volume
	for range 2 {
		var err error
		if vols, err = m.Setup(t.Context(), pod, resolve.Facts{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, vol := range vols {
		if got := content(t, filepath.Join(vol.Path, "file")); got != "x" {
			t.Errorf("%s holds %q", name, got)
		}
	}
	if !vols["v"].ReadOnly || vols["n"].ReadOnly {
		t.Errorf("read only: %+v", vols)
	}
	got := strings.Split(strings.TrimSpace(content(t, notes)), "\n")
	want := map[string]bool{"files.example.com:/a " + vols["n"].Path: true, "[fd00::1]:/b " + vols["v"].Path + " -o ro,nfsvers=4.2,hard": true}
	if len(got) != 2 || !want[got[0]] || !want[got[1]] {
		t.Errorf("asked %q, want %v", got, want)
	}
	if err := m.Teardown(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if got := content(t, filepath.Join(served, "file")); got != "x" {
		t.Errorf("the server has %q", got)
	}
}

// TestNFSRefused: what users are told.
func TestNFSRefused(t *testing.T) {
	src := corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "away", Path: "/a", ReadOnly: true}}
	t.Run("no helper", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := os.Stat("/sbin/" + nfsHelper); err == nil {
			t.Skip("this machine has one")
		}
		_, err := withStorage(t, newStorage()).Setup(t.Context(), podWith(volume("n", src)), resolve.Facts{})
		if err == nil || !strings.Contains(err.Error(), `MountVolume.SetUp failed for volume "n" : this node has no mount.nfs, by which NFS is mounted: it comes with the package nfs-common`) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no server", func(t *testing.T) {
		helper(t)
		m := withStorage(t, newStorage())
		pod := podWith(volume("n", src))
		_, err := m.Setup(t.Context(), pod, resolve.Facts{})
		if err == nil || !strings.Contains(err.Error(), "mount failed: exit status 32\nMounting command: mount.nfs\nMounting arguments: away:/a ") ||
			!strings.HasSuffix(err.Error(), " -o ro\nOutput: mount.nfs: Connection timed out") {
			t.Errorf("got %v", err)
		}
		if err := m.Teardown(t.Context(), pod.UID); err != nil {
			t.Error(err)
		}
	})
}

// TestLocalDevice: a file is given to two pods by one loop device, which goes with the last; a device is given as it is.
func TestLocalDevice(t *testing.T) {
	s := newStorage()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		_, v := s.bound(name, file)
		v.Spec.VolumeMode = new(corev1.PersistentVolumeBlock)
	}
	m := withStorage(t, s)
	a, b := podWith(claimVolume("one")), podWith(claimVolume("two"))
	b.UID = "b"
	var devices []string
	for _, p := range []*corev1.Pod{a, a, b} {
		vols, err := m.Setup(t.Context(), p, resolve.Facts{})
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENXIO) {
			t.Skipf("this machine gives no loop devices: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, vols["v"].Device)
	}
	if devices[0] == "" || devices[0] != devices[1] || devices[0] != devices[2] {
		t.Errorf("devices %q", devices)
	}
	have := func() string {
		d, err := loopOf(file)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if err := m.Teardown(t.Context(), a.UID); err != nil {
		t.Fatal(err)
	}
	if have() != devices[0] {
		t.Error("freed while another has it")
	}
	_, v := s.bound("three", devices[0])
	v.Spec.VolumeMode = new(corev1.PersistentVolumeBlock)
	c := podWith(claimVolume("three"))
	c.UID = "c"
	vols, err := m.Setup(t.Context(), c, resolve.Facts{})
	if err != nil || vols["v"].Device != devices[0] {
		t.Errorf("a device: %+v, %v", vols, err)
	}
	for _, p := range []*corev1.Pod{c, b} {
		if err := m.Teardown(t.Context(), p.UID); err != nil {
			t.Fatal(err)
		}
	}
	if got := have(); got != "" {
		t.Errorf("%s is left", got)
	}
}
