package policy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"pilothouse.dev/kube-proxy/nfconn"
	"pilothouse.dev/kube-proxy/testnet"
)

// matrix is three namespaces with three pods each, on one node, that all serve
// on three ports; and a host outside.
type matrix struct {
	*testnet.Net
	cluster
	conn   *nfconn.Conn
	writer *Writer
	places map[string]testnet.Place // by namespace/name
	news   News
}

var (
	podNames  = []string{"x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"}
	portNames = []string{"80/tcp", "81/tcp", "80/udp"}
)

func newMatrix(t testing.TB) *matrix {
	m := &matrix{
		Net: testnet.New(t, len(podNames)), places: map[string]testnet.Place{}, news: emptyNews(),
		cluster: cluster{namespaces: map[string]*corev1.Namespace{}, pods: map[string]*corev1.Pod{}, policies: map[string]*networkingv1.NetworkPolicy{}, node: "n1"},
	}
	m.conn = nfconn.New(int(m.Node.NS))
	t.Cleanup(m.conn.Close)
	m.writer = NewWriter(m.conn, zaptest.NewLogger(t))
	m.news.Local = []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd00:10:244:7::/64")}
	for i, name := range podNames {
		place := m.Pods[i]
		place.Name = name
		for _, port := range []uint16{80, 81} {
			place.Serve(t, port)
		}
		m.places[name] = place
		ns, pod, _ := strings.Cut(name, "/")
		m.labelNamespace(ns, map[string]string{"ns": ns})
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: pod, Labels: map[string]string{"pod": pod}}}
		p.Spec.NodeName, p.Status.Phase = "n1", corev1.PodRunning
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{
			{Name: "web", ContainerPort: 80, Protocol: corev1.ProtocolTCP}, {Name: "admin", ContainerPort: 81, Protocol: corev1.ProtocolTCP},
			{Name: "dns", ContainerPort: 80, Protocol: corev1.ProtocolUDP},
		}}}
		p.Status.PodIPs = []corev1.PodIP{{IP: place.IP.String()}, {IP: place.IP6.String()}}
		m.setPod(p)
	}
	for _, other := range []testnet.Place{m.Host, m.Node} {
		for _, port := range []uint16{80, 81} {
			other.Serve(t, port)
		}
		m.places[other.Name] = other
	}
	return m
}

func (m *matrix) setPod(p *corev1.Pod) {
	m.pods[p.Namespace+"/"+p.Name] = p
	m.news.Pods[Name{p.Namespace, p.Name}] = podOf(p, m.node)
}

func (m *matrix) label(name string, set map[string]string) {
	p := m.pods[name].DeepCopy()
	p.Labels = set
	m.setPod(p)
}

func (m *matrix) labelNamespace(name string, set map[string]string) {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set}}
	m.namespaces[name] = n
	m.news.Namespaces[Name{Name: name}] = namespaceOf(n)
}

// apply sets policies, written as YAML: namespace/name, and a spec.
func (m *matrix) apply(t testing.TB, name, spec string) {
	t.Helper()
	ns, base, _ := strings.Cut(name, "/")
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: base}}
	spec = strings.NewReplacer("HOST6", testnet.HostIP6.String(), "HOST", testnet.HostIP.String(), "NODE", testnet.NodeIP.String(),
		"XA6", m.places["x/a"].IP6.String(), "XA", m.places["x/a"].IP.String(), "XB", m.places["x/b"].IP.String()).Replace(spec)
	if err := yaml.UnmarshalStrict([]byte(spec), &np.Spec); err != nil {
		t.Fatalf("reading the policy: %v", err)
	}
	p, err := policyOf(np)
	if err != nil {
		t.Fatal(err)
	}
	m.policies[name] = np
	m.news.Policies[p.Name] = p
}

func (m *matrix) delete(name string) {
	delete(m.policies, name)
	ns, base, _ := strings.Cut(name, "/")
	m.news.Policies[Name{ns, base}] = nil
}

// write has the kernel enforce what was said.
func (m *matrix) write(t testing.TB) Stats {
	t.Helper()
	stats, err := m.writer.Set(m.news)
	if err != nil {
		t.Fatalf("writing the rules: %v", err)
	}
	local := m.news.Local
	m.news = emptyNews()
	m.news.Local = local
	return stats
}

// probe is one call from a place to a port of another.
type probe struct {
	from, to, port string
	v6             bool
}

func (p probe) String() string { return fmt.Sprintf("%s > %s %s IPv6 %v", p.from, p.to, p.port, p.v6) }

// silence is how long a call waits that should not be answered. Calls that
// should be have testnet.Patience.
const silence = 150 * time.Millisecond

// call makes the probe's call; nil: it was answered.
func (m *matrix) call(p probe, patience time.Duration) error {
	number, network, _ := strings.Cut(p.port, "/")
	from, at := m.places[p.from], m.places[p.to].Of(p.v6)
	return from.Run(func() error {
		c, err := net.DialTimeout(network, net.JoinHostPort(at.String(), number), patience)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if network == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
		}
		_, err = testnet.Hear(c)
		return err
	})
}

// check makes calls all at once and compares who is answered.
func (m *matrix) check(t *testing.T, probes []probe, want func(from, to, port string) bool) {
	t.Helper()
	var all sync.WaitGroup
	slots := make(chan struct{}, 160)
	wrong := make(chan string, len(probes))
	for _, p := range probes {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			expected, patience := want(p.from, p.to, p.port), testnet.Patience
			if !expected {
				patience = silence
			}
			err := m.call(p, patience)
			late, timeout := errors.AsType[net.Error](err)
			switch {
			case expected && err != nil:
				wrong <- fmt.Sprintf("%s: not answered: %v", p, err)
			case !expected && err == nil:
				wrong <- fmt.Sprintf("%s: answered", p)
			case !expected && (!timeout || !late.Timeout()):
				wrong <- fmt.Sprintf("%s: refused, not dropped: %v", p, err)
			}
		})
	}
	all.Wait()
	close(wrong)
	shown := 0
	for w := range wrong {
		if shown++; shown <= 12 {
			t.Error(w)
		}
	}
	if shown > 0 {
		t.Errorf("%d of %d calls went wrong; the rules:\n%s", shown, len(probes), m.nft(t, "list", "table", "inet", tableName))
	}
}

// probes are all calls between pods.
func probes() (out []probe) {
	for i, from := range podNames {
		for j, to := range podNames {
			for k, port := range portNames {
				out = append(out, probe{from, to, port, (i+j+k)%2 == 0}, probe{from, to, port, (i+j+k)%2 == 1})
			}
		}
	}
	return out
}

// nft runs the tool in the node's namespace, as a person would.
func (m *matrix) nft(t testing.TB, args ...string) string {
	t.Helper()
	var out []byte
	m.Node.Do(t, func() (err error) {
		out, err = exec.Command("nft", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft %v: %w: %s", args, err, out)
		}
		return nil
	})
	return string(out)
}

// naive is what the documentation says, to be compared with what a case says.
func (m *matrix) naive(from, to, port string, v6 bool) bool {
	k := packet{from: m.places[from].Of(v6), to: m.places[to].Of(v6), proto: 6, input: to == "node"}
	number, network, _ := strings.Cut(port, "/")
	if network == "udp" {
		k.proto = 17
	}
	_, _ = fmt.Sscan(number, &k.port)
	k.port = max(k.port, 1)
	return from == "node" || m.allowed(k)
}
