package network_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/network"
)

// debianPlugins is where Debian's package containernetworking-plugins puts them.
const debianPlugins = "/usr/lib/cni"

// TestPodsOfCNIPlugins joins pods by Debian's plugins: two pods reach each other, the node reaches one by its host port, a bounded one is bounded, and
// when they are gone nothing of them is there.
func TestPodsOfCNIPlugins(t *testing.T) {
	ctx := context.Background()
	log := zaptest.NewLogger(t)
	daemon := nodetest.StartContainerd(t)
	rt := containers.New(containers.Config{Address: daemon.Address, StateDir: daemon.Dir}, nil, log)
	if err := rt.Open(ctx); err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	if _, err := images.New(images.Config{}, rt, log).Import(ctx, nodetest.Archive(t, nodetest.Image)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"debian","plugins":[
		{"type":"bridge","bridge":"cni0","isGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","dataDir":%q,"routes":[{"dst":"0.0.0.0/0"}]},"capabilities":{"ipRanges":true}},
		{"type":"portmap","snat":true,"capabilities":{"portMappings":true}},
		{"type":"bandwidth","capabilities":{"bandwidth":true}}]}`, filepath.Join(dir, "addresses"))
	cfg := network.Config{CNIConfDir: filepath.Join(dir, "net.d"), CNIBinDirs: []string{filepath.Join(dir, "bin"), debianPlugins}, CNICacheDir: filepath.Join(dir, "cache")}
	if err := os.Mkdir(cfg.CNIConfDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.CNIConfDir, "10-debian.conflist"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	n := network.New(cfg, log)
	if err := n.Ready(); !errors.Is(err, network.ErrNoPodCIDR) {
		t.Errorf("without a range: %v", err)
	}
	if err := n.SetPodCIDRs(ctx, []netip.Prefix{netip.MustParsePrefix("10.244.9.0/24")}); err != nil {
		t.Fatal(err)
	}
	if err := n.Ready(); err != nil {
		t.Fatal(err)
	}
	start := func(spec network.Pod, args ...string) (containers.Sandbox, string) {
		t.Helper()
		s, err := rt.CreateSandbox(ctx, containers.SandboxSpec{PodUID: spec.Key, Hostname: spec.Name, Connect: func(ctx context.Context, netns string) ([]netip.Addr, error) {
			spec.NetNS = netns
			at, err := n.Setup(ctx, spec)
			return at.Addresses(), err
		}})
		if err != nil {
			t.Fatal(err)
		}
		id, err := rt.CreateContainer(ctx, containers.ContainerSpec{SandboxID: s.ID, Name: "c", Image: nodetest.Image, Args: args, CgroupParent: nodetest.CgroupRoot(t)})
		if err == nil {
			err = rt.StartContainer(ctx, id)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s, id
	}
	port := network.HostPort{Protocol: corev1.ProtocolTCP, Port: 18080, ContainerPort: 80}
	one, inOne := start(network.Pod{Key: "uid-one", Namespace: "ns", Name: "one", HostPorts: []network.HostPort{port}, Bandwidth: network.Bandwidth{Ingress: 10e6, Egress: 10e6}},
		"sh", "-c", "while nc -l -p 80 -e hostname; do :; done")
	two, inTwo := start(network.Pod{Key: "uid-two", Namespace: "ns", Name: "two"}, "sleep", "1000")
	for id, ip := range map[string]netip.Addr{inOne: two.IPs[0], inTwo: one.IPs[0]} {
		var out bytes.Buffer
		code, err := rt.Exec(ctx, id, containers.ExecSpec{Args: []string{"ping", "-c", "1", "-W", "5", ip.String()}, Stdout: &out, Stderr: &out})
		if err != nil || code != 0 {
			t.Errorf("ping %s: code %d, %v, %s", ip, code, err, out.String())
		}
	}
	bounds := 0
	for _, l := range must(netlink.LinkList()) {
		for _, q := range must(netlink.QdiscList(l)) {
			if tbf, ok := q.(*netlink.Tbf); ok && tbf.Rate == 10e6/8 {
				bounds++
			}
		}
	}
	if bounds != 2 { // a way each
		t.Errorf("%d ways are bounded", bounds)
	}
	var text []byte
	for try := 0; try < 100 && text == nil; try++ { // until the container listens
		c, err := net.Dial("tcp", "127.0.0.1:18080")
		if err != nil {
			continue
		}
		text, err = io.ReadAll(c)
		if err != nil || len(text) == 0 {
			text = nil
		}
		c.Close()
	}
	if strings.TrimSpace(string(text)) != "one" {
		t.Errorf("the host port answers %q", text)
	}

	for _, s := range []containers.Sandbox{one, two} {
		if err := n.Teardown(ctx, s.NetNS, s.PodUID); err != nil {
			t.Error(err)
		}
		if err := rt.RemoveSandbox(ctx, s.ID); err != nil {
			t.Error(err)
		}
	}
	held, err := filepath.Glob(filepath.Join(dir, "addresses", "debian", "10.244.9.*"))
	if err != nil || len(held) > 0 {
		t.Errorf("addresses %v are not free, %v", held, err)
	}
	if known, err := os.ReadDir(filepath.Join(cfg.CNICacheDir, "results")); err != nil || len(known) > 0 {
		t.Errorf("the cache knows %v, %v", known, err)
	}
	if c, err := net.Dial("tcp", "127.0.0.1:18080"); err == nil {
		c.Close()
		t.Error("the host port is open")
	}
	for _, l := range must(netlink.LinkList()) {
		if l.Type() == "veth" || l.Type() == "ifb" {
			t.Errorf("link %s remains", l.Attrs().Name)
		}
		if l.Attrs().Name == "cni0" { // the plugins' own, which they keep
			if err := netlink.LinkDel(l); err != nil {
				t.Error(err)
			}
		}
	}
}

// must gives a list of the kernel's, read again while it changed under the reading.
func must[T any](list []T, err error) []T {
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		panic(err)
	}
	return list
}
