package containers_test

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/namespaces"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(m)) }

// node is a runtime on a private containerd with the test image in it.
type node struct {
	t      testing.TB
	daemon *nodetest.Containerd
	groups *cgroups.Tree
	logs   string
	rt     *containers.Runtime
	stop   func()
	// handlers for the next open.
	handlers map[string]string
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{
		t:      t,
		daemon: nodetest.StartContainerd(t),
		groups: cgroups.New(cgroups.Config{Root: nodetest.CgroupRoot(t)}, zaptest.NewLogger(t)),
		logs:   t.TempDir(),
	}
	if err := n.groups.Open(); err != nil {
		t.Fatal(err)
	}
	// As on a real node: the OCI runtime may walk to a root file system as a user whom the node does not know.
	if err := os.Chmod(filepath.Dir(n.daemon.Dir), 0o711); err != nil {
		t.Fatal(err)
	}
	n.open()
	n.importImage()
	t.Cleanup(func() {
		n.removeAll()
		n.close()
		if err := n.groups.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// open starts a runtime as a kubelet would.
func (n *node) open() {
	n.t.Helper()
	n.rt = containers.New(containers.Config{Address: n.daemon.Address, StateDir: n.daemon.Dir, Handlers: n.handlers}, openFile, zaptest.NewLogger(n.t))
	if err := n.rt.Open(context.Background()); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.rt.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("running: %v", err)
		}
	}
}

// close ends the runtime; containers go on.
func (n *node) close() {
	n.t.Helper()
	n.stop()
	if err := n.rt.Close(); err != nil {
		n.t.Error(err)
	}
}

func (n *node) importImage() {
	n.t.Helper()
	ctx := namespaces.WithNamespace(context.Background(), "k8s.io")
	f, err := os.Open(nodetest.Archive(n.t, nodetest.Image))
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	list, err := n.rt.Client().Import(ctx, f)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, i := range list {
		if err := containerd.NewImage(n.rt.Client(), i).Unpack(ctx, "overlayfs"); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) removeAll() {
	n.t.Helper()
	for _, s := range n.list().Sandboxes {
		if err := n.rt.RemoveSandbox(context.Background(), s.ID); err != nil {
			n.t.Error(err)
		}
	}
}

func (n *node) list() containers.Listing {
	n.t.Helper()
	l, err := n.rt.List(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}

func (n *node) sandbox(spec containers.SandboxSpec) containers.Sandbox {
	n.t.Helper()
	if spec.PodUID == "" {
		spec.PodUID = "uid-" + strings.ToLower(n.t.Name())
	}
	spec.PodNamespace, spec.PodName = "default", "web"
	s, err := n.rt.CreateSandbox(context.Background(), spec)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// start makes and starts a container of the test image.
func (n *node) start(s containers.Sandbox, spec containers.ContainerSpec) string {
	n.t.Helper()
	id := n.create(s, spec)
	if err := n.rt.StartContainer(context.Background(), id); err != nil {
		n.t.Fatal(err)
	}
	return id
}

func (n *node) create(s containers.Sandbox, spec containers.ContainerSpec) string {
	n.t.Helper()
	spec.SandboxID = s.ID
	if spec.Image == "" {
		spec.Image = nodetest.Image
	}
	if spec.Name == "" {
		spec.Name = "main"
	}
	if spec.LogPath == "" {
		spec.LogPath = filepath.Join(n.logs, spec.Name+".log")
	}
	parent, err := n.groups.CreatePod(corev1.PodQOSBurstable, s.PodUID, cgroups.Resources{})
	if err != nil {
		n.t.Fatal(err)
	}
	spec.CgroupParent = parent
	id, err := n.rt.CreateContainer(context.Background(), spec)
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}

// exited waits by events until the container has ended.
func (n *node) exited(id string) containers.Container {
	n.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		c, err := n.rt.Inspect(context.Background(), id)
		if err != nil {
			n.t.Fatal(err)
		}
		if c.State == containers.Exited {
			return c
		}
		select {
		case <-n.rt.Events():
		case <-timeout:
			n.t.Fatalf("container %s did not end: %+v", id, c)
		}
	}
}

// exec runs a command and returns what it printed.
func (n *node) exec(id string, args ...string) (string, int) {
	n.t.Helper()
	var out bytes.Buffer
	code, err := n.rt.Exec(context.Background(), id, containers.ExecSpec{Args: args, Stdout: &out, Stderr: &out})
	if err != nil {
		n.t.Fatalf("exec %v: %v (printed %q)", args, err, out.String())
	}
	return out.String(), code
}

func (n *node) log(name string) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.logs, name+".log"))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(data)
}

