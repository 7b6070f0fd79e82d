package main

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/vishvananda/netlink"

	"pilothouse.dev/hack/archive"
	"pilothouse.dev/hack/netns"
	"pilothouse.dev/hack/proc"
)

// TestMain lets the test program be the cluster program too, which starts itself again for the registry.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "cluster" {
		main()
		return
	}
	os.Exit(m.Run())
}

// testCluster is a cluster in a free range with a folder of its own, taken down when the test ends.
func testCluster(t *testing.T, name string, families ...family) *cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces and needs root")
	}
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "cluster")); err != nil {
		t.Fatal(err)
	}
	etcd, err := filepath.Abs("../../bin/etcd")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(etcd); err != nil {
		t.Fatalf("%v: run make tools", err)
	}
	if err := os.Symlink(etcd, filepath.Join(bin, "etcd")); err != nil {
		t.Fatal(err)
	}
	c := reopen(t, config{Name: name, Dir: filepath.Join(t.TempDir(), "c"), Bin: bin})
	t.Cleanup(func() {
		if err := reopen(t, config{Name: name, Dir: c.dir, Bin: bin}).down(context.Background()); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	if err := c.create(config{Range: -1, Families: families}); err != nil {
		t.Fatal(err)
	}
	return c
}

// reopen is the cluster as another command sees it.
func reopen(t *testing.T, cfg config) *cluster {
	t.Helper()
	c, err := newCluster(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.out = testLog{t}
	return c
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// raise starts what exists of a cluster without the daemons of the other modules.
func raise(t *testing.T, c *cluster, nodes int) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.raiseNetwork())
	for range nodes {
		_, err := c.addNode()
		must(err)
	}
	must(c.issueAll())
	must(c.start(ctx, c.etcd()))
	must(c.start(ctx, c.registry()))
	for _, n := range c.state.Nodes {
		must(c.startRuntime(ctx, n))
	}
}

// leftovers lists whatever of the cluster can still be seen on this machine.
func leftovers(t *testing.T, c *cluster, a addresses) []string {
	t.Helper()
	var left []string
	procs, err := proc.WithEnv(clusterMark, c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		left = append(left, fmt.Sprintf("process %d", p.PID))
	}
	mounts, err := mountPoints(func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if strings.HasPrefix(m, c.dir) || strings.HasPrefix(m, c.run()+"/") {
			left = append(left, "mount "+m)
		}
	}
	links, err := whole(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, c.linkPrefix()) {
			left = append(left, "link "+l.Attrs().Name)
		}
	}
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		for _, p := range a.all() {
			if r.Dst != nil && inside(p, prefixOf(r.Dst)) {
				left = append(left, "route "+r.String())
			}
		}
	}
	roots, err := cgroupRoots()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(roots, c.dir, c.run()) {
		if path != c.dir && path != c.run() {
			path = filepath.Join(path, c.cgroup())
		}
		if _, err := os.Stat(path); err == nil {
			left = append(left, "path "+path)
		}
	}
	return left
}

