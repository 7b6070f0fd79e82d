package testcluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/pki"
)

// Cluster is a control plane without controllers: etcd and one API server, both real.
type Cluster struct {
	Etcd *Etcd
	// Kube is a client in system:masters.
	Kube kubernetes.Interface
	// Dir holds the certificates: ca.crt, apiserver.crt, …
	Dir string

	t         testing.TB
	url       string
	authority *pki.Authority
	apiserver *child
}

// Start starts a cluster for t, stopped and removed at its end. extra flags are given to the API server. Pods can be made in
// the namespace default; in another one, its service account default must be made first.
func Start(t testing.TB, extra ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, Etcd: StartEtcd(t), Dir: t.TempDir()}
	if err := c.open(extra); err != nil {
		t.Fatal(err)
	}
	c.endWithTest()
	kube, err := kubernetes.NewForConfig(c.Config("admin", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	c.Kube = kube
	// Pods need their namespace's default service account, which no controller makes here.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := kube.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Cluster) open(extra []string) error {
	bin, err := apiserverBinary()
	if err != nil {
		return err
	}
	if c.authority, err = pki.EnsureAuthority(c.Dir, "ca"); err != nil {
		return err
	}
	serving, err := c.authority.Issue(pki.Identity{
		Name: "kube-apiserver", Server: true, DNS: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, 0)
	if err != nil {
		return err
	}
	if err := serving.Write(c.Dir, "apiserver"); err != nil {
		return err
	}
	kubelet, err := c.authority.Issue(pki.Identity{Name: "kube-apiserver-kubelet-client", Client: true}, 0)
	if err != nil {
		return err
	}
	if err := kubelet.Write(c.Dir, "kubelet-client"); err != nil {
		return err
	}
	tokens, err := pki.NewKeyPair()
	if err != nil {
		return err
	}
	if err := tokens.Write(c.Dir, "service-account"); err != nil {
		return err
	}
	return c.launch(bin, extra)
}

// launch starts the API server with the files of c.Dir.
func (c *Cluster) launch(bin string, extra []string) error {
	file := func(name string) string { return filepath.Join(c.Dir, name) }
	for try := 1; ; try++ {
		ports, err := freePorts(1)
		if err != nil {
			return err
		}
		c.url = fmt.Sprintf("https://127.0.0.1:%d", ports[0])
		c.apiserver = &child{
			name: "apiserver", bin: bin, ready: c.ready(),
			args: append([]string{
				"--etcd-servers=" + c.Etcd.Endpoint, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]),
				"--tls-cert-file=" + file("apiserver.crt"), "--tls-private-key-file=" + file("apiserver.key"),
				"--client-ca-file=" + file("ca.crt"),
				"--kubelet-client-certificate=" + file("kubelet-client.crt"), "--kubelet-client-key=" + file("kubelet-client.key"),
				"--kubelet-certificate-authority=" + file("ca.crt"),
				"--service-account-signing-key-file=" + file("service-account.key"),
				"--service-account-key-file=" + file("service-account.crt"),
				"--shutdown-grace-period=1s", "--log-level=info",
			}, extra...),
		}
		if err = c.apiserver.start(); err == nil {
			return nil
		}
		c.apiserver.kill()
		if try == startTries {
			return err
		}
	}
}

// Another starts one more API server over the same etcd, of the same authority, and returns it as a cluster of its own; it ends
// with c's test.
func (c *Cluster) Another(extra ...string) *Cluster {
	c.t.Helper()
	other := &Cluster{Etcd: c.Etcd, Dir: c.Dir, t: c.t, authority: c.authority}
	if err := other.launch(c.apiserver.bin, extra); err != nil {
		c.t.Fatal(err)
	}
	other.endWithTest()
	kube, err := kubernetes.NewForConfig(other.Config("admin", "system:masters"))
	if err != nil {
		c.t.Fatal(err)
	}
	other.Kube = kube
	return other
}

