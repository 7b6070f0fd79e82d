package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
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
	cfg := Config{
		Kubeconfig: kubeconfig, NodeName: "n1", ClusterCIDR: testnet.PodCIDR.String(), MetricsAddress: freeAddress(t), HealthzAddress: freeAddress(t),
		SyncPeriod: time.Second, MinSyncPeriod: time.Millisecond, MasqueradeEgress: true, MasqueradeBit: 14, netns: int(n.Node.NS),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, cfg, zaptest.NewLogger(t)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	})
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