func TestDownLeavesNothing(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, c *cluster) // what happens before
	}{
		{"after an orderly life", func(*testing.T, *cluster) {}},
		{"all daemons killed", func(t *testing.T, c *cluster) {
			for _, id := range c.state.Processes {
				if err := proc.Kill(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"processes forgotten", func(t *testing.T, c *cluster) {
			c.state.Processes = map[string]proc.ID{}
			if err := c.save(); err != nil {
				t.Fatal(err)
			}
		}},
		{"state file lost", func(t *testing.T, c *cluster) {
			if err := os.Remove(c.stateFile()); err != nil {
				t.Fatal(err)
			}
		}},
		{"node paused", func(t *testing.T, c *cluster) {
			if err := c.pauseNode(c.state.Nodes[0]); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := testCluster(t, fmt.Sprintf("unit-down%d-%d", i, os.Getpid()), ipv4, ipv6)
			raise(t, c, 1)
			if len(leftovers(t, c, c.addr())) == 0 {
				t.Fatal("a running cluster can't be seen: this test can't fail")
			}
			tt.spoil(t, c)
			again := reopen(t, config{Name: c.name, Dir: c.dir, Bin: c.bin})
			if err := again.down(t.Context()); err != nil {
				t.Fatalf("down: %v", err)
			}
			if left := leftovers(t, c, c.addr()); len(left) > 0 {
				t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
			}
		})
	}
}

func TestParts(t *testing.T) {
	c := testCluster(t, fmt.Sprintf("unit-parts-%d", os.Getpid()))
	raise(t, c, 2)
	n1, n2 := c.state.Nodes[0], c.state.Nodes[1]

	t.Run("nodes reach each other and this machine, and nothing else", func(t *testing.T) {
		for _, to := range []netip.Addr{c.nodeIP(n2), c.addr().bridge()} {
			if err := dialFrom(c, n1, to); !refused(err) {
				t.Errorf("calling %s from %s: %v, want a refused connection", to, n1.Name, err)
			}
		}
		if err := dialFrom(c, n1, netip.MustParseAddr("192.0.2.77")); err == nil || !strings.Contains(err.Error(), "unreachable") {
			t.Errorf("a node without uplink calls the world: %v, want network unreachable", err)
		}
	})
	t.Run("pods and services of nobody end in a blackhole", func(t *testing.T) {
		for _, p := range slices.Concat(c.addr().pods(), c.addr().services()) {
			routes, err := netlink.RouteGet(p.Addr().Next().AsSlice())
			if err == nil {
				t.Errorf("the route to %s is %v, want none", p, routes)
			}
		}
	})
	t.Run("partition and heal", func(t *testing.T) {
		if err := c.partitionNode(n2); err != nil {
			t.Fatal(err)
		}
		if err := dialFrom(c, n1, c.nodeIP(n2)); err == nil || refused(err) {
			t.Errorf("calling a partitioned node: %v, want no answer", err)
		}
		if err := c.healNode(n2); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the healed node answers", func() bool { return refused(dialFrom(c, n1, c.nodeIP(n2))) })
	})
	t.Run("pause and heal", func(t *testing.T) {
		id, _ := c.process("node1/containerd")
		if err := c.pauseNode(n1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "containerd is paused", id.Paused)
		if err := c.healNode(n1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "containerd goes on", func() bool { return !id.Paused() && id.Alive() })
	})
	t.Run("a killed daemon is started again, a running one left", func(t *testing.T) {
		before, _ := c.process("registry")
		if err := c.killDaemon(t.Context(), "etcd"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"etcd", "registry"} {
			if err := c.startDaemon(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		if _, alive := c.process("etcd"); !alive {
			t.Error("etcd does not run")
		}
		if after, _ := c.process("registry"); after != before {
			t.Error("the registry was restarted")
		}
	})
	t.Run("images outlive the registry's process", func(t *testing.T) {
		img, err := random.Image(512, 1)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := archive.Write(path, []archive.Image{{Ref: "docker.io/library/mine:1", Image: img}}); err != nil {
			t.Fatal(err)
		}
		if err := c.loadArchive(path); err != nil {
			t.Fatal(err)
		}
		if err := c.killDaemon(t.Context(), "registry"); err != nil {
			t.Fatal(err)
		}
		if err := c.startDaemon(t.Context(), "registry"); err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(c.registryAddress()+"/library/mine:1", name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		back, err := remote.Image(ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(back); err != nil {
			t.Error(err)
		}
	})
	t.Run("a killed node comes back", func(t *testing.T) {
		if err := c.killNode(t.Context(), n2); err != nil {
			t.Fatal(err)
		}
		if netns.Exists(c.nodeNetns(n2)) {
			t.Error("the killed node's namespace is still there")
		}
		if err := c.forgive(n2); err != nil {
			t.Fatal(err)
		}
		if err := c.startRuntime(t.Context(), n2); err != nil {
			t.Fatal(err)
		}
		if err := dialFrom(c, n1, c.nodeIP(n2)); !refused(err) {
			t.Errorf("calling the restarted node: %v, want a refused connection", err)
		}
	})
	t.Run("secrets are for their owner only", func(t *testing.T) {
		err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return nil // gone meanwhile
			}
			secret := strings.HasSuffix(path, ".key") || strings.Contains(path, "kubeconfig") || strings.Contains(path, "encryption")
			if secret && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode().Perm())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestTakenPortIsNamed(t *testing.T) {
	c := testCluster(t, fmt.Sprintf("unit-port-%d", os.Getpid()))
	if err := c.issueAll(); err != nil {
		t.Fatal(err)
	}
	addr := c.etcd().listen[0]
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = c.start(t.Context(), c.etcd())
	if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "etcd") || !strings.Contains(err.Error(), "-range") {
		t.Errorf("starting etcd on a taken port: %v, want the address, the daemon and what helps", err)
	}
}

func TestTwoClustersHaveDifferentRanges(t *testing.T) {
	a := testCluster(t, fmt.Sprintf("unit-a-%d", os.Getpid()), ipv4, ipv6)
	b := testCluster(t, fmt.Sprintf("unit-b-%d", os.Getpid()), ipv6, ipv4)
	raise(t, a, 1)
	raise(t, b, 1)
	for _, p := range a.addr().all() {
		for _, q := range b.addr().all() {
			if p.Overlaps(q) {
				t.Errorf("%s overlaps %s", p, q)
			}
		}
	}
}

func TestMissingProgramsAreAllNamed(t *testing.T) {
	c := &cluster{bin: t.TempDir()}
	err := c.checkPrograms()
	if err == nil {
		t.Fatal("an empty folder has all programs")
	}
	for _, want := range []string{"etcd", "apiserver", "kubelet", "make build"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}

func dialFrom(c *cluster, n *node, to netip.Addr) error {
	return netns.Do(c.nodeNetns(n), func() error {
		conn, err := (&net.Dialer{Timeout: 500 * time.Millisecond}).Dial("tcp", netip.AddrPortFrom(to, 1).String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// refused means that packets went both ways.
func refused(err error) bool { return err != nil && strings.Contains(err.Error(), "refused") }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}
