package network_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/network"
)

func TestMain(m *testing.M) {
	network.ActAsPlugin()
	os.Exit(nodetest.Main(m))
}

// TestPodsOnANode joins the rooms below the pod workers as main does: two pods in the network of a node, one fetches from the other; a restart
// remembers addresses; nothing remains.
func TestPodsOnANode(t *testing.T) {
	ctx := context.Background()
	log := zaptest.NewLogger(t)
	daemon := nodetest.StartContainerd(t)
	cfg := containers.Config{Address: daemon.Address, StateDir: daemon.Dir}
	rt := containers.New(cfg, nil, log)
	if err := rt.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := images.New(images.Config{}, rt, log).Import(ctx, nodetest.Archive(t, nodetest.Image)); err != nil {
		t.Fatal(err)
	}
	cidr := netip.MustParsePrefix("10.244.3.0/24")
	net := network.New(network.Config{}, log)
	if err := net.SetPodCIDRs(ctx, []netip.Prefix{cidr}); err != nil {
		t.Fatal(err)
	}
	pod := func(net *network.Network, uid string) (containers.Sandbox, string) {
		t.Helper()
		s, err := rt.CreateSandbox(ctx, containers.SandboxSpec{
			PodUID:   uid,
			Hostname: uid,
			Sysctls:  map[string]string{"net.ipv4.ip_unprivileged_port_start": "77", "net.ipv4.conf.default.accept_redirects": "0"},
			Connect: func(ctx context.Context, netns string) ([]netip.Addr, error) {
				a, err := net.Setup(ctx, network.Pod{Key: uid, NetNS: netns})
				return a.Addresses(), err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		id, err := rt.CreateContainer(ctx, containers.ContainerSpec{SandboxID: s.ID, Name: "c", Image: nodetest.Image, Args: []string{"sleep", "1000"}, CgroupParent: nodetest.CgroupRoot(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := rt.StartContainer(ctx, id); err != nil {
			t.Fatal(err)
		}
		return s, id
	}
	exec := func(id string, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if code, err := rt.Exec(ctx, id, containers.ExecSpec{Args: args, Stdout: &out, Stderr: &out}); err != nil || code != 0 {
			t.Fatalf("%v: code %d, %v, %s", args, code, err, out.String())
		}
		return out.String()
	}
	one, inOne := pod(net, "one")
	// What the pod asked for is so in its namespace, and on the link that was made there afterwards.
	for _, name := range []string{"ip_unprivileged_port_start", "conf/eth0/accept_redirects"} {
		if got, want := strings.TrimSpace(exec(inOne, "cat", "/proc/sys/net/ipv4/"+name)), map[bool]string{true: "77", false: "0"}[name[0] == 'i']; got != want {
			t.Errorf("%s is %s in the pod, want %s", name, got, want)
		}
	}
	two, inTwo := pod(net, "two")
	for id, ip := range map[string]netip.Addr{inOne: two.IPs[0], inTwo: one.IPs[0]} {
		if out := exec(id, "ping", "-c", "1", "-W", "5", ip.String()); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("ping %s: %s", ip, out)
		}
	}

	// The next kubelet knows only what the records say.
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	rt = containers.New(cfg, nil, log)
	if err := rt.Open(ctx); err != nil {
		t.Fatal(err)
	}
	l, err := rt.List(ctx)
	if err != nil || len(l.Sandboxes) != 2 {
		t.Fatalf("after restart: %+v, %v", l, err)
	}
	net = network.New(network.Config{}, log)
	for _, s := range l.Sandboxes {
		net.Restore([]network.Held{{PodKey: s.PodUID, IP: s.IPs[0], NetNS: s.NetNS}})
	}
	if err := net.SetPodCIDRs(ctx, []netip.Prefix{cidr}); err != nil {
		t.Fatal(err)
	}
	three, inThree := pod(net, "three")
	if three.IPs[0] == one.IPs[0] || three.IPs[0] == two.IPs[0] {
		t.Fatalf("address %s was given twice", three.IPs[0])
	}
	exec(inThree, "ping", "-c", "1", "-W", "5", one.IPs[0].String())

	for _, s := range []containers.Sandbox{one, two, three} {
		if err := net.Teardown(ctx, s.NetNS, s.PodUID); err != nil {
			t.Error(err)
		}
		if err := rt.RemoveSandbox(ctx, s.ID); err != nil {
			t.Error(err)
		}
	}
	if err := net.Remove(ctx); err != nil {
		t.Error(err)
	}
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) { // other tests make links too
		links, err = netlink.LinkList()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Type() == "veth" || l.Type() == "bridge" {
			t.Errorf("link %s remains", l.Attrs().Name)
		}
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
}
