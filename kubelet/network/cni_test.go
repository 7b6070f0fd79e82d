package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
)

// ActAsPlugin makes the test binary a CNI plugin when libcni starts it as one: TestMain calls it first. It writes down what it was asked, and
// fails or hangs if its configuration says so.
func ActAsPlugin() {
	command := os.Getenv("CNI_COMMAND")
	if command == "" {
		return
	}
	var conf struct {
		CNIVersion, Type, Journal string
		Fail, Hang                []string // at these commands
		Answer, RuntimeConfig     json.RawMessage
		PrevResult                json.RawMessage
		Valid                     json.RawMessage `json:"cni.dev/valid-attachments"`
	}
	raw, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = json.Unmarshal(raw, &conf)
	}
	if command == "VERSION" {
		fmt.Print(`{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}`)
		os.Exit(0)
	}
	if err == nil {
		line := command + " " + conf.Type
		for _, more := range []string{os.Getenv("CNI_CONTAINERID"), os.Getenv("CNI_IFNAME"), filepath.Base(os.Getenv("CNI_NETNS")), string(conf.RuntimeConfig), string(conf.Valid)} {
			if more != "" {
				line += " " + more
			}
		}
		if command == "ADD" {
			line += " " + os.Getenv("CNI_ARGS")
		}
		err = note(conf.Journal, line+"\n")
	}
	switch {
	case err != nil || slices.Contains(conf.Fail, command):
		fmt.Printf(`{"cniVersion":%q,"code":100,"msg":"plugin is ill"}`, conf.CNIVersion)
		os.Exit(1)
	case slices.Contains(conf.Hang, command):
		child := exec.Command("sleep", "1000") // holds the pipe
		child.Stdout = os.Stdout
		_ = child.Run() // it is killed with us
	case command == "ADD" && conf.Answer != nil:
		fmt.Print(string(conf.Answer))
	case command == "ADD" && conf.PrevResult != nil:
		fmt.Print(string(conf.PrevResult))
	case command == "ADD":
		fmt.Printf(`{"cniVersion":%q,"ips":[{"address":"fd00::9/64"},{"address":"10.99.0.9/24","gateway":"10.99.0.1"}]}`, conf.CNIVersion)
	}
	os.Exit(0)
}