// pidsOf are the processes on the node whose program's name begins so.
func pidsOf(t testing.TB, name string) map[int]bool {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	pids := make(map[int]bool)
	for _, f := range found {
		line, err := os.ReadFile(f)
		program, _, _ := strings.Cut(string(line), "\x00")
		if err != nil || !strings.HasPrefix(filepath.Base(program), name) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			t.Fatal(err)
		}
		pids[pid] = true
	}
	return pids
}

func processesNamed(t testing.TB, name string) int { return len(pidsOf(t, name)) }

func mountsUnder(t testing.TB, dir string) (found []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir) {
			found = append(found, at)
		}
	}
	return found
}

// file is a sink that writes both streams, as they come, to one file.
type file struct{ f *os.File }

func openFile(path string) (containers.Sink, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return file{f}, err
}

func (s file) Stdout() io.Writer { return s.f }
func (s file) Stderr() io.Writer { return s.f }
func (s file) Close() error      { return s.f.Close() }

// TestPod is one pod's whole life on a node: two containers share a network, a name, memory and one shim; exec, logs, stop, remove; nothing
// remains.
func TestPod(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	shimsBefore := processesNamed(t, "containerd-shim")
	var connected string
	ip := netip.MustParseAddr("10.244.0.5")
	s := n.sandbox(containers.SandboxSpec{
		Hostname: "web-0",
		Sysctls:  map[string]string{"net.ipv4.ip_local_port_range": "40000 40009", "kernel.shm_rmid_forced": "1"},
		Connect: func(_ context.Context, netns string) ([]netip.Addr, error) {
			connected = netns
			return []netip.Addr{ip}, nil
		},
		Labels: map[string]string{"hello": "world"},
	})
	if connected != s.NetNS || len(s.IPs) != 1 || s.IPs[0] != ip || !s.Ready {
		t.Fatalf("sandbox %+v, connected %q", s, connected)
	}
	one := n.start(s, containers.ContainerSpec{Name: "one", Args: []string{"sh", "-c", "echo out; echo err >&2; sleep 1000"}})
	two := n.start(s, containers.ContainerSpec{Name: "two", Command: []string{"sleep"}, Args: []string{"1000"}, Env: []string{"FROM=pod", "A=b"}})
	if got := processesNamed(t, "containerd-shim") - shimsBefore; got != 1 {
		t.Fatalf("%d shims for two containers", got)
	}
	for name, c := range map[string]struct {
		id   string
		args []string
		want string
	}{
		"hostname":       {one, []string{"hostname"}, "web-0\n"},
		"sysctl":         {two, []string{"cat", "/proc/sys/net/ipv4/ip_local_port_range"}, "40000\t40009\n"},
		"pod over image": {two, []string{"sh", "-c", "echo $FROM $A $PATH"}, "pod b /bin\n"},
		"image's folder": {two, []string{"sh", "-c", "pwd"}, "/tmp\n"},
		"own PIDs":       {two, []string{"sh", "-c", "cat /proc/1/comm"}, "sleep\n"},
	} {
		if out, code := n.exec(c.id, c.args...); out != c.want || code != 0 {
			t.Errorf("%s: got %q, code %d", name, out, code)
		}
	}
	for name, shared := range map[string]bool{"net": true, "ipc": true, "uts": true, "pid": false, "mnt": false} {
		inOne, _ := n.exec(one, "readlink", "/proc/self/ns/"+name)
		inTwo, _ := n.exec(two, "readlink", "/proc/self/ns/"+name)
		if (inOne == inTwo) != shared {
			t.Errorf("namespace %s: %s and %s", name, inOne, inTwo)
		}
	}
	// One memory: what one writes to /dev/shm, two reads.
	n.exec(one, "sh", "-c", "echo shared >/dev/shm/x")
	if out, _ := n.exec(two, "cat", "/dev/shm/x"); out != "shared\n" {
		t.Errorf("over /dev/shm: %q", out)
	}
	l, err := n.rt.ListPod(ctx, s.PodUID)
	if err != nil || len(l.Sandboxes) != 1 || len(l.Containers) != 2 || l.Sandboxes[0].Labels["hello"] != "world" {
		t.Fatalf("listing: %+v, %v", l, err)
	}
	usage, err := n.rt.Usage(ctx, two)
	if err != nil || usage.MemoryUsage == 0 || usage.PIDs == 0 {
		t.Errorf("usage: %+v, %v", usage, err)
	}
	n.exec(two, "dd", "if=/dev/zero", "of=/tmp/file", "bs=65536", "count=16")
	if layer, err := n.rt.LayerUsage(ctx, two); err != nil || layer.Bytes < 1<<20 || layer.Inodes == 0 {
		t.Errorf("layer: %+v, %v", layer, err)
	}
	if err := n.rt.UpdateResources(ctx, two, cgroups.Limits(100, 200, 32<<20)); err != nil {
		t.Error(err)
	}
	if usage, err := n.rt.Usage(ctx, two); err != nil || usage.MemoryLimit != 32<<20 {
		t.Errorf("after update: %+v, %v", usage, err)
	}

	// The first container goes, and the shim it started stays for the second, and for a third.
	if err := n.rt.StopContainer(ctx, one, 0); err != nil {
		t.Fatal(err)
	}
	if c, err := n.rt.Inspect(ctx, one); err != nil || c.State != containers.Exited || c.ExitCode != 137 || c.Reason != containers.ReasonError {
		t.Errorf("after kill: %+v, %v", c, err)
	}
	if err := n.rt.RemoveContainer(ctx, one); err != nil {
		t.Fatal(err)
	}
	if out, _ := n.exec(two, "echo", "alive"); out != "alive\n" {
		t.Errorf("second container: %q", out)
	}
	n.start(s, containers.ContainerSpec{Name: "one", Attempt: 1, Args: []string{"sleep", "1000"}})
	if got := processesNamed(t, "containerd-shim") - shimsBefore; got != 1 {
		t.Errorf("%d shims after a restart", got)
	}
	if got := n.log("one"); !strings.Contains(got, "out\n") || !strings.Contains(got, "err\n") {
		t.Errorf("log: %q", got)
	}

	if err := n.rt.RemoveSandbox(ctx, s.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.groups.RemovePod(ctx, s.PodUID); err != nil {
		t.Fatal(err)
	}
	n.nothingRemains(shimsBefore)
}

func (n *node) nothingRemains(shims int) {
	n.t.Helper()
	if l := n.list(); len(l.Sandboxes)+len(l.Containers) != 0 {
		n.t.Errorf("records remain: %+v", l)
	}
	if got := mountsUnder(n.t, n.daemon.Dir); len(got) != 0 {
		n.t.Errorf("mounts remain: %v", got)
	}
	for _, dir := range []string{"sandboxes", "io", "runc/k8s.io"} {
		entries, err := os.ReadDir(filepath.Join(n.daemon.Dir, dir))
		if err != nil || len(entries) != 0 {
			n.t.Errorf("%s remains: %v, %v", dir, entries, err)
		}
	}
	if uids, err := n.groups.PodUIDs(); err != nil || len(uids) != 0 {
		n.t.Errorf("control groups remain: %v, %v", uids, err)
	}
	// A shim ends by itself a moment after its last container.
	deadline := time.Now().Add(10 * time.Second)
	for processesNamed(n.t, "containerd-shim") != shims {
		if time.Now().After(deadline) {
			n.t.Fatalf("shims remain")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got := processesNamed(n.t, "sleep"); got != 0 {
		n.t.Errorf("%d processes remain", got)
	}
}

// TestRestartLosesNothing closes and opens the runtime again and again under a container that prints numbers, and finds every one in its log.
func TestRestartLosesNothing(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{Hostname: "web"})
	// It ends only when it is told to: what is in a FIFO when its container ends and nobody reads goes with it, as Close says.
	const script = "i=1; while [ ! -e /told ]; do echo $i; i=$((i+1)); done; echo end $i; exit 7"
	id := n.start(s, containers.ContainerSpec{Args: []string{"sh", "-c", script}})
	before, err := n.rt.Inspect(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		n.close()
		n.open()
		after, err := n.rt.Inspect(context.Background(), id)
		if err != nil || after.PID != before.PID || after.State != containers.Running {
			t.Fatalf("after restart: %+v, %v; before %+v", after, err, before)
		}
	}
	if out, code := n.exec(id, "touch", "/told"); code != 0 {
		t.Fatalf("telling it: %d, %s", code, out)
	}
	c := n.exited(id)
	if c.ExitCode != 7 || c.Reason != containers.ReasonError || !c.Finished.After(c.Started) || !c.Started.Equal(before.Started) {
		t.Errorf("end: %+v", c)
	}
	lines := strings.Split(strings.TrimSuffix(n.log("main"), "\n"), "\n")
	for i, line := range lines {
		want := strconv.Itoa(i + 1)
		if i == len(lines)-1 {
			want = "end " + want
		}
		if line != want {
			t.Fatalf("line %d of %d is %q, want %q", i+1, len(lines), line, want)
		}
	}
	if got := n.list().Sandboxes; len(got) != 1 || !got[0].Ready || got[0].NetNS != s.NetNS || got[0].Hostname != "web" {
		t.Errorf("sandbox after restarts: %+v", got)
	}
}
