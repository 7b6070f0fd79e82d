package containers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pilothouse.dev/kubelet/containers"
)

// ownUsers makes a sandbox with users of its own; the test is left out where the kernel or the OCI runtime cannot.
func (n *node) ownUsers(spec containers.SandboxSpec) containers.Sandbox {
	n.t.Helper()
	if !n.rt.FeaturesOf("").UserNamespaces {
		n.t.Skip("this kernel or OCI runtime knows no mounts with mapped owners")
	}
	spec.OwnUsers = true
	return n.sandbox(spec)
}

// TestOwnUsers: root in the pod is nobody on the node, and what it makes in layers and volumes belongs to the node's root all the same.
func TestOwnUsers(t *testing.T) {
	n := newNode(t)
	shims := processesNamed(t, "containerd-shim")
	s := n.ownUsers(containers.SandboxSpec{Hostname: "web", Sysctls: map[string]string{"kernel.shm_rmid_forced": "1", "net.ipv4.tcp_syncookies": "0"}})
	if s.FirstID != 65536 || !s.Ready {
		t.Fatalf("sandbox %+v", s)
	}
	data := t.TempDir()
	for name, owner := range map[string]int{"of-root": 0, "of-app": 1000} {
		if err := errors.Join(os.WriteFile(filepath.Join(data, name), []byte(name), 0o600), os.Chown(filepath.Join(data, name), owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(data, 0o777); err != nil {
		t.Fatal(err)
	}
	mounts := []containers.Mount{{Source: data, Target: "/data"}, {Source: filepath.Join(data, "of-root"), Target: "/etc/hosts", ReadOnly: true}}
	id := n.start(s, containers.ContainerSpec{Args: []string{"sleep", "1000"}, Mounts: mounts})
	for _, step := range []struct{ script, want string }{ // in this order: some need what those before them did
		{"awk '{print $1, $2, $3}' /proc/self/uid_map /proc/self/gid_map", "0 65536 65536\n0 65536 65536\n"},
		{"cat /data/of-root /etc/hosts", "of-rootof-root"},
		{"echo x >/data/new; echo $?", "0\n"},
		{"ls -ln /data | awk 'NR>1 {print $9, $3, $4}'", "new 0 0\nof-app 1000 1000\nof-root 0 0\n"},
		{"touch /new && ls -ln /new | awk '{print $3, $4}'", "0 0\n"},
		{"ls -ln /bin/busybox | awk '{print $3, $4}'", "0 0\n"},
		{"cat /proc/sys/kernel/shm_rmid_forced", "1\n"},
		{"cat /proc/sys/net/ipv4/tcp_syncookies", "0\n"},
		{"hostname", "web\n"},
		{"ip link show lo | grep -c UP", "1\n"},
		{"touch /dev/shm/x && ls -lnd /dev/shm | awk '{print $3, $4}'", "0 0\n"},
	} {
		if got, _ := n.exec(id, "sh", "-c", step.script); got != step.want {
			t.Errorf("%s: %q, want %q", step.script, got, step.want)
		}
	}
	// On the node the process is nobody's, and the new file is root's.
	var st unix.Stat_t
	c, err := n.rt.Inspect(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d", c.PID), &st); err != nil || st.Uid != 65536 {
		t.Errorf("on the node it runs as %d, %v", st.Uid, err)
	}
	if err := unix.Stat(filepath.Join(data, "new"), &st); err != nil || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("on the node the new file is of %d:%d, %v", st.Uid, st.Gid, err)
	}
	if left := mountsUnder(t, filepath.Join(n.daemon.Dir, "mapped")); len(left) != 0 {
		t.Errorf("mounts with mapped owners are left: %v", left)
	}

	n.close()
	n.open()
	other := n.ownUsers(containers.SandboxSpec{PodUID: "other"})
	if got := n.box(s.ID); !got.Ready || got.FirstID != 65536 || other.FirstID != 2*65536 {
		t.Errorf("after a restart: %+v and %+v", got, other)
	}
	app := n.start(s, containers.ContainerSpec{Name: "app", Mounts: mounts, Security: containers.Security{RunAsUser: new(int64(1000))},
		Args: []string{"sh", "-c", "id -u; cat /data/of-app; cat /data/of-root 2>/dev/null || echo no; echo said >/dev/stdout"}})
	n.exited(app)
	if got := n.log("app"); got != "1000\nof-appno\nsaid\n" {
		t.Errorf("a user other than root: %q", got)
	}
	for _, box := range []containers.Sandbox{s, other} {
		if err := n.rt.RemoveSandbox(context.Background(), box.ID); err != nil {
			t.Fatal(err)
		}
	}
	if again := n.ownUsers(containers.SandboxSpec{}); again.FirstID != 65536 {
		t.Errorf("a range that was given back is not taken again: %d", again.FirstID)
	}
	n.removeAll()
	n.noGroup(s)
	n.nothingRemains(shims)
}

// TestOwnUsersRefused: what cannot be mapped is refused, not mounted with the wrong owners, and nothing is left of it.
func TestOwnUsersRefused(t *testing.T) {
	n := newNode(t)
	s := n.ownUsers(containers.SandboxSpec{})
	_, err := n.rt.CreateContainer(context.Background(), containers.ContainerSpec{SandboxID: s.ID, Image: "example.test/busybox:1",
		Mounts: []containers.Mount{{Source: t.TempDir(), Target: "/a"}, {Source: "/proc/sys", Target: "/b"}}})
	if !errors.Is(err, containers.ErrUnsupported) || !strings.Contains(err.Error(), "/b") {
		t.Errorf("mounting what cannot be mapped: %v", err)
	}
	if left := mountsUnder(t, filepath.Join(n.daemon.Dir, "mapped")); len(left) != 0 || len(n.list().Containers) != 0 {
		t.Errorf("left are %v and %+v", left, n.list().Containers)
	}
	if _, err := n.rt.CreateSandbox(context.Background(), containers.SandboxSpec{PodUID: "x", OwnUsers: true, HostIPC: true}); !errors.Is(err, containers.ErrUnsupported) {
		t.Errorf("with a namespace of the node: %v", err)
	}
}

// TestOwnUsersLocked: what is mounted with fewer rights, as tokens and secrets are, can be mounted read-only by a pod that may not give them back.
func TestOwnUsersLocked(t *testing.T) {
	n := newNode(t)
	s := n.ownUsers(containers.SandboxSpec{})
	for name, flags := range map[string]uintptr{"secret": unix.MS_NOSUID | unix.MS_NODEV, "all": unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME} {
		dir := t.TempDir()
		if err := errors.Join(unix.Mount("t", dir, "tmpfs", flags, ""), os.WriteFile(filepath.Join(dir, "f"), []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		n.exited(n.start(s, containers.ContainerSpec{Name: name, Args: []string{"sh", "-c", "cat /data/f; touch /data/g 2>/dev/null || echo no; touch /rw/g && echo yes"},
			Mounts: []containers.Mount{{Source: dir, Target: "/data", ReadOnly: true}, {Source: dir, Target: "/rw"}}}))
		if got := n.log(name); got != name+"no\nyes\n" {
			t.Errorf("%s: the container said %q", name, got)
		}
	}
}

// TestOwnUsersOfSharedMount: what is mounted in a shared tree that a container sees with mapped owners stays where it is on the node.
func TestOwnUsersOfSharedMount(t *testing.T) {
	n := newNode(t)
	s := n.ownUsers(containers.SandboxSpec{})
	top := t.TempDir()
	below := filepath.Join(top, "below")
	err := errors.Join(unix.Mount("top", top, "tmpfs", 0, ""), unix.Mount("", top, "", unix.MS_SHARED, ""), os.Mkdir(below, 0o755), unix.Mount("below", below, "tmpfs", 0, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(top, unix.MNT_DETACH)
	for _, propagation := range []string{"", "rslave"} {
		n.exited(n.start(s, containers.ContainerSpec{Name: "main" + propagation, Args: []string{"sh", "-c", "ls /data"},
			Mounts: []containers.Mount{{Source: top, Target: "/data", Propagation: propagation}}}))
		if got := n.log("main" + propagation); got != "below\n" {
			t.Errorf("the container saw %q", got)
		}
		if left := mountsUnder(t, top); len(left) != 2 {
			t.Fatalf("after a container with propagation %q only these mounts are left: %v", propagation, left)
		}
	}
}

// TestOwnUsersShared: processes of one pod with users of its own see each other.
func TestOwnUsersShared(t *testing.T) {
	n := newNode(t)
	n.ownUsers(containers.SandboxSpec{PodUID: "first"})
	s := n.shared(containers.SandboxSpec{OwnUsers: true})
	id := n.start(s, containers.ContainerSpec{Args: []string{"sleep", "1000"}})
	if first, _ := n.exec(id, "cat", "/proc/1/cmdline"); first != "/pause\x00" {
		t.Errorf("the first process is %q", first)
	}
}

// TestHandlers: the runtime that the sandbox names is used, and one that nobody configured is refused.
func TestHandlers(t *testing.T) {
	n := newNode(t)
	_, err := n.rt.CreateSandbox(context.Background(), containers.SandboxSpec{PodUID: "x", Handler: "kata"})
	if !errors.Is(err, containers.ErrNoHandler) || !strings.HasSuffix(err.Error(), `no runtime for "kata" is configured`) {
		t.Errorf("an unknown handler: %v", err)
	}
	n.close()
	// A runtime of another name that leaves a mark and then does the same.
	dir := t.TempDir()
	mark, program := filepath.Join(dir, "mark"), filepath.Join(dir, "other")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\necho x >%s\nexec runc \"$@\"\n", mark), 0o755); err != nil {
		t.Fatal(err)
	}
	n.handlers = map[string]string{"other": program, "broken": "/does/not/exist"}
	n.open()
	var names []string
	for _, h := range n.rt.Handlers() {
		names = append(names, fmt.Sprint(h.Name, h.Features.RecursiveReadOnly))
	}
	if got := strings.Join(names, " "); got != "true brokenfalse othertrue runctrue" {
		t.Errorf("handlers %q", got)
	}
	os.Remove(mark)
	s := n.sandbox(containers.SandboxSpec{Handler: "other"})
	n.exited(n.start(s, containers.ContainerSpec{Args: []string{"echo", "hello"}}))
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the other runtime was not used: %v", err)
	}
	if n.box(s.ID).Handler != "other" || n.log("main") != "hello\n" {
		t.Errorf("sandbox %+v, log %q", n.box(s.ID), n.log("main"))
	}
}
