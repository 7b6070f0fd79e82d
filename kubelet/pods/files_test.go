package pods

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestResolvConf(t *testing.T) {
	own := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(own, []byte("# node\nnameserver 192.0.2.53\nsearch example.org\noptions timeout:1 ndots:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cluster := DNS{Cluster: []string{"10.96.0.10"}, Domain: "cluster.local", NodeFile: own}
	const node = "search example.org\nnameserver 192.0.2.53\noptions timeout:1 ndots:2\n"
	for _, tc := range []struct {
		name string
		dns  DNS
		spec corev1.PodSpec
		want string
	}{
		{"cluster first", cluster, corev1.PodSpec{}, "search shop.svc.cluster.local svc.cluster.local cluster.local example.org\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{"default", cluster, corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, node},
		{"on the node's network", cluster, corev1.PodSpec{HostNetwork: true, DNSPolicy: corev1.DNSClusterFirst}, node},
		{"on the node's network, asked for", cluster, corev1.PodSpec{HostNetwork: true, DNSPolicy: corev1.DNSClusterFirstWithHostNet}, "search shop.svc.cluster.local svc.cluster.local cluster.local example.org\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{"no cluster DNS", DNS{NodeFile: own}, corev1.PodSpec{}, node},
		{"none but its own", cluster, corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}, Searches: []string{"a.b"}}}, "search a.b\nnameserver 192.0.2.1\n"},
		{"an option is replaced", cluster, corev1.PodSpec{DNSConfig: &corev1.PodDNSConfig{Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}, {Name: "edns0"}}}},
			"search shop.svc.cluster.local svc.cluster.local cluster.local example.org\nnameserver 10.96.0.10\noptions ndots:2 edns0\n"},
		{"no file on the node", DNS{NodeFile: own + ".none"}, corev1.PodSpec{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.dns.resolvConf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: tc.spec})
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0"}, Spec: corev1.PodSpec{
		Subdomain: "web", HostAliases: []corev1.HostAlias{{IP: "192.0.2.7", Hostnames: []string{"a", "b"}}}}}
	got := hosts(p, []netip.Addr{netip.MustParseAddr("10.244.0.7")}, "cluster.local")
	for _, want := range []string{"127.0.0.1\tlocalhost\n", "10.244.0.7\tweb-0.web.shop.svc.cluster.local\tweb-0\n", "192.0.2.7\ta\tb\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("x", 62) + ".y" + strings.Repeat("z", 20)
	for name, want := range map[string]string{"web-0": "web-0", long: strings.Repeat("x", 62)} {
		if got := hostname(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := hostname(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.PodSpec{Hostname: "b"}}); got != "b" {
		t.Errorf("got %s", got)
	}
}
