package certificates

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pki"
	"pilothouse.dev/pkg/testcluster"
)

// sign approves and signs every request, as the controller manager does, until the test ends.
func sign(t *testing.T, c *testcluster.Cluster, ca *pki.Authority) {
	ctx, cancel := context.WithCancel(context.Background())
	requests := c.Kube.CertificatesV1().CertificateSigningRequests()
	answer := func(r *certificatesv1.CertificateSigningRequest) error {
		r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: "Approved", Status: "True"}}
		r, err := requests.UpdateApproval(ctx, r.Name, r, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		r.Status.Certificate = signed(t, ca, r, time.Now(), time.Hour)
		_, err = requests.UpdateStatus(ctx, r, metav1.UpdateOptions{})
		return err
	}
	w, err := requests.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range w.ResultChan() {
			if r, ok := e.Object.(*certificatesv1.CertificateSigningRequest); ok && len(r.Status.Conditions) == 0 {
				if err := answer(r); err != nil && ctx.Err() == nil {
					t.Errorf("answering %s: %v", r.Name, err)
				}
			}
		}
	})
	t.Cleanup(func() { w.Stop(); cancel(); wg.Wait() })
}

func TestOpen(t *testing.T) {
	c := testcluster.Start(t)
	ca, err := pki.EnsureAuthority(c.Dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	sign(t, c, ca)
	made := func() int {
		t.Helper()
		list, err := c.Kube.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	who := func(to *rest.Config) string {
		t.Helper()
		clients, err := client.New(to)
		if err != nil {
			t.Fatal(err)
		}
		r, err := clients.Kube.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.UserInfo.Username
	}
	cfg := node(t)
	cfg.Kubeconfig = filepath.Join(t.TempDir(), "new", "kubeconfig")
	cfg.BootstrapKubeconfig = c.Kubeconfig("joiner", "system:masters")
	open := func() *rest.Config {
		t.Helper()
		to, err := Open(t.Context(), cfg, logging.ForTest(t))
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	if name := who(open()); name != "system:node:a" {
		t.Errorf("it joined as %s", name)
	}
	for _, f := range []string{cfg.Kubeconfig, cfg.clientFile()} {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f, st.Mode(), err)
		}
	}
	if name := who(open()); name != "system:node:a" || made() != 1 {
		t.Errorf("it came again as %s, with %d requests in all", name, made())
	}

	// After a long sleep, and under another name, it joins anew.
	put := func(name string, life time.Duration) {
		t.Helper()
		p, err := ca.Issue(pki.Identity{Name: name, Groups: []string{"system:nodes"}, Client: true}, life)
		if err == nil {
			err = save(cfg.clientFile(), append(append(p.Cert, '\n'), p.Key...))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, spoil := range []func(){func() { put("system:node:a", -time.Minute) }, func() { put("system:node:b", time.Hour) }, func() {
		if err := os.WriteFile(cfg.Kubeconfig, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}} {
		spoil()
		if name := who(open()); name != "system:node:a" || made() != 2+i {
			t.Errorf("spoiled %d times it is %s, with %d requests in all", i+1, name, made())
		}
	}

	// A kubelet that is up when its certificate ends asks by the bootstrap kubeconfig, since it has nothing else.
	put("system:node:a", -time.Minute)
	k := Client(cfg, nobody{}, logging.ForTest(t))
	if _, err := k.load(); err != nil {
		t.Fatal(err)
	}
	if err := k.first(t.Context()); err != nil || !serves(k.held.Load(), cfg.identity(), time.Now()) {
		t.Errorf("after the end it has %v, %v", k.held.Load(), err)
	}

	// A kubeconfig made by hand: its certificate is the first of those that are renewed.
	cfg = node(t)
	p, err := ca.Issue(pki.Identity{Name: "system:node:a", Groups: []string{"system:nodes"}, Client: true}, time.Hour)
	if err == nil {
		err = p.Write(c.Dir, "by-hand")
	}
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(c.Dir, name) }
	text, err := pki.Kubeconfig("test", c.URL(), "a", file("ca.crt"), file("by-hand.crt"), file("by-hand.key"))
	if err == nil {
		cfg.Kubeconfig = file("by-hand.kubeconfig")
		err = os.WriteFile(cfg.Kubeconfig, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	to := open()
	if to.CertFile != cfg.clientFile() || who(to) != "system:node:a" {
		t.Errorf("it calls by %s as %s", to.CertFile, who(to))
	}
	cfg.Rotate = false
	if to := open(); to.CertFile != file("by-hand.crt") {
		t.Errorf("what is not renewed is called by %s", to.CertFile)
	}
	cfg.Kubeconfig = "none"
	if _, err := Open(t.Context(), cfg, logging.ForTest(t)); err == nil {
		t.Error("no kubeconfig at all is no error")
	}
}

// nobody answers no request.
type nobody struct{}

func (nobody) Create(context.Context, *certificatesv1.CertificateSigningRequest, metav1.CreateOptions) (*certificatesv1.CertificateSigningRequest, error) {
	return nil, errors.New("unauthorized")
}

func (nobody) Get(context.Context, string, metav1.GetOptions) (*certificatesv1.CertificateSigningRequest, error) {
	return nil, errors.New("unauthorized")
}
