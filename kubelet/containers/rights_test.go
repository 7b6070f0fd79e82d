package containers_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
)

// TestRecursiveReadOnly: what is mounted below a read-only mount can be written, unless it is recursively read-only.
func TestRecursiveReadOnly(t *testing.T) {
	n := newNode(t)
	if !n.rt.FeaturesOf("").RecursiveReadOnly {
		t.Skip("this kernel or OCI runtime knows no recursively read-only mounts")
	}
	s := n.sandbox(containers.SandboxSpec{})
	top := t.TempDir()
	below := filepath.Join(top, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("below", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(below, unix.MNT_DETACH)
	for name, tc := range map[string]struct {
		mount containers.Mount
		want  string
	}{
		"writable":  {containers.Mount{}, "0\n0\n"},
		"read-only": {containers.Mount{ReadOnly: true}, "1\n0\n"},
		"recursive": {containers.Mount{ReadOnly: true, RecursiveReadOnly: true}, "1\n1\n"},
	} {
		tc.mount.Source, tc.mount.Target = top, "/data"
		n.exited(n.start(s, containers.ContainerSpec{Name: name, Mounts: []containers.Mount{tc.mount},
			Args: []string{"sh", "-c", "touch /data/x 2>/dev/null; echo $?; touch /data/below/x 2>/dev/null; echo $?"}}))
		if got := n.log(name); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestWhoRan: the record says who the process is, and what stops it.
func TestWhoRan(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{})
	for name, tc := range map[string]struct {
		spec containers.ContainerSpec
		user containers.Identity
		stop string
		says string
	}{
		"root":   {containers.ContainerSpec{}, containers.Identity{Groups: []uint32{0}}, "SIGUSR1", "0\n"}, // the image's own stop signal
		"merge":  {containers.ContainerSpec{Security: containers.Security{RunAsUser: new(int64(1000)), SupplementalGroups: []int64{7}}, StopSignal: "SIGINT"}, containers.Identity{UID: 1000, GID: 1000, Groups: []uint32{1000, 2000, 7}}, "SIGINT", "1000 7 2000\n"},
		"strict": {containers.ContainerSpec{Security: containers.Security{RunAsUser: new(int64(1000)), SupplementalGroups: []int64{7}, StrictGroups: true}}, containers.Identity{UID: 1000, GID: 1000, Groups: []uint32{1000, 7}}, "SIGUSR1", "1000 7\n"},
	} {
		tc.spec.Name, tc.spec.Args = name, []string{"id", "-G"}
		c := n.exited(n.start(s, tc.spec))
		if c.User == nil || !reflect.DeepEqual(*c.User, tc.user) || c.StopSignal != tc.stop || n.log(name) != tc.says {
			t.Errorf("%s: %+v, %s, says %q", name, c.User, c.StopSignal, n.log(name))
		}
	}
}

// TestChildOutOfMemory: the kernel took a child; the container ended by its own will, so it was not killed itself.
func TestChildOutOfMemory(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{})
	c := n.exited(n.start(s, containers.ContainerSpec{Resources: cgroups.Limits(0, 0, 16<<20),
		Args: []string{"sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?; exit 3"}}))
	if c.ExitCode != 3 || c.Reason != containers.ReasonError {
		t.Errorf("got %+v", c)
	}
	if got := n.log("main"); got != "Killed\n137\n" && got != "137\n" {
		t.Errorf("it said %q", got)
	}
}

// TestBlockDevice: a volume is named by a link to its device; the container gets the device with the rights it is to have.
func TestBlockDevice(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{})
	link := filepath.Join(t.TempDir(), "volume")
	if err := os.Symlink("/dev/kmsg", link); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ rights, want string }{"written": {"mrw", "0\n"}, "read": {"r", "1\n"}} {
		n.exited(n.start(s, containers.ContainerSpec{Name: name, Args: []string{"sh", "-c", "true 2>/dev/null >/dev/data; echo $?"},
			Devices: []containers.Device{{Source: link, Target: "/dev/data", Permissions: tc.rights}}}))
		if got := n.log(name); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	_, err := n.rt.CreateContainer(context.Background(), containers.ContainerSpec{SandboxID: s.ID, Image: "example.test/busybox:1",
		Devices: []containers.Device{{Source: link + ".none", Target: "/dev/data"}}})
	if err == nil {
		t.Error("a device that is not there was given")
	}
}
