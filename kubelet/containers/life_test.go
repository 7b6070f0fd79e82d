package containers_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
)

func TestEnds(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	limit := cgroups.Limits(0, 0, 16<<20)
	for name, c := range map[string]struct {
		spec   containers.ContainerSpec
		code   int
		reason string
	}{
		"completed": {containers.ContainerSpec{}, 0, containers.ReasonCompleted},
		"error":     {containers.ContainerSpec{Args: []string{"sh", "-c", "exit 5"}}, 5, containers.ReasonError},
		"signal":    {containers.ContainerSpec{Args: []string{"sh", "-c", "kill -TERM $$"}, Command: []string{"sh", "-c", "sh -c 'kill -9 $$'; exit $?"}}, 137, containers.ReasonError},
		"oom":       {containers.ContainerSpec{Args: []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"}, Resources: limit}, 137, containers.ReasonOOMKilled},
		"terminal":  {containers.ContainerSpec{Args: []string{"sh", "-c", "test -t 1"}, TTY: true}, 0, containers.ReasonCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			c.spec.Name = name
			end := n.exited(n.start(s, c.spec))
			if end.ExitCode != c.code || end.Reason != c.reason || end.Started.IsZero() || end.Finished.Before(end.Created) {
				t.Fatalf("got %+v", end)
			}
		})
	}
	if got := n.log("completed"); got != "default command\n" {
		t.Errorf("the image's own command printed %q", got)
	}
}

func TestStartFails(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	id := n.create(s, containers.ContainerSpec{Command: []string{"/no/such/program"}})
	err := n.rt.StartContainer(ctx, id)
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Fatalf("got %v", err)
	}
	c, err := n.rt.Inspect(ctx, id)
	if err != nil || c.State != containers.Exited || c.ExitCode != 128 || c.Reason != containers.ReasonStartError || c.Message == "" {
		t.Fatalf("after a failed start: %+v, %v", c, err)
	}
	if err := n.rt.StartContainer(ctx, id); err == nil {
		t.Error("an ended container was started again")
	}
	if err := n.rt.RemoveContainer(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := n.rt.Inspect(ctx, id); !errors.Is(err, containers.ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
	_, err = n.rt.CreateContainer(ctx, containers.ContainerSpec{SandboxID: s.ID, Image: "example.test/none:1"})
	if !errors.Is(err, containers.ErrNoImage) {
		t.Errorf("without its image: %v", err)
	}
	_, err = n.rt.CreateContainer(ctx, containers.ContainerSpec{SandboxID: "nobody", Image: "example.test/none:1"})
	if !errors.Is(err, containers.ErrNotFound) {
		t.Errorf("without its sandbox: %v", err)
	}
	if _, err := n.rt.CreateSandbox(ctx, containers.SandboxSpec{PodUID: "x", Sysctls: map[string]string{"kernel.panic": "1"}}); !errors.Is(err, containers.ErrUnsupported) {
		t.Errorf("with the node's sysctl: %v", err)
	}
	// All that can be made of a sandbox is there when its connection fails.
	offline := errors.New("no network")
	_, err = n.rt.CreateSandbox(ctx, containers.SandboxSpec{PodUID: "x", ShareProcessNamespace: true, CgroupParent: nodetest.CgroupRoot(t),
		OwnUsers: n.rt.FeaturesOf("").UserNamespaces, Connect: func(context.Context, string) ([]netip.Addr, error) { return nil, offline }})
	if !errors.Is(err, offline) {
		t.Errorf("without a network: %v", err)
	}
	if got := processesNamed(t, "pause"); got != 0 {
		t.Errorf("%d processes of sandboxes are left", got)
	}
	if got := len(mountsUnder(t, n.daemon.Dir)); got != 4 {
		t.Errorf("%d mounts, want those of one sandbox", got)
	}
}

func TestStop(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	ready := "echo ready; while true; do usleep 10000; done"
	for name, c := range map[string]struct {
		script, signal string
		grace          time.Duration
		code           int
	}{
		"image's signal": {"trap 'exit 3' USR1; " + ready, "", time.Minute, 3},
		"own signal":     {"trap 'exit 4' INT; " + ready, "SIGINT", time.Minute, 4},
		"deaf":           {"trap '' TERM; " + ready, "TERM", 50 * time.Millisecond, 137},
		"at once":        {"trap 'exit 5' USR1; " + ready, "", 0, 137},
	} {
		t.Run(name, func(t *testing.T) {
			name = strings.ReplaceAll(name, " ", "-")
			id := n.start(s, containers.ContainerSpec{Name: name, Args: []string{"sh", "-c", c.script}, StopSignal: c.signal})
			n.until("the trap is set", func() bool { return strings.Contains(n.log(name), "ready") })
			for range 2 {
				if err := n.rt.StopContainer(ctx, id, c.grace); err != nil {
					t.Fatal(err)
				}
			}
			end, err := n.rt.Inspect(ctx, id)
			if err != nil || end.State != containers.Exited || end.ExitCode != c.code {
				t.Fatalf("got %+v, %v", end, err)
			}
		})
	}
	if err := n.rt.StopContainer(ctx, "nobody", 0); err != nil {
		t.Errorf("stopping nothing: %v", err)
	}
	finished, err := n.rt.Finished(ctx, n.list().Containers[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	<-finished
}

// until polls a real condition.
func (n *node) until(what string, ok func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			n.t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestSecurity(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	number := func(v int64) *int64 { return &v }
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "file"), []byte("from the node\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const bounding = "grep CapBnd /proc/self/status"
	for name, c := range map[string]struct {
		spec   containers.ContainerSpec
		script string
		want   string
	}{
		"root":             {script: "id -u; id -g; id -G", want: "0\n0\n0\n"},
		"user by number":   {containers.ContainerSpec{Security: containers.Security{RunAsUser: number(1000), RunAsNonRoot: true}}, "id -u; id -g; id -G", "1000\n1000\n1000 2000\n"},
		"unknown user":     {containers.ContainerSpec{Security: containers.Security{RunAsUser: number(4711), RunAsGroup: number(7), SupplementalGroups: []int64{8}}}, "id -u; id -g; id -G", "4711\n7\n7 8\n"},
		"no capability":    {containers.ContainerSpec{Security: containers.Security{CapDrop: []string{"ALL"}}}, bounding, "CapBnd:\t0000000000000000\n"},
		"one capability":   {containers.ContainerSpec{Security: containers.Security{CapDrop: []string{"all"}, CapAdd: []string{"NET_ADMIN"}}}, bounding, "CapBnd:\t0000000000001000\n"},
		"usual":            {containers.ContainerSpec{}, bounding, "CapBnd:\t00000000a80425fb\n"},
		"no new rights":    {containers.ContainerSpec{Security: containers.Security{NoNewPrivileges: true}}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		"seccomp":          {containers.ContainerSpec{Security: containers.Security{Seccomp: containers.SeccompRuntimeDefault}}, "grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		"no seccomp":       {containers.ContainerSpec{}, "grep Seccomp: /proc/self/status", "Seccomp:\t0\n"},
		"read-only root":   {containers.ContainerSpec{Security: containers.Security{ReadOnlyRoot: true}}, "touch /x 2>/dev/null; echo $?", "1\n"},
		"writable root":    {containers.ContainerSpec{}, "touch /x; echo $?", "0\n"},
		"masked":           {containers.ContainerSpec{}, "ls /sys/firmware | wc -l; echo x 2>/dev/null >/proc/sysrq-trigger; echo $?", "0\n1\n"},
		"privileged":       {containers.ContainerSpec{Security: containers.Security{Privileged: true}}, "test -e /dev/vda || test -e /dev/loop0 || test -e /dev/kmsg; echo $?", "0\n"},
		"mount":            {containers.ContainerSpec{Mounts: []containers.Mount{{Source: shared, Target: "/data", ReadOnly: true}}}, "cat /data/file; touch /data/x 2>/dev/null; echo $?", "from the node\n1\n"},
		"file mount":       {containers.ContainerSpec{Mounts: []containers.Mount{{Source: filepath.Join(shared, "file"), Target: "/etc/hosts"}}}, "cat /etc/hosts", "from the node\n"},
		"mount on a mount": {containers.ContainerSpec{Mounts: []containers.Mount{{Source: shared, Target: "/a/b"}, {Source: shared, Target: "/a"}}}, "cat /a/file /a/b/file", "from the node\nfrom the node\n"},
		"folder":           {containers.ContainerSpec{WorkingDir: "/new/folder"}, "pwd", "/new/folder\n"},
		"CPU and memory":   {containers.ContainerSpec{Resources: cgroups.Limits(250, 500, 64<<20)}, "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory/memory.limit_in_bytes", "256\n50000\n67108864\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(filepath.Join(shared, "b"), 0o755); err != nil {
				t.Fatal(err)
			}
			c.spec.Name = strings.ReplaceAll(name, " ", "-")
			c.spec.Args = []string{"sh", "-c", c.script}
			n.exited(n.start(s, c.spec))
			if got := n.log(c.spec.Name); got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
		})
	}
	_, err := n.rt.CreateContainer(context.Background(), containers.ContainerSpec{SandboxID: s.ID, Image: n.list().Containers[0].Image, Security: containers.Security{RunAsNonRoot: true}})
	if !errors.Is(err, containers.ErrRunsAsRoot) {
		t.Errorf("root with runAsNonRoot: %v", err)
	}
}

func TestHostNamespaces(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{HostNetwork: true, HostIPC: true, HostPID: true})
	if s.NetNS != "" || !s.Ready {
		t.Fatalf("sandbox %+v", s)
	}
	id := n.start(s, containers.ContainerSpec{Args: []string{"sleep", "1000"}})
	for name, shared := range map[string]bool{"net": true, "ipc": true, "uts": true, "pid": true, "mnt": false} {
		mine, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := n.exec(id, "readlink", "/proc/self/ns/"+name)
		if (strings.TrimSpace(got) == mine) != shared {
			t.Errorf("namespace %s: %s, the node's is %s", name, got, mine)
		}
	}
	if err := n.rt.StopContainer(context.Background(), id, 0); err != nil {
		t.Fatal(err)
	}
}

// TestContainerdRestarts kills containerd under running containers: they go on, one that ends meanwhile is noticed, and the stream of events
// begins again with a relist.
func TestContainerdRestarts(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	stop := filepath.Join(t.TempDir(), "stop")
	if err := os.Mkdir(filepath.Dir(stop)+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := containers.Mount{Source: filepath.Dir(stop) + "/d", Target: "/d"}
	stays := n.start(s, containers.ContainerSpec{Name: "stays", Args: []string{"sleep", "1000"}})
	ends := n.start(s, containers.ContainerSpec{Name: "ends", Args: []string{"sh", "-c", "until test -e /d/stop; do usleep 1000; done; echo bye; exit 9"}, Mounts: []containers.Mount{dir}})
	for len(n.rt.Events()) > 0 {
		<-n.rt.Events()
	}
	n.daemon.Stop()
	if err := os.WriteFile(dir.Source+"/stop", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n.until("the container printed its last", func() bool { return n.log("ends") == "bye\n" })
	n.daemon.Start()
	relisted := false
	timeout := time.After(30 * time.Second)
	for !relisted {
		select {
		case e := <-n.rt.Events():
			relisted = e.Kind == containers.EventRelist
		case <-timeout:
			t.Fatal("no relist after a broken stream")
		}
	}
	if c := n.exited(ends); c.ExitCode != 9 {
		t.Errorf("ended meanwhile: %+v", c)
	}
	if out, _ := n.exec(stays, "echo", "alive"); out != "alive\n" {
		t.Errorf("the other: %q", out)
	}
}

// TestLeftovers plays a kubelet that died halfway and a machine that was restarted.
func TestLeftovers(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	id := n.start(s, containers.ContainerSpec{Args: []string{"sleep", "1000"}})
	n.close()
	// Pins, streams of nobody.
	orphan := filepath.Join(n.daemon.Dir, "sandboxes", "orphan")
	for _, dir := range []string{filepath.Join(orphan, "shm"), filepath.Join(n.daemon.Dir, "io", "orphan")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("shm", filepath.Join(orphan, "shm"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	n.open()
	if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins without a record: %v", err)
	}
	if out, _ := n.exec(id, "echo", "alive"); out != "alive\n" {
		t.Errorf("the container: %q", out)
	}
	// After a restart of the machine the records are all that is left.
	n.close()
	for _, m := range mountsUnder(t, filepath.Join(n.daemon.Dir, "sandboxes")) {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	n.open()
	if got := n.list().Sandboxes; len(got) != 1 || got[0].Ready {
		t.Errorf("sandbox without pins: %+v", got)
	}
	if err := n.rt.RemoveSandbox(ctx, s.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.rt.RemoveSandbox(ctx, s.ID); err != nil {
		t.Errorf("removing again: %v", err)
	}
	if l := n.list(); len(l.Sandboxes)+len(l.Containers) != 0 {
		t.Errorf("left: %+v", l)
	}
}

// TestShimKilled ends the shim of a pod with KILL: its containers are told as ended, and the sandbox takes new ones.
func TestShimKilled(t *testing.T) {
	n := newNode(t)
	before := pidsOf(t, "containerd-shim")
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	one := n.start(s, containers.ContainerSpec{Name: "one", Args: []string{"sleep", "1000"}})
	two := n.start(s, containers.ContainerSpec{Name: "two", Args: []string{"sleep", "1000"}})
	for pid := range pidsOf(t, "containerd-shim") {
		if before[pid] {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{one, two} {
		if c := n.exited(id); c.ExitCode != 137 {
			t.Errorf("got %+v", c)
		}
		if err := n.rt.RemoveContainer(context.Background(), id); err != nil {
			t.Error(err)
		}
	}
	three := n.start(s, containers.ContainerSpec{Name: "three", Args: []string{"sleep", "1000"}})
	if out, _ := n.exec(three, "hostname"); out != "web\n" {
		t.Errorf("a new container: %q", out)
	}
	if got := len(pidsOf(t, "sleep")); got != 1 {
		t.Errorf("%d processes run, want the new one", got)
	}
}
