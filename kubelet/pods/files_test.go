package pods

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
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
			got, _, err := tc.dns.resolvConf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: tc.spec})
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestResolvConfWarns(t *testing.T) {
	const node = "search .\nnameserver 127.0.0.1\n"
	long := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("%02d.%s.example", i, strings.Repeat("x", 50)))
		}
		return list
	}
	own := func(c corev1.PodDNSConfig) corev1.PodSpec {
		return corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &c}
	}
	servers := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}
	for _, tc := range []struct {
		name   string
		spec   corev1.PodSpec
		want   []warning
		starts string
	}{
		{"no name server of the cluster", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, []warning{{"MissingClusterDNS",
			`pod: "a_shop(u)". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`}}, node},
		{"the same on the node's network", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, nil, node},
		{"servers", own(corev1.PodDNSConfig{Nameservers: servers}), []warning{{"DNSConfigForming",
			"Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 192.0.2.1 192.0.2.2 192.0.2.3"}},
			"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"},
		{"as many servers as can be", own(corev1.PodDNSConfig{Nameservers: servers[:3], Searches: long(32)}), nil, "search 00."},
		{"search paths", own(corev1.PodDNSConfig{Searches: long(33)}), []warning{{"DNSConfigForming",
			"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join(long(32), " ")}}, "search " + strings.Join(long(32), " ") + "\n"},
		{"a search path that nobody could read", own(corev1.PodDNSConfig{Searches: []string{strings.Repeat("x", 254), "a.b"}}), []warning{{"DNSConfigForming",
			"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: a.b"}}, "search a.b\n"},
		{"search characters", own(corev1.PodDNSConfig{Searches: []string{strings.Repeat("a", 250), strings.Repeat("b", 250), strings.Repeat("c", 250), strings.Repeat("d", 250),
			strings.Repeat("e", 250), strings.Repeat("f", 250), strings.Repeat("g", 250), strings.Repeat("h", 250), "i.j", strings.Repeat("k", 50)}}),
			[]warning{{"DNSConfigForming", "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join([]string{
				strings.Repeat("a", 250), strings.Repeat("b", 250), strings.Repeat("c", 250), strings.Repeat("d", 250),
				strings.Repeat("e", 250), strings.Repeat("f", 250), strings.Repeat("g", 250), strings.Repeat("h", 250), "i.j"}, " ")}}, "search aaa"},
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a", UID: "u"}, Spec: tc.spec}
		got, warnings, err := DNS{}.resolvConf(p)
		if err != nil || !reflect.DeepEqual(warnings, tc.want) || !strings.HasPrefix(got, tc.starts) {
			t.Errorf("%s: %q, %q, %v", tc.name, got, warnings, err)
		}
	}
}

func TestHosts(t *testing.T) {
	spec := func(change func(*corev1.PodSpec)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0"}, Spec: corev1.PodSpec{
			Subdomain: "web", HostAliases: []corev1.HostAlias{{IP: "192.0.2.7", Hostnames: []string{"a", "b"}}}}}
		change(&p.Spec)
		return p
	}
	const aliases = "\n# Entries added by HostAliases.\n192.0.2.7\ta\tb\n"
	both := []netip.Addr{netip.MustParseAddr("10.244.0.7"), netip.MustParseAddr("fd00::7")}
	for name, tc := range map[string]struct {
		pod       *corev1.Pod
		want, not []string
	}{
		"with a subdomain": {spec(func(*corev1.PodSpec) {}), []string{"# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n",
			"10.244.0.7\tweb-0.web.shop.svc.cluster.local\tweb-0\nfd00::7\tweb-0.web.shop.svc.cluster.local\tweb-0\n", aliases}, nil},
		"a hostname":         {spec(func(s *corev1.PodSpec) { s.Hostname = "other" }), []string{"10.244.0.7\tother.web.shop.svc.cluster.local\tother\n"}, []string{"web-0"}},
		"without one":        {spec(func(s *corev1.PodSpec) { s.Subdomain = "" }), []string{"10.244.0.7\tweb-0\n"}, []string{"shop"}},
		"an overridden name": {spec(func(s *corev1.PodSpec) { s.HostnameOverride = new("x.example") }), []string{"10.244.0.7\tx.example\n"}, []string{"shop", "web-0"}},
		"on the node's network": {spec(func(s *corev1.PodSpec) { s.HostNetwork = true }), []string{"# Kubernetes-managed hosts file (host network).\n", aliases},
			[]string{"10.244.0.7", "web-0"}},
	} {
		got := hosts(tc.pod, both, "cluster.local")
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, got)
			}
		}
		for _, not := range tc.not {
			if strings.Contains(got, not) {
				t.Errorf("%s: %q is in\n%s", name, not, got)
			}
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
	node, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spec  corev1.PodSpec
		want  string
		fails string
	}{
		"its own":               {corev1.PodSpec{}, "a", ""},
		"a hostname":            {corev1.PodSpec{Hostname: "b", Subdomain: "web"}, "b", ""},
		"the whole name":        {corev1.PodSpec{Subdomain: "web", SetHostnameAsFQDN: new(true)}, "a.web.shop.svc.cluster.local", ""},
		"no subdomain":          {corev1.PodSpec{SetHostnameAsFQDN: new(true)}, "a", ""},
		"overridden":            {corev1.PodSpec{Subdomain: "web", HostnameOverride: new(strings.Repeat("o", 64))}, strings.Repeat("o", 64), ""},
		"on the node's network": {corev1.PodSpec{HostNetwork: true, Subdomain: "web", SetHostnameAsFQDN: new(true)}, node, ""},
		"exactly what can be":   {corev1.PodSpec{Subdomain: strings.Repeat("s", 64-len("a..shop.svc.cluster.local")), SetHostnameAsFQDN: new(true)}, "a." + strings.Repeat("s", 39) + ".shop.svc.cluster.local", ""},
		"longer than it can be": {corev1.PodSpec{Subdomain: strings.Repeat("s", 40), SetHostnameAsFQDN: new(true)}, "",
			"FQDN a." + strings.Repeat("s", 40) + ".shop.svc.cluster.local is too long (64 characters is the max, 65 characters requested)"},
	} {
		got, err := kernelName(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "shop"}, Spec: tc.spec}, "cluster.local")
		if got != tc.want || (err != nil) != (tc.fails != "") || err != nil && !strings.HasSuffix(err.Error(), tc.fails) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
