package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kube-proxy/testnet"
	"pilothouse.dev/pkg/testcluster"
)

func ptr[T any](v T) *T { return &v }

// daemonAt runs the whole daemon for a node: API by a real API server, rules in
// the node's namespace.
func daemonAt(t *testing.T, n *testnet.Net, kubeconfig string) {
	_, stop := daemonOf(t, n, kubeconfig, testnet.PodCIDR.String())
	t.Cleanup(stop)
}

// daemonOf runs it for ranges of pods, until stopped.
func daemonOf(t *testing.T, n *testnet.Net, kubeconfig, pods string) (cfg Config, stop func()) {
	cfg = Config{
		Kubeconfig: kubeconfig, NodeName: "n1", ClusterCIDR: pods, MetricsAddress: freeAddress(t), HealthzAddress: freeAddress(t),
		SyncPeriod: time.Second, MinSyncPeriod: time.Millisecond, MasqueradeEgress: true, MasqueradeBit: 14, netns: int(n.Node.NS),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, cfg, zaptest.NewLogger(t)) }()
	return cfg, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	}
}

func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	var last error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if last = ok(); last == nil {
			return
		}
	}
	t.Fatalf("never: %s: %v", what, last)
}

// A Service's life, as its callers see it, with the API server away in between.
func TestFromAPIToPacket(t *testing.T) {
	c := testcluster.Start(t)
	n := testnet.New(t, 3)
	for _, p := range n.Pods {
		p.Serve(t, 8080)
	}
	ctx := t.Context()
	api := c.Kube

	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	node, err := api.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: testnet.NodeIP.String()}}
	if _, err := api.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	svc, err := api.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	clusterAt := netip.AddrPortFrom(netip.MustParseAddr(svc.Spec.ClusterIP), 80)
	nodeAt := netip.AddrPortFrom(testnet.NodeIP, uint16(svc.Spec.Ports[0].NodePort))

	daemonAt(t, n, c.Kubeconfig("system:kube-proxy", "system:node-proxier"))

	refused := func(at netip.AddrPort) func() error {
		return func() error {
			if _, err := n.Pods[0].Call("tcp", at); !testnet.Refused(err) {
				return errors.Join(errors.New("want a refusal"), err)
			}
			return nil
		}
	}
	answeredBy := func(at netip.AddrPort, want ...testnet.Place) func() error {
		return func() error {
			seen := map[string]bool{}
			for range 20 * len(want) {
				a, err := n.Host.Call("tcp", at)
				if err != nil {
					return err
				}
				seen[a.From] = true
			}
			for _, p := range want {
				if !seen[p.Name] {
					return errors.New(p.Name + " does not answer")
				}
			}
			if len(seen) != len(want) {
				return errors.New("others answer, too")
			}
			return nil
		}
	}

	eventually(t, "a service without endpoints refuses", refused(clusterAt))
	eventually(t, "so does its node port", refused(nodeAt))

	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr[int32](8080), Protocol: ptr(corev1.ProtocolTCP)}},
	}
	for i, p := range n.Pods {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.IP.String()}, NodeName: ptr("n1"), Conditions: discoveryv1.EndpointConditions{Ready: ptr(i < 2)},
		})
	}
	slices := api.DiscoveryV1().EndpointSlices("default")
	if slice, err = slices.Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ready endpoints answer the cluster IP", answeredBy(clusterAt, n.Pods[0], n.Pods[1]))
	eventually(t, "and the node port", answeredBy(nodeAt, n.Pods[0], n.Pods[1]))

	slice.Endpoints[0].Conditions.Ready, slice.Endpoints[2].Conditions.Ready = ptr(false), ptr(true)
	if slice, err = slices.Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "readiness moves the calls", answeredBy(clusterAt, n.Pods[1], n.Pods[2]))

	c.KillAPIServer()
	if err := answeredBy(clusterAt, n.Pods[1], n.Pods[2])(); err != nil {
		t.Errorf("while the API server is away: %v", err)
	}
	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	slice.Endpoints[2].Conditions.Ready = ptr(false)
	if _, err = slices.Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back, and so are changes", answeredBy(clusterAt, n.Pods[1]))

	if err := api.CoreV1().Services("default").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the service is gone: the node port is nobody's", refused(nodeAt))
}

