package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"
)

// ActAsPlugin makes the test binary a CNI plugin when libcni starts it as one: TestMain calls it first. It writes down what it was asked, and
// fails if its configuration says so.
func ActAsPlugin() {
	command := os.Getenv("CNI_COMMAND")
	if command == "" {
		return
	}
	var conf struct {
		CNIVersion, Journal string
		Fail                bool
	}
	raw, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = json.Unmarshal(raw, &conf)
	}
	if err == nil {
		err = note(conf.Journal, fmt.Sprintf("%s %s %s %s\n", command, os.Getenv("CNI_CONTAINERID"), os.Getenv("CNI_IFNAME"), os.Getenv("CNI_NETNS")))
	}
	switch {
	case err != nil || conf.Fail && command == "ADD":
		fmt.Printf(`{"cniVersion":%q,"code":100,"msg":"plugin is ill"}`, conf.CNIVersion)
		os.Exit(1)
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

func TestInstalledConfigurationWins(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	conf, bin, journal := filepath.Join(dir, "conf"), filepath.Join(dir, "bin"), filepath.Join(dir, "journal")
	for _, d := range []string{conf, bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "fake")); err != nil {
		t.Fatal(err)
	}
	install := func(fail bool) {
		t.Helper()
		text := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"fake","journal":%q,"fail":%v}]}`, journal, fail)
		if err := os.WriteFile(filepath.Join(conf, "10-net.conflist"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inNamespace(t, func() {
		n := New(Config{CNIConfDir: conf, CNIBinDirs: []string{bin}, CNICacheDir: filepath.Join(dir, "cache")}, zaptest.NewLogger(t))
		if err := n.Ready(); !errors.Is(err, ErrNoPodCIDR) {
			t.Errorf("nothing installed: %v", err)
		}
		install(false)
		if err := n.Ready(); err != nil {
			t.Errorf("installed: %v", err)
		}
		if err := n.SetPodCIDRs(ctx, []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}); err != nil {
			t.Error(err)
		}
		if got := links(t); len(got) != 0 {
			t.Errorf("links %v beside a CNI network", got)
		}
		for range 2 { // the second answers from the cache
			a, err := n.Setup(ctx, Pod{Key: "pod-a", NetNS: "/some/netns"})
			if err != nil || a.IPs[0].String() != "10.99.0.9/24" || a.Gateways[0].String() != "10.99.0.1" {
				t.Errorf("got %+v, %v", a, err)
			}
		}
		// The pod is taken down as it was set up, though the configuration is gone.
		if err := os.Remove(filepath.Join(conf, "10-net.conflist")); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := n.Teardown(ctx, "/some/netns", "pod-a"); err != nil {
				t.Error(err)
			}
		}
		// A kubelet was killed before it knew that the pod was joined: it makes another namespace, which must be joined itself.
		install(false)
		for _, netns := range []string{"/lost/netns", "/new/netns"} {
			if _, err := n.Setup(ctx, Pod{Key: "pod-c", NetNS: netns}); err != nil {
				t.Error(err)
			}
		}
		if err := n.Teardown(ctx, "/new/netns", "pod-c"); err != nil {
			t.Error(err)
		}
		install(true)
		if _, err := n.Setup(ctx, Pod{Key: "pod-b", NetNS: "/some/netns"}); err == nil || !strings.Contains(err.Error(), "plugin is ill") {
			t.Errorf("a failing plugin: %v", err)
		}
		want := "ADD pod-a eth0 /some/netns\nDEL pod-a eth0 /some/netns\n" +
			"ADD pod-c eth0 /lost/netns\nDEL pod-c eth0 /lost/netns\nADD pod-c eth0 /new/netns\nDEL pod-c eth0 /new/netns\nADD pod-b eth0 /some/netns\nDEL pod-b eth0 /some/netns\n"
		if got, err := os.ReadFile(journal); err != nil || string(got) != want {
			t.Errorf("plugins were asked\n%s%v; want\n%s", got, err, want)
		}
		if err := os.WriteFile(filepath.Join(conf, "10-net.conflist"), []byte("{"), 0o600); err != nil {
			t.Error(err)
		}
		if err := n.Ready(); err == nil || errors.Is(err, ErrNoPodCIDR) {
			t.Errorf("a broken configuration: %v", err)
		}
	})
}
