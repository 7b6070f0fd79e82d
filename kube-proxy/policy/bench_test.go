package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kube-proxy/changes"
	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/nftables"
	"pilothouse.dev/kube-proxy/testnet"
)

// The size of the benchmarks' cluster.
const (
	benchSpaces   = 50
	benchPods     = 5000
	benchPolicies = 1000
	benchLocal    = 100 // pods on this node
)

// benchCluster is the news of a big cluster. In every namespace all is denied;
// applications take calls from the one before them and from a namespace of
// clients, monitoring from everywhere calls a port, and everybody may ask DNS.
// The addresses given are those of two pods, a client and its server.
func benchCluster(client, server netip.Addr) News {
	n := emptyNews()
	n.Local = []netip.Prefix{netip.PrefixFrom(client, 24).Masked()}
	for i := range benchSpaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("ns", i), Labels: map[string]string{"team": fmt.Sprint("team", i%10)}}}
		n.Namespaces[Name{Name: ns.Name}] = namespaceOf(ns)
	}
	for i := range benchPods {
		p := benchPod(i, netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}))
		switch {
		case i == 0:
			p.Addresses[0] = client
		case i == benchSpaces:
			p.Addresses[0] = server
		}
		n.Pods[p.Name] = p
	}
	port := func(proto corev1.Protocol, port int) networkingv1.NetworkPolicyPort {
		return networkingv1.NetworkPolicyPort{Protocol: &proto, Port: new(intstr.FromInt(port))}
	}
	app := func(i int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint("app", i)}}
	}
	for i := range benchPolicies {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", i%benchSpaces), Name: fmt.Sprint("p", i)}}
		k := i / benchSpaces // the how manieth of its namespace
		switch {
		case k == 0:
			np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
		case k == 1:
			np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
			np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{
				{To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: app(7)}}, Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolUDP, 53), port(corev1.ProtocolTCP, 53)}},
				{To: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}},
			}
		case k == 2:
			np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
				From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: app(9)}, {IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("192.%d.0.0/16", i%200), Except: []string{fmt.Sprintf("192.%d.7.0/24", i%200)}}}},
				Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt(9000)), EndPort: new(int32(9100 + int32(i%7)))}},
			}}
		case k < 13:
			np.Spec.PodSelector = *app(k - 3)
			np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: app((k + 6) % 10)}}, Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolTCP, 80), port(corev1.ProtocolTCP, 8000+k)}}}
		default:
			np.Spec.PodSelector = *app(k - 10)
			np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint("team", k%10)}}, PodSelector: app(k % 10)}}, Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolTCP, 80)}}}
		}
		p, err := policyOf(np)
		if err != nil {
			panic(err)
		}
		n.Policies[p.Name] = p
	}
	return n
}

func benchPod(i int, at netip.Addr) *Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", i%benchSpaces), Name: fmt.Sprint("pod", i), Labels: map[string]string{
		"app": fmt.Sprint("app", i/benchSpaces%10), "pod-template-hash": fmt.Sprint("h", i%benchSpaces, i/benchSpaces%10)}}}
	p.Spec.NodeName = "n2"
	if i < benchLocal {
		p.Spec.NodeName = "n1"
	}
	p.Status.PodIPs = []corev1.PodIP{{IP: at.String()}}
	return podOf(p, "n1")
}

func benchWriter(b *testing.B) *Writer {
	conn := nfconn.New(int(testnet.New(b, 0).Node.NS))
	b.Cleanup(conn.Close)
	return NewWriter(conn, zap.NewNop())
}