// One daemon serves both families, and goes back to one without a trace.
func TestBothFamilies(t *testing.T) {
	c := testcluster.Start(t, "--service-cluster-ip-range="+testnet.Services.String()+","+testnet.Services6.String())
	n := testnet.New(t, 2)
	ctx := t.Context()
	if _, err := c.Kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	svc, err := c.Kube.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{IPFamilyPolicy: ptr(corev1.IPFamilyPolicyRequireDualStack), Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(svc.Spec.ClusterIPs) != 2 {
		t.Fatalf("got %v", svc.Spec.ClusterIPs)
	}
	n.Pods[0].Serve(t, 8080)
	for _, kind := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		_, err := c.Kube.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{GenerateName: "web-", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: kind, Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr[int32](8080)}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{n.Pods[0].Of(kind == discoveryv1.AddressTypeIPv6).String()}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	kubeconfig := c.Kubeconfig("system:kube-proxy", "system:node-proxier")
	tables := func() string {
		var out []byte
		n.Node.Do(t, func() (err error) {
			out, err = exec.Command("nft", "list", "tables").CombinedOutput()
			return err
		})
		return string(out)
	}

	cfg, stop := daemonOf(t, n, kubeconfig, testnet.PodCIDR.String()+","+testnet.PodCIDR6.String())
	for _, ip := range svc.Spec.ClusterIPs {
		eventually(t, ip+" answers", func() error {
			_, err := n.Pods[1].Call("tcp", netip.AddrPortFrom(netip.MustParseAddr(ip), 80))
			return err
		})
	}
	get := func(url string) string {
		t.Helper()
		r, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s %v", url, r.Status, body, err)
		}
		return string(body)
	}
	eventually(t, "both are written", func() error {
		r, err := http.Get("http://" + cfg.HealthzAddress + "/healthz")
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	})
	if mode := get("http://" + cfg.MetricsAddress + "/proxyMode"); mode != "nftables" {
		t.Errorf("/proxyMode: %q", mode)
	}
	metrics := get("http://" + cfg.MetricsAddress + "/metrics")
	for _, want := range []string{
		`kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}`, `kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"}`,
		`kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"}`, `kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"}`,
		"kubeproxy_sync_proxy_rules_endpoint_changes_total ", "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0", "kubeproxy_sync_proxy_rules_service_changes_pending 0",
		`kubeproxy_proxy_healthz_total{code="200"}`, `kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 0`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
	stop()
	if got := tables(); !strings.Contains(got, "table ip kube-proxy") || !strings.Contains(got, "table ip6 kube-proxy") {
		t.Errorf("the daemon has stopped, and of its tables there are\n%s", got)
	}

	_, stop = daemonOf(t, n, kubeconfig, testnet.PodCIDR.String())
	eventually(t, "the tables of IPv6 are gone", func() error {
		if got := tables(); strings.Contains(got, "table ip6 kube-proxy\n") || !strings.Contains(got, "table ip kube-proxy") {
			return errors.New(got)
		}
		return nil
	})
	stop()
	cfg.Cleanup = true
	if err := run(ctx, cfg, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	if got := tables(); strings.Contains(got, "kube-proxy") {
		t.Errorf("after --cleanup:\n%s", got)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	good := func() Config {
		return Config{Kubeconfig: "k", NodeName: "n", SyncPeriod: time.Second, MasqueradeBit: 14}
	}
	for _, c := range []struct {
		name string
		edit func(*Config)
		ok   bool
	}{
		{"the least", func(c *Config) {}, true},
		{"no kubeconfig", func(c *Config) { c.Kubeconfig = "" }, false},
		{"only to clean up", func(c *Config) { c.Kubeconfig, c.Cleanup = "", true }, true},
		{"two ranges of one family", func(c *Config) { c.ClusterCIDR = "10.244.0.0/16,10.245.0.0/16" }, false},
		{"two ranges", func(c *Config) { c.ClusterCIDR = "10.244.0.0/16,fd00::/48" }, true},
		{"no range", func(c *Config) { c.ClusterCIDR = "10.244.0.0" }, false},
		{"no such bit", func(c *Config) { c.MasqueradeBit = 32 }, false},
		{"no pace", func(c *Config) { c.SyncPeriod = 0 }, false},
		{"less often than at least", func(c *Config) { c.MinSyncPeriod = time.Minute }, false},
		{"node port ranges", func(c *Config) { c.NodePortRanges.Set("198.18.0.0/15") }, true},
		{"node port address", func(c *Config) { c.NodePortRanges.Set("primary") }, true},
		{"load balancers of both families", func(c *Config) { c.BalancerRanges = "198.18.0.224/27,fd00::e000/120" }, true},
		{"a load balancer that is no range", func(c *Config) { c.BalancerRanges = "198.18.0.224" }, false},
		{"bad node port range", func(c *Config) { c.NodePortRanges.Set("eth0") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good()
			c.edit(&cfg)
			if err := cfg.complete(); (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
