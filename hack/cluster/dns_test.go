package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestDNSObjects(t *testing.T) {
	for name, tt := range map[string]struct {
		address  string
		uplink   bool
		has, not string
	}{
		"closed":                 {"10.97.0.10", false, "rcode NXDOMAIN", "forward"},
		"with a way out":         {"10.96.0.10", true, "forward . /etc/resolv.conf", "template"},
		"of IPv6 addresses only": {"fd00::a", false, "rcode NXDOMAIN", "forward"},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := dnsObjects(netip.MustParseAddr(tt.address), tt.uplink)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			corefile, address := "", ""
			for _, o := range objects {
				kinds = append(kinds, o.GetKind())
				switch o.GetKind() {
				case "ConfigMap":
					corefile, _, _ = unstructured.NestedString(o.Object, "data", "Corefile")
				case "Service":
					address, _, _ = unstructured.NestedString(o.Object, "spec", "clusterIP")
				}
			}
			// An account before its pods, or these wait for it.
			want := []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment"}
			if !slices.Equal(kinds, want) {
				t.Errorf("kinds are %v, want %v", kinds, want)
			}
			if address != tt.address {
				t.Errorf("the address is %q, want %q", address, tt.address)
			}
			if !strings.Contains(corefile, tt.has) || strings.Contains(corefile, tt.not) {
				t.Errorf("the Corefile has no %q, or %q:\n%s", tt.has, tt.not, corefile)
			}
		})
	}
}

// The manifest names the version that is built.
func TestDNSImage(t *testing.T) {
	objects, err := dnsObjects(netip.MustParseAddr("10.96.0.10"), false)
	if err != nil {
		t.Fatal(err)
	}
	image, err := dnsImage(objects)
	if err != nil {
		t.Fatal(err)
	}
	name, version, _ := strings.Cut(image, ":")
	mod, err := os.ReadFile("../tools/coredns/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if name != "pilothouse/coredns" || !strings.Contains(string(mod), "require github.com/coredns/coredns v"+version+"\n") {
		t.Errorf("the manifest has the image %s, and go.mod says\n%s", image, mod)
	}
}

func TestResolvConf(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	asked, none := write("asked", "nameserver 192.0.2.1\n"), filepath.Join(dir, "none")
	stub := write("stub", "# by systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n")
	mixed := write("mixed", "nameserver 127.0.0.1\nnameserver 192.0.2.2\n")
	for name, tt := range map[string]struct{ first, second, want string }{
		"this machine alone":         {stub, asked, asked},
		"this machine, and no other": {stub, none, stub},
		"this machine and another":   {mixed, asked, mixed},
		"no file":                    {none, asked, none},
	} {
		if got := resolvConf(tt.first, tt.second); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}
