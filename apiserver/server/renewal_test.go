package server_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/pki"
	"pilothouse.dev/pkg/testcluster"
)

// TestServingRenewal writes a new serving certificate beside a running server, one file after the other. Half of it is not believed
// and told; the whole is shown to who connects then; and a watch from before brings what happens after.
func TestServingRenewal(t *testing.T) {
	c := testcluster.Start(t)
	file := func(name string) string { return filepath.Join(c.Dir, name) }
	ca, err := pki.EnsureAuthority(c.Dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	config := c.TLS()
	serial := func() string {
		t.Helper()
		conn, err := tls.Dial("tcp", strings.TrimPrefix(c.URL(), "https://"), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited for %s", what)
			}
		}
	}
	before := serial()
	maps := c.Kube.CoreV1().ConfigMaps(metav1.NamespaceDefault)
	w, err := maps.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=after"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next, err := ca.Issue(pki.Identity{Name: "kube-apiserver", Server: true, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.WriteFile(file("apiserver.crt"), next.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	until("a line about half a pair", func() bool {
		if now := serial(); now != before {
			t.Fatalf("half a pair is shown: %s", now)
		}
		return strings.Contains(c.Said(), "reading a renewed certificate, serving with the former one")
	})
	if err := pki.WriteFile(file("apiserver.key"), next.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	until("the new certificate", func() bool { return serial() != before })

	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "after"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case e, open := <-w.ResultChan():
		if m, ok := e.Object.(*corev1.ConfigMap); !open || !ok || m.Name != "after" {
			t.Errorf("the watch brings %v", e)
		}
	case <-time.After(30 * time.Second):
		t.Error("the watch brings nothing")
	}
	numbers, err := c.Kube.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range []string{"ok", "error"} {
		if want := fmt.Sprintf("certificate_file_reloads_total{file=%q,result=%q} 1", file("apiserver.crt"), result); !strings.Contains(string(numbers), want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}

	// A second authority of clients beside the first, while the server runs.
	other, err := pki.NewAuthority("other")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := other.Issue(pki.Identity{Name: "admin", Groups: []string{"system:masters"}, Client: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	stranger := c.TLS()
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	stranger.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	if code := status(t, c, stranger); code != 401 {
		t.Errorf("another authority's client gets %d", code)
	}
	if err := os.WriteFile(file("ca.crt"), append(append([]byte{}, ca.PEM().Cert...), other.PEM().Cert...), 0o600); err != nil {
		t.Fatal(err)
	}
	until("the second authority", func() bool { return status(t, c, stranger) == 200 })
}

// status is the answer to who connects anew.
func status(t *testing.T, c *testcluster.Cluster, config *tls.Config) int {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(c.URL() + "/api/v1/namespaces")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
