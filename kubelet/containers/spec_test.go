package containers

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/pkg/cap"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kubelet/cgroups"
)

func TestProcessArgs(t *testing.T) {
	both := ocispec.ImageConfig{Entrypoint: []string{"entry"}, Cmd: []string{"cmd"}}
	for name, c := range map[string]struct {
		image         ocispec.ImageConfig
		command, args []string
		want          []string
	}{
		"image's own":     {both, nil, nil, []string{"entry", "cmd"}},
		"args":            {both, nil, []string{"a"}, []string{"entry", "a"}},
		"command":         {both, []string{"c"}, nil, []string{"c"}},
		"both":            {both, []string{"c"}, []string{"a"}, []string{"c", "a"}},
		"no entrypoint":   {ocispec.ImageConfig{Cmd: []string{"cmd"}}, nil, nil, []string{"cmd"}},
		"nothing to run":  {ocispec.ImageConfig{}, nil, nil, nil},
		"only args given": {ocispec.ImageConfig{}, nil, []string{"a"}, []string{"a"}},
	} {
		got, err := processArgs(ContainerSpec{Command: c.command, Args: c.args}, imageFacts{config: c.image})
		if !slices.Equal(got, c.want) || (err != nil) != (c.want == nil) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestProcessEnv(t *testing.T) {
	in := specInput{
		spec:    ContainerSpec{Env: []string{"B=pod", "C=1", "C=2", "EMPTY="}, TTY: true},
		sandbox: Sandbox{Hostname: "web"},
		image:   imageFacts{config: ocispec.ImageConfig{Env: []string{"PATH=/image", "B=image"}}},
	}
	want := []string{"PATH=/image", "HOSTNAME=web", "TERM=xterm", "B=pod", "C=2", "EMPTY="}
	if got := processEnv(in); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCapabilities(t *testing.T) {
	mine := make(map[string]bool)
	for _, c := range cap.Known() {
		mine[c] = c != "CAP_SYS_RESOURCE" // as where this was built
	}
	for name, c := range map[string]struct {
		sec         Security
		count       int
		has, hasNot string
	}{
		"usual":           {Security{}, 14, "CAP_CHOWN", "CAP_SYS_ADMIN"},
		"add":             {Security{CapAdd: []string{"sys_admin"}}, 15, "CAP_SYS_ADMIN", ""},
		"add with CAP_":   {Security{CapAdd: []string{"CAP_NET_ADMIN"}}, 15, "CAP_NET_ADMIN", ""},
		"drop":            {Security{CapDrop: []string{"CHOWN", "nonsense"}}, 13, "CAP_KILL", "CAP_CHOWN"},
		"drop all":        {Security{CapDrop: []string{"ALL"}}, 0, "", "CAP_CHOWN"},
		"drop all, add":   {Security{CapDrop: []string{"ALL"}, CapAdd: []string{"CHOWN"}}, 1, "CAP_CHOWN", "CAP_KILL"},
		"add all, drop":   {Security{CapAdd: []string{"ALL"}, CapDrop: []string{"CHOWN"}}, len(cap.Known()) - 2, "CAP_SYS_ADMIN", "CAP_CHOWN"},
		"privileged":      {Security{Privileged: true, CapDrop: []string{"CHOWN"}}, len(cap.Known()) - 1, "CAP_CHOWN", "CAP_SYS_RESOURCE"},
		"not mine to add": {Security{CapAdd: []string{"SYS_RESOURCE"}}, 14, "CAP_KILL", "CAP_SYS_RESOURCE"},
	} {
		got := capabilities(c.sec, mine)
		if len(got) != c.count || c.has != "" && !slices.Contains(got, c.has) || slices.Contains(got, c.hasNot) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestBuildSpec(t *testing.T) {
	score := -998
	in := specInput{
		id: "c1",
		spec: ContainerSpec{
			Args: []string{"run"}, CgroupParent: "/kubepods/pod1", OOMScoreAdj: &score, Resources: cgroups.Resources{CPUShares: 5},
			Mounts: []Mount{{Source: "/a", Target: "/dev/shm/"}, {Source: "/b", Target: "/b", Propagation: "rslave"}},
		},
		sandbox: Sandbox{ID: "s1"}, pinDir: "/pins", v2: true,
	}
	s, err := buildSpec(in)
	if err != nil {
		t.Fatal(err)
	}
	if s.Linux.CgroupsPath != "/kubepods/pod1/c1" || s.Annotations[shimGroup] != "s1" || *s.Process.OOMScoreAdj != 0 || s.Process.Cwd != "/" {
		t.Errorf("got %+v", s)
	}
	kinds := make(map[specs.LinuxNamespaceType]string)
	for _, n := range s.Linux.Namespaces {
		kinds[n.Type] = n.Path
	}
	want := map[specs.LinuxNamespaceType]string{"mount": "", "pid": "", "ipc": "/pins/ipc", "network": "/pins/net", "uts": "/pins/uts", "cgroup": ""}
	if !reflect.DeepEqual(kinds, want) {
		t.Errorf("namespaces %v", kinds)
	}
	shm := 0
	for _, m := range s.Mounts {
		if m.Destination == "/dev/shm" {
			shm++
			if m.Source != "/a" {
				t.Errorf("the pod's own /dev/shm was not taken: %+v", m)
			}
		}
	}
	if shm != 1 || s.Linux.RootfsPropagation != "rslave" || s.Linux.Resources.CPU.Quota != nil {
		t.Errorf("%d mounts of /dev/shm, propagation %s, %+v", shm, s.Linux.RootfsPropagation, s.Linux.Resources.CPU)
	}
	if s.Linux.Resources.Unified["memory.oom.group"] != "1" {
		t.Errorf("on cgroup v2 a container is not killed as a whole: %v", s.Linux.Resources.Unified)
	}
	for _, one := range []func(*specInput){func(in *specInput) { in.v2 = false }, func(in *specInput) { in.spec.SingleOOMKill = true }} {
		other := in
		one(&other)
		if s, err := buildSpec(other); err != nil || s.Linux.Resources.Unified != nil {
			t.Errorf("one process is to be killed: %v, %v", s, err)
		}
	}
	in.spec.Security.Seccomp = "Nonsense"
	if _, err := buildSpec(in); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an unknown seccomp profile: %v", err)
	}
}

func TestStopSignal(t *testing.T) {
	for name, want := range map[string]unix.Signal{
		"": unix.SIGTERM, "SIGINT": unix.SIGINT, "QUIT": unix.SIGQUIT, "10": unix.SIGUSR1, "nonsense": unix.SIGTERM, "SIGRTMIN+3": 37,
	} {
		if got := stopSignal(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

// TestLabels writes records' labels and reads them back: what a restart must find again.
func TestLabels(t *testing.T) {
	at := time.Date(2026, 11, 21, 22, 0, 0, 7, time.UTC)
	s := Sandbox{
		ID: "s", PodUID: "u", PodNamespace: "ns", PodName: "p", Attempt: 3, Hostname: "h", HostIPC: true, Created: at,
		SharedPID: true, PauseID: "x", PausePID: 7, Handler: "crun",
		IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}, Labels: map[string]string{"a": "b"},
	}
	if got := sandboxFrom("s", sandboxLabels(s), at); !reflect.DeepEqual(got, s) {
		t.Errorf("sandbox: got %+v, want %+v", got, s)
	}
	c := Container{
		ID: "c", SandboxID: "s", PodUID: "u", Name: "n", Attempt: 2, Image: "i", ImageID: "id", ImageRef: "ref", LogPath: "/l", CgroupPath: "/g",
		TTY: true, State: Created, Created: at, Labels: map[string]string{"x": ""}, StopSignal: "SIGTERM",
		User: &Identity{UID: 1000, GID: 1000, Groups: []uint32{1000}},
	}
	labels := containerLabels(c, true, "TERM", "1000:1000:1000")
	if got := containerFrom("c", labels, at); !reflect.DeepEqual(got, c) {
		t.Errorf("created: got %+v, want %+v", got, c)
	}
	labels[labelStarted] = at.Format(time.RFC3339Nano)
	if got := containerFrom("c", labels, at); got.State != Running || !got.Started.Equal(at) {
		t.Errorf("running: got %+v", got)
	}
	for k, v := range exitLabels(at, 3, ReasonError, string(make([]byte, 9999))) {
		labels[k] = v
	}
	if got := containerFrom("c", labels, at); got.State != Exited || got.ExitCode != 3 || !got.Finished.Equal(at) || len(got.Message) > maxMessage {
		t.Errorf("exited: got %+v", got)
	}
}

func TestQueueNeverBlocks(t *testing.T) {
	q := newQueue()
	for range maxWaiting + 1 {
		q.add(Event{Kind: EventExited})
	}
	if e := <-q.out; e.Kind != EventRelist || len(q.out) != 0 {
		t.Fatalf("a reader that stayed away gets %v and %d more", e, len(q.out))
	}
}
