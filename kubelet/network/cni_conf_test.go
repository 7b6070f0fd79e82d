package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"
)

const notReady = "NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized: "

// TestWhichConfigurationCounts: the first file by name that could be one; a broken one is told of, and no other is taken instead.
func TestWhichConfigurationCounts(t *testing.T) {
	const list = `{"cniVersion":"1.0.0","name":"listed","plugins":[{"type":"one"}]}`
	for name, c := range map[string]struct {
		files map[string]string
		name  string // of the network
		err   string // with DIR for the folder
	}{
		"none":                     {},
		"a list":                   {files: map[string]string{"10-a.conflist": list}, name: "listed"},
		"one plugin":               {files: map[string]string{"10-a.conf": `{"cniVersion":"0.4.0","name":"single","type":"one"}`, "20-b.conflist": list}, name: "single"},
		"as json":                  {files: map[string]string{"10-a.json": `{"name":"single","type":"one"}`}, name: "single"},
		"others are none":          {files: map[string]string{"05-a.conflist.tmp": "{", "06-a.txt": "{", "10-a.conflist": list}, name: "listed"},
		"broken":                   {files: map[string]string{"05-a.conflist": "{", "10-a.conflist": list}, err: "failed to load CNI config file DIR/05-a.conflist: error parsing configuration list: unexpected end of JSON input"},
		"no plugin":                {files: map[string]string{"10-a.conf": list}, err: "failed to load CNI config file DIR/10-a.conf: error parsing configuration: missing 'type'"},
		"no name":                  {files: map[string]string{"10-a.conf": `{"type":"one"}`}, err: "failed to load CNI config file DIR/10-a.conf: error parsing configuration: missing 'name'"},
		"a plugin is missing":      {files: map[string]string{"10-a.conflist": `{"name":"n","plugins":[{"type":"one"},{"type":"two"}]}`}, err: `failed to find plugin "two" in path [BIN]`},
		"address plugin, likewise": {files: map[string]string{"10-a.conflist": `{"name":"n","plugins":[{"type":"one","ipam":{"type":"pool"}}]}`}, err: `failed to find plugin "pool" in path [BIN]`},
	} {
		t.Run(name, func(t *testing.T) {
			i := install(t, "one")
			for file, text := range c.files {
				i.file = file
				i.write(text)
			}
			n := New(i.config, zaptest.NewLogger(t))
			want := notReady + strings.NewReplacer("DIR", i.config.CNIConfDir, "BIN", i.config.CNIBinDirs[0]).Replace(c.err)
			err := n.Ready()
			switch {
			case c.err != "":
				if err == nil || err.Error() != want {
					t.Errorf("got  %v\nwant %s", err, want)
				}
				if _, err := n.Setup(context.Background(), Pod{Key: "uid-a"}); !errors.Is(err, errNotInitialized) {
					t.Errorf("a pod was given %v", err)
				}
			case c.name == "":
				if !errors.Is(err, ErrNoPodCIDR) {
					t.Errorf("got %v", err)
				}
			default:
				if list, err2 := n.cni.installed(); err != nil || err2 != nil || list.Name != c.name {
					t.Errorf("got %+v, %v, %v", list, err, err2)
				}
			}
		})
	}
}

// TestLeftovers: what pods left that are no more is given up at the start.
func TestLeftovers(t *testing.T) {
	i := install(t, "one")
	ctx := context.Background()
	before := New(i.config, zaptest.NewLogger(t))
	i.conf("1.1.0")
	for _, pod := range []string{"lives", "died"} {
		if _, err := before.Setup(ctx, Pod{Key: pod, NetNS: i.ns(pod)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(i.dir, "journal")); err != nil {
		t.Fatal(err)
	}
	n := New(i.config, zaptest.NewLogger(t))
	n.Restore([]Held{{PodKey: "lives"}})
	living := <-n.cni.known
	i.write("{")
	if n.sweep(ctx, living) {
		t.Error("all is said to be done with a broken configuration")
	}
	i.asked("undone by what the cache knows", "DEL one died eth0 died")
	i.conf("1.1.0")
	if !n.sweep(ctx, living) {
		t.Error("not all is done")
	}
	i.asked("garbage", `GC one . [{"containerID":"lives","ifname":"eth0"}]`)
	i.conf("1.0.0")
	if !n.sweep(ctx, living) {
		t.Error("not all is done")
	}
	i.asked("of a version that cannot")
}

// TestFollow: a configuration that comes, breaks, is mended and goes is heard of, without a restart.
func TestFollow(t *testing.T) {
	i := install(t, "one")
	i.conf("1.1.0")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := New(i.config, zaptest.NewLogger(t))
	changed := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() { done <- n.Follow(ctx, func() { changed <- struct{}{} }) }()
	until := func(what string, ok func(error) bool) {
		t.Helper()
		for {
			if ok(n.Ready()) {
				return
			}
			select {
			case <-changed:
			case err := <-done:
				t.Fatalf("%s: following ended: %v", what, err)
			case <-t.Context().Done():
				t.Fatalf("%s: %v", what, n.Ready())
			}
		}
	}
	fine := func(err error) bool { return err == nil }
	says := func(text string) func(error) bool {
		return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
	}
	until("at first", fine)
	i.write("{")
	until("broken", says("unexpected end of JSON input"))
	i.plugins = append(i.plugins, "two")
	i.conf("1.1.0")
	until("with a plugin that is missing", says(`failed to find plugin "two"`))
	i.program("two")
	until("installed", fine)
	i.conf("1.1.0", `"fail":["STATUS"]`)
	until("the plugin says that it is ill", says("cni plugin not initialized: plugin is ill"))
	i.conf("1.1.0")
	until("it is well again", fine)
	if err := os.Remove(filepath.Join(i.config.CNIConfDir, i.file)); err != nil {
		t.Fatal(err)
	}
	until("gone", func(err error) bool { return errors.Is(err, ErrNoPodCIDR) })

	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