// 1,000 policies and 5,000 pods into an empty kernel.
func BenchmarkLoad(b *testing.B) {
	w := benchWriter(b)
	news := benchCluster(netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2"))
	for b.Loop() {
		stats, err := w.Set(news)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(float64(stats.Elements), "elements")
		w.Forget()
		if err := Remove(w.kernel.Conn); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// One thing changes among 1,000 policies and 5,000 pods; and the same among ten
// policies and fifty pods.
func BenchmarkChange(b *testing.B) {
	at := netip.MustParseAddr("10.201.0.1")
	relabelled := func(i int, at netip.Addr, odd bool) *Pod {
		p := benchPod(i, at)
		if odd {
			q := benchPod(i+benchSpaces, at)
			q.Name = p.Name
			return q
		}
		return p
	}
	for _, size := range []string{"big", "small"} {
		for _, c := range []struct {
			name string
			edit func(n *News, odd bool)
		}{
			{"a pod elsewhere comes or goes", func(n *News, odd bool) {
				p := benchPod(benchPods, at)
				n.Pods[p.Name] = nil
				if odd {
					n.Pods[p.Name] = p
				}
			}},
			{"a pod elsewhere changes labels", func(n *News, odd bool) {
				p := relabelled(benchPods, at, odd)
				n.Pods[p.Name] = p
			}},
			{"a pod of this node comes or goes", func(n *News, odd bool) {
				p := *benchPod(2, at)
				p.Name.Name = "another"
				n.Pods[p.Name] = nil
				if odd {
					n.Pods[p.Name] = &p
				}
			}},
			{"a policy changes its ports", func(n *News, odd bool) {
				np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns2", Name: "p2"}}
				np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}}}
				if odd {
					np.Spec.Ingress[0].Ports = []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt(80))}}
				}
				p, err := policyOf(np)
				if err != nil {
					panic(err)
				}
				n.Policies[p.Name] = p
			}},
		} {
			b.Run(size+"/"+c.name, func(b *testing.B) {
				w := benchWriter(b)
				news := benchCluster(netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2"))
				if size == "small" {
					shrink(&news)
				}
				if _, err := w.Set(news); err != nil {
					b.Fatal(err)
				}
				i, elements := 0, 0
				for b.Loop() {
					n := emptyNews()
					n.Local = news.Local
					i++
					c.edit(&n, i%2 == 1)
					stats, err := w.Set(n)
					if err != nil || stats.Repaired {
						b.Fatalf("got %+v, %v", stats, err)
					}
					elements += stats.Elements
				}
				b.ReportMetric(float64(elements)/float64(i), "elements/op")
			})
		}
	}
}

// shrink leaves a hundredth of a cluster.
func shrink(n *News) {
	for name := range n.Pods {
		if name.Namespace > "ns2" || len(n.Pods) <= 50 {
			delete(n.Pods, name)
		}
	}
	for name := range n.Policies {
		if name.Namespace != "ns2" || len(n.Policies) <= 10 {
			delete(n.Policies, name)
		}
	}
}

// Requests from an isolated pod to an isolated pod, a new connection each, with
// 1,000 policies and 5,000 pods, as a ratio of the rate without policies;
// services' rules stand in both. Two networks take turns of a few requests each,
// so that whatever else the machine does hits both, and the medians are compared.
func BenchmarkRequests(b *testing.B) {
	var nets [2]*testnet.Net
	for i := range nets {
		n := testnet.New(b, 2)
		nets[i] = n
		conn := nfconn.New(int(n.Node.NS))
		b.Cleanup(conn.Close)
		services := nftables.New(nftables.Config{PodCIDR: testnet.PodCIDR, MasqueradeEgress: true, MasqueradeBit: 14}, conn, zap.NewNop())
		if _, err := services.Set(nftables.Wish{Table: changes.NewTable(), NodeAddresses: []netip.Addr{testnet.NodeIP}}); err != nil {
			b.Fatal(err)
		}
		if i == 1 {
			if _, err := NewWriter(conn, zap.NewNop()).Set(benchCluster(n.Pods[0].IP, n.Pods[1].IP)); err != nil {
				b.Fatal(err)
			}
		}
		listen(b, n.Pods[1], 80) // the application after the client's, which may be called there
	}
	var took [2][]time.Duration
	for b.Loop() {
		for i, n := range nets {
			took[i] = append(took[i], ask(b, n.Pods[0], netip.AddrPortFrom(n.Pods[1].IP, 80), 50)...)
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	middle := func(of []time.Duration) float64 { return of[len(of)/2].Seconds() }
	b.ReportMetric(middle(took[0])/middle(took[1]), "of-rate-without")
	b.ReportMetric(1/middle(took[1]), "requests/s")
}

// listen takes connections, and answers a byte with a byte.
func listen(b *testing.B, at testnet.Place, port int) {
	var fd int
	at.Do(b, func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
			return err
		}
		return unix.Listen(fd, 1024)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1)
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				return // shut down
			}
			if _, err := unix.Read(c, buf); err == nil {
				_, _ = unix.Write(c, buf) // a client that left shows in the client
			}
			_ = unix.Close(c)
		}
	}()
	b.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		<-done
		_ = unix.Close(fd)
	})
}

// ask makes requests, one after the other, and tells how long each took.
func ask(b *testing.B, from testnet.Place, to netip.AddrPort, n int) (took []time.Duration) {
	at := &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	buf := make([]byte, 1)
	from.Do(b, func() error {
		for range n {
			start := time.Now()
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
				return err
			}
			if err := unix.Connect(fd, at); err != nil {
				return fmt.Errorf("request %d: %w", len(took), err)
			}
			if _, err := unix.Write(fd, buf); err != nil {
				return err
			}
			if _, err := unix.Read(fd, buf); err != nil {
				return err
			}
			if err := unix.Close(fd); err != nil {
				return err
			}
			took = append(took, time.Since(start))
		}
		return nil
	})
	return took
}