// Refused starts one more API server that must not start, and returns what it said at its end.
func (c *Cluster) Refused(extra ...string) string {
	c.t.Helper()
	other := &Cluster{Etcd: c.Etcd, Dir: c.Dir, t: c.t, authority: c.authority}
	err := other.launch(c.apiserver.bin, extra)
	if err == nil {
		other.KillAPIServer()
		c.t.Fatalf("an API server with %q starts", extra)
	}
	return err.Error()
}

// endWithTest ends the API server with the test, and tells what it said if that failed.
func (c *Cluster) endWithTest() {
	c.t.Cleanup(func() {
		c.apiserver.kill()
		if c.t.Failed() {
			c.t.Logf("the API server said:\n%s", c.apiserver.said())
		}
	})
}

// ready asks /readyz, and then for the namespaces that every cluster has.
func (c *Cluster) ready() func(context.Context) error {
	cfg := c.Config("admin", "system:masters")
	rt, err := rest.TransportFor(cfg)
	if err != nil {
		return func(context.Context) error { return err }
	}
	probe := &http.Client{Transport: rt, Timeout: 5 * time.Second}
	ready := httpReady(probe, c.url+"/readyz")
	system := httpReady(probe, c.url+"/api/v1/namespaces/default")
	service := httpReady(probe, c.url+"/api/v1/namespaces/default/services/kubernetes")
	return func(ctx context.Context) error {
		for _, ask := range []func(context.Context) error{ready, system, service} {
			if err := ask(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// URL is where the API server listens.
func (c *Cluster) URL() string { return c.url }

// Config is a client configuration of a user in groups, with a certificate of its own.
func (c *Cluster) Config(user string, groups ...string) *rest.Config {
	c.t.Helper()
	pair, err := c.authority.Issue(pki.Identity{Name: user, Groups: groups, Client: true}, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	return client.Tune(&rest.Config{Host: c.url, TLSClientConfig: rest.TLSClientConfig{
		CAData: c.authority.PEM().Cert, CertData: pair.Cert, KeyData: pair.Key,
	}}, "test")
}

// Clients are what a daemon of that identity has.
func (c *Cluster) Clients(user string, groups ...string) *client.Clients {
	c.t.Helper()
	clients, err := client.New(c.Config(user, groups...))
	if err != nil {
		c.t.Fatal(err)
	}
	return clients
}

// Kubeconfig writes a kubeconfig of a user into t's folder and returns its path, for genuine kubectl.
func (c *Cluster) Kubeconfig(user string, groups ...string) string {
	c.t.Helper()
	pair, err := c.authority.Issue(pki.Identity{Name: user, Groups: groups, Client: true}, 0)
	if err == nil {
		err = pair.Write(c.Dir, user)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(c.Dir, name) }
	b, err := pki.Kubeconfig("test", c.url, user, file("ca.crt"), file(user+".crt"), file(user+".key"))
	if err == nil {
		err = os.WriteFile(file(user+".kubeconfig"), b, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return file(user + ".kubeconfig")
}

// TLS is a raw client's TLS configuration as a member of system:masters.
func (c *Cluster) TLS() *tls.Config { return c.TLSOf("admin", "system:masters") }

// TLSOf is a raw client's TLS configuration as a user in groups.
func (c *Cluster) TLSOf(user string, groups ...string) *tls.Config {
	c.t.Helper()
	cfg, err := rest.TLSConfigFor(c.Config(user, groups...))
	if err != nil {
		c.t.Fatal(err)
	}
	return cfg
}

// KillAPIServer ends the API server at once; StartAPIServer starts it again on the same address and data.
func (c *Cluster) KillAPIServer() { c.apiserver.kill() }

// StartAPIServer starts a killed API server again and waits until it is ready.
func (c *Cluster) StartAPIServer() error { return c.apiserver.start() }

// SignalAPIServer sends it a signal.
func (c *Cluster) SignalAPIServer(s os.Signal) error { return c.apiserver.signal(s) }

// Said is the end of what the API server logged.
func (c *Cluster) Said() string { return c.apiserver.said() }
