package csrapprove

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pki"
)

func node(name string, labels map[string]string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: "whatever"})
	return n
}

func index(t *testing.T, objects ...any) cache.Indexer {
	t.Helper()
	i := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, o := range objects {
		if err := i.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

func asking(t *testing.T, user, name string, dns []string, addresses ...string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id := pki.Identity{Name: name, Groups: []string{pki.NodesGroup}, DNS: dns}
	for _, a := range addresses {
		id.IPs = append(id.IPs, net.ParseIP(a))
	}
	text, err := pki.NewRequest(id, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r-" + user}, Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: text, SignerName: certificatesv1.KubeletServingSignerName, Usages: []certificatesv1.KeyUsage{"digital signature", "server auth"},
		Username: user, Groups: []string{"system:nodes", "system:authenticated"},
	}}
}

func TestServing(t *testing.T) {
	const a = "system:node:a"
	strange := asking(t, a, a, []string{"a"})
	strange.Spec.Groups = []string{"system:authenticated"}
	client := asking(t, a, a, []string{"a"})
	client.Spec.Usages = []certificatesv1.KeyUsage{"client auth", "digital signature"}
	c := &controller{
		cfg: Config{Serving: true, Reserved: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}},
		nodes: corelisters.NewNodeLister(index(t,
			node("a", nil, "192.0.2.1", "2001:db8::1", "10.96.0.7", "192.0.2.100", "127.0.0.1", "169.254.1.1", "192.0.2.50"),
			node("b", nil, "192.0.2.2", "192.0.2.50"),
			node("control", map[string]string{controlPlane: ""}, "192.0.2.101"))),
		slices: discoverylisters.NewEndpointSliceLister(index(t, &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.100", "192.0.2.101"}}},
		})),
	}
	for _, tc := range []struct {
		name string
		r    *certificatesv1.CertificateSigningRequest
		ok   bool
	}{
		{"its name and addresses", asking(t, a, a, []string{"a"}, "192.0.2.1", "2001:db8::1"), true},
		{"its name", asking(t, a, a, []string{"a"}), true},
		{"an address", asking(t, a, a, nil, "192.0.2.1"), true},
		{"another's name", asking(t, a, a, []string{"a", "b"}), false},
		{"the name it writes into its Node", asking(t, a, a, []string{"whatever"}), false},
		{"the API server's name", asking(t, a, a, []string{"kubernetes.default.svc"}), false},
		{"another node's address", asking(t, a, a, nil, "192.0.2.2"), false},
		{"an address that another node has too", asking(t, a, a, nil, "192.0.2.50"), false},
		{"an address of nobody", asking(t, a, a, []string{"a"}, "192.0.2.77"), false},
		{"a service's address", asking(t, a, a, nil, "10.96.0.7"), false},
		{"the API server's address", asking(t, a, a, nil, "192.0.2.100"), false},
		{"the API server's address on its own node", asking(t, "system:node:control", "system:node:control", nil, "192.0.2.101"), true},
		{"loopback", asking(t, a, a, nil, "127.0.0.1"), false},
		{"link-local", asking(t, a, a, nil, "169.254.1.1"), false},
		{"for another node", asking(t, a, "system:node:b", []string{"b"}, "192.0.2.2"), false},
		{"by an administrator", asking(t, "admin", a, []string{"a"}, "192.0.2.1"), false},
		{"by a token", asking(t, "system:bootstrap:abcdef", a, []string{"a"}, "192.0.2.1"), false},
		{"of a node that is not there", asking(t, "system:node:c", "system:node:c", []string{"c"}), false},
		{"by one who is no node", strange, false},
		{"a client", client, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			why, err := c.serving(tc.r)
			if err != nil || (why != "") != tc.ok {
				t.Errorf("approved with %q, %v, want %v", why, err, tc.ok)
			}
		})
	}
}

// A request that comes before its node has told its addresses is looked at again when it has.
func TestNodeWakesItsRequests(t *testing.T) {
	const a = "system:node:a"
	done := asking(t, a, a, []string{"a"})
	done.Name, done.Status.Certificate = "done", []byte("x")
	c := &controller{requests: certificateslisters.NewCertificateSigningRequestLister(index(t,
		asking(t, a, a, []string{"a"}), asking(t, "system:node:b", "system:node:b", []string{"b"}), done))}
	old, now := node("a", nil), node("a", nil, "192.0.2.1")
	if got := c.ofNode(loop.Event{Old: old, New: now}); len(got) != 1 || !strings.HasSuffix(got[0].Name, ":a") {
		t.Errorf("new addresses woke %v", got)
	}
	if got := c.ofNode(loop.Event{Old: now, New: now.DeepCopy()}); len(got) != 0 {
		t.Errorf("a heartbeat woke %v", got)
	}
	if got := c.ofNode(loop.Event{Old: now}); len(got) != 0 {
		t.Errorf("a node that is gone woke %v", got)
	}
}