func note(journal, line string) error {
	f, err := os.OpenFile(journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// installation is a folder of configurations and one of plugins.
type installation struct {
	t         *testing.T
	dir, file string
	config    Config
	plugins   []string
}

func install(t *testing.T, plugins ...string) *installation {
	t.Helper()
	i := &installation{t: t, dir: t.TempDir(), file: "10-net.conflist", plugins: plugins}
	i.config = Config{CNIConfDir: filepath.Join(i.dir, "conf"), CNIBinDirs: []string{filepath.Join(i.dir, "bin")}, CNICacheDir: filepath.Join(i.dir, "cache")}
	for _, d := range []string{i.config.CNIConfDir, i.config.CNIBinDirs[0], i.ns("")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range plugins {
		i.program(p)
	}
	return i
}

// program installs a plugin.
func (i *installation) program(name string) {
	i.t.Helper()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(i.config.CNIBinDirs[0], name))
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

// ns is the path of what the fake plugins take for a network namespace.
func (i *installation) ns(name string) string {
	path := filepath.Join(i.dir, "netns", name)
	if name != "" {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			i.t.Fatal(err)
		}
	}
	return path
}

// conf writes a list of all plugins, each with these settings.
func (i *installation) conf(version string, settings ...string) {
	i.t.Helper()
	var list []string
	for _, p := range i.plugins {
		parts := append([]string{fmt.Sprintf(`"type":%q,"journal":%q`, p, filepath.Join(i.dir, "journal"))}, settings...)
		list = append(list, "{"+strings.Join(parts, ",")+"}")
	}
	i.write(fmt.Sprintf(`{"cniVersion":%q,"name":"net","plugins":[%s]}`, version, strings.Join(list, ",")))
}

func (i *installation) write(text string) {
	i.t.Helper()
	if err := os.WriteFile(filepath.Join(i.config.CNIConfDir, i.file), []byte(text), 0o600); err != nil {
		i.t.Fatal(err)
	}
}

// asked checks what the plugins were asked since it was last called.
func (i *installation) asked(when string, want ...string) {
	i.t.Helper()
	journal := filepath.Join(i.dir, "journal")
	got, err := os.ReadFile(journal)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		i.t.Fatal(err)
	}
	_ = os.Remove(journal) // it may not be there
	if lines := strings.Split(strings.TrimSuffix(string(got), "\n"), "\n"); !slices.Equal(lines, append(want, []string{""}[:max(0, 1-len(want))]...)) {
		i.t.Errorf("%s: plugins were asked\n%s\nwant\n%s", when, strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

const argsOfA = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=uid-a;K8S_POD_UID=uid-a"

func TestInstalledConfigurationWins(t *testing.T) {
	ctx := context.Background()
	i := install(t, "one", "two")
	inNamespace(t, func() {
		n := New(i.config, zaptest.NewLogger(t))
		if err := n.Ready(); !errors.Is(err, ErrNoPodCIDR) {
			t.Errorf("nothing installed: %v", err)
		}
		i.conf("1.0.0")
		if err := n.Ready(); err != nil {
			t.Errorf("installed: %v", err)
		}
		if err := n.SetPodCIDRs(ctx, []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}); err != nil {
			t.Error(err)
		}
		if got := links(t); len(got) != 0 {
			t.Errorf("links %v beside a CNI network", got)
		}
		a := Pod{Key: "uid-a", Namespace: "ns", Name: "a", NetNS: i.ns("a")}
		setup := func(pod Pod) error {
			t.Helper()
			at, err := n.Setup(ctx, pod)
			if err == nil && (len(at.IPs) != 2 || at.IPs[0].String() != "10.99.0.9/24" || at.Gateways[0].String() != "10.99.0.1" || at.IPs[1].String() != "fd00::9/64") {
				t.Errorf("got %+v", at)
			}
			return err
		}
		down := func(pod Pod) {
			t.Helper()
			for range 2 { // the second has nothing to do
				if err := n.Teardown(ctx, pod.NetNS, pod.Key); err != nil {
					t.Error(err)
				}
			}
		}
		if err := setup(a); err != nil {
			t.Error(err)
		}
		i.asked("joined", "ADD one uid-a eth0 a "+argsOfA, "ADD two uid-a eth0 a "+argsOfA)
		if err := setup(a); err != nil {
			t.Error(err)
		}
		i.asked("joined already", "CHECK one uid-a eth0 a", "CHECK two uid-a eth0 a")

		// The pod is taken down as it was set up, though the configuration is gone.
		if err := os.Remove(filepath.Join(i.config.CNIConfDir, i.file)); err != nil {
			t.Error(err)
		}
		down(a)
		i.asked("taken down", "DEL two uid-a eth0 a", "DEL one uid-a eth0 a")

		// A kubelet was killed before it knew that the pod was joined: it makes another namespace, which must be joined itself. The old one is gone.
		i.conf("1.0.0")
		lost := a
		lost.NetNS = filepath.Join(i.dir, "lost")
		for _, pod := range []Pod{lost, a} {
			if err := setup(pod); err != nil {
				t.Error(err)
			}
		}
		down(a)
		i.asked("joined anew", "ADD one uid-a eth0 lost "+argsOfA, "ADD two uid-a eth0 lost "+argsOfA, "DEL two uid-a eth0 .", "DEL one uid-a eth0 .",
			"ADD one uid-a eth0 a "+argsOfA, "ADD two uid-a eth0 a "+argsOfA, "DEL two uid-a eth0 a", "DEL one uid-a eth0 a")

		// What is there is broken: it is made anew.
		if err := setup(a); err != nil {
			t.Error(err)
		}
		i.conf("1.0.0", `"fail":["CHECK"]`)
		if err := setup(a); err != nil {
			t.Error(err)
		}
		down(a)
		i.asked("mended", "ADD one uid-a eth0 a "+argsOfA, "ADD two uid-a eth0 a "+argsOfA, "CHECK one uid-a eth0 a", "DEL two uid-a eth0 a", "DEL one uid-a eth0 a",
			"ADD one uid-a eth0 a "+argsOfA, "ADD two uid-a eth0 a "+argsOfA, "DEL two uid-a eth0 a", "DEL one uid-a eth0 a")

		i.conf("1.0.0", `"fail":["ADD"]`)
		if err := setup(a); err == nil || !strings.Contains(err.Error(), "plugin is ill") {
			t.Errorf("a failing plugin: %v", err)
		}
		i.asked("failed", "ADD one uid-a eth0 a "+argsOfA, "DEL two uid-a eth0 a", "DEL one uid-a eth0 a")

		i.conf("1.0.0", `"hang":["ADD"]`)
		n.cni.patience = 5 * time.Second // others must be called, too, and are not quick with the race detector
		if err := setup(a); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "plugin one gave no answer within") {
			t.Errorf("a hanging plugin: %v", err)
		}
		n.cni.patience = pluginPatience
		down(a)
		i.asked("hung", "ADD one uid-a eth0 a "+argsOfA, "DEL two uid-a eth0 a", "DEL one uid-a eth0 a")
	})
}

// TestCapabilities: plugins get what they ask for, and only that.
func TestCapabilities(t *testing.T) {
	ctx := context.Background()
	i := install(t, "one")
	pod := Pod{Key: "uid-a", Namespace: "ns", Name: "a", NetNS: i.ns("a"), Bandwidth: Bandwidth{Ingress: 1000}, HostPorts: []HostPort{
		{Protocol: corev1.ProtocolTCP, Port: 8080, ContainerPort: 80}, {HostIP: netip.MustParseAddr("127.0.0.1"), Protocol: corev1.ProtocolUDP, Port: 53, ContainerPort: 53},
	}}
	inNamespace(t, func() {
		n := New(i.config, zaptest.NewLogger(t))
		for _, c := range []struct{ settings, runtime string }{
			{`"capabilities":{"mac":true}`, ""},
			{`"capabilities":{"portMappings":true,"bandwidth":false}`,
				` {"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"},{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"}]}`},
			{`"capabilities":{"bandwidth":true}`, ` {"bandwidth":{"ingressRate":1000,"ingressBurst":4294967295}}`},
		} {
			i.conf("1.0.0", c.settings)
			if _, err := n.Setup(ctx, pod); err != nil {
				t.Fatal(err)
			}
			if err := n.Teardown(ctx, pod.NetNS, pod.Key); err != nil {
				t.Fatal(err)
			}
			// What came out of the cache may be in another order.
			del := c.runtime
			if strings.Contains(del, "portMappings") {
				del = ` {"portMappings":[{"containerPort":80,"hostPort":8080,"protocol":"tcp"},{"containerPort":53,"hostIP":"127.0.0.1","hostPort":53,"protocol":"udp"}]}`
			} else if del != "" {
				del = ` {"bandwidth":{"ingressBurst":4294967295,"ingressRate":1000}}`
			}
			i.asked(c.settings, "ADD one uid-a eth0 a"+c.runtime+" "+argsOfA, "DEL one uid-a eth0 a"+del)
		}
		i.conf("1.0.0", `"capabilities":{"ipRanges":true}`)
		if _, err := n.Setup(ctx, pod); !errors.Is(err, ErrNoPodCIDR) || !errors.Is(n.Ready(), ErrNoPodCIDR) {
			t.Errorf("no ranges yet: %v, %v", err, n.Ready())
		}
		n.cni.setRanges([]netip.Prefix{netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd44::/64")})
		if _, err := n.Setup(ctx, pod); err != nil || n.Ready() != nil {
			t.Fatal(err, n.Ready())
		}
		i.asked("ranges", `ADD one uid-a eth0 a {"ipRanges":[[{"subnet":"10.244.7.0/24"}],[{"subnet":"fd44::/64"}]]} `+argsOfA)
		if err := n.Teardown(ctx, pod.NetNS, pod.Key); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAddressesOfAPod: one a family, inside the pod, in the cluster's order.
func TestAddressesOfAPod(t *testing.T) {
	ctx := context.Background()
	i := install(t, "one")
	v4, v6 := netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd44::/64")
	inNamespace(t, func() {
		for name, c := range map[string]struct {
			node   string
			ranges []netip.Prefix
			answer string
			want   string
		}{
			"as given":                    {"", nil, `"ips":[{"address":"fd00::9/64"},{"address":"10.99.0.9/24"}]`, "[fd00::9/64 10.99.0.9/24]"},
			"as the node":                 {"10.0.0.1", nil, `"ips":[{"address":"fd00::9/64"},{"address":"10.99.0.9/24"}]`, "[10.99.0.9/24 fd00::9/64]"},
			"as the ranges":               {"10.0.0.1", []netip.Prefix{v6, v4}, `"ips":[{"address":"10.99.0.9/24"},{"address":"fd00::9/64"}]`, "[fd00::9/64 10.99.0.9/24]"},
			"as the other ranges":         {"fd00::1", []netip.Prefix{v4, v6}, `"ips":[{"address":"10.99.0.9/24"},{"address":"fd00::9/64"}]`, "[10.99.0.9/24 fd00::9/64]"},
			"one a family":                {"", nil, `"ips":[{"address":"10.99.0.9/24"},{"address":"10.99.0.10/24"}]`, "[10.99.0.9/24]"},
			"the node's own is not meant": {"", nil, `"interfaces":[{"name":"br"},{"name":"eth0","sandbox":"/ns"}],"ips":[{"interface":0,"address":"10.99.0.1/24"},{"interface":1,"address":"10.99.0.9/24"}]`, "[10.99.0.9/24]"},
			"none":                        {"", nil, `"ips":[]`, "CNI plugins gave no address"},
		} {
			i.conf("1.0.0", `"answer":{"cniVersion":"1.0.0",`+c.answer+`}`)
			if i.config.NodeIP = (netip.Addr{}); c.node != "" {
				i.config.NodeIP = netip.MustParseAddr(c.node)
			}
			n := New(i.config, zaptest.NewLogger(t))
			n.cni.setRanges(c.ranges)
			at, err := n.Setup(ctx, Pod{Key: "uid-a", NetNS: i.ns("a")})
			got := fmt.Sprint(at.IPs)
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%s: got %s, want %s", name, got, c.want)
			}
			if err := n.Teardown(ctx, i.ns("a"), "uid-a"); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPluginsGiveTheAddressOfAnother: of a pod that was joined before the configuration was there.
func TestPluginsGiveTheAddressOfAnother(t *testing.T) {
	i := install(t, "one")
	i.conf("1.0.0")
	inNamespace(t, func() {
		n := New(i.config, zaptest.NewLogger(t))
		n.Restore([]Held{{PodKey: "uid-a", IP: netip.MustParseAddr("10.99.0.9")}})
		if _, err := n.Setup(t.Context(), Pod{Key: "uid-b", NetNS: i.ns("b")}); err == nil || !strings.Contains(err.Error(), "gave the address 10.99.0.9, which pod uid-a has") {
			t.Errorf("got %v", err)
		}
		var want []string
		for range strangeTries {
			want = append(want, "ADD one uid-b eth0 b "+strings.NewReplacer("uid-a", "uid-b", "=ns", "=", "NAME=a", "NAME=").Replace(argsOfA), "DEL one uid-b eth0 b")
		}
		i.asked("each is given back", want...)
		if _, err := n.Setup(t.Context(), Pod{Key: "uid-a", NetNS: i.ns("a")}); err != nil {
			t.Errorf("its own: %v", err)
		}
	})
}
