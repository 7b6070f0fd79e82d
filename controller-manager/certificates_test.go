package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/urfave/cli/v2"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"pilothouse.dev/controller-manager/accounts"
	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pki"
	"pilothouse.dev/pkg/testcluster"
)

const (
	joiners   = "system:bootstrappers:kubeadm:default-node-token"
	nodeToken = "abcdef.0123456789abcdef"
)

// registry is a real control plane with the controllers of certificates and tokens, each as its own account.
func registry(t *testing.T) *world {
	c := testcluster.Start(t, "--enable-bootstrap-token-auth", "--advertise-address=192.0.2.1")
	w := &world{T: t, cluster: c, kube: c.Kube}
	var cfg Config
	app := &cli.App{Flags: flags(&cfg), Action: func(*cli.Context) error { return cfg.check() }}
	if err := app.Run([]string{"controller-manager", "--kubeconfig=none", "--service-cluster-ip-range=10.96.0.0/16", "--cluster-signing-duration=1h",
		"--cluster-signing-cert-file=" + filepath.Join(c.Dir, "ca.crt"), "--cluster-signing-key-file=" + filepath.Join(c.Dir, "ca.key")}); err != nil {
		t.Fatal(err)
	}
	table, err := enabled(controllers(cfg), []string{"csrapproving", "csrsigning", "csrcleaner", "bootstrapsigner", "tokencleaner"})
	if err != nil {
		t.Fatal(err)
	}
	cm := client.Patient(c.Config("system:kube-controller-manager"))
	anonymous, err := client.Anonymous(cm)
	if err != nil {
		t.Fatal(err)
	}
	clients, err := client.New(cm)
	if err != nil {
		t.Fatal(err)
	}
	recorder := events.New(clients.Kube, "controller-manager", "")
	crew := loop.NewCrew(table, clients, accounts.New(anonymous, clients.Kube.CoreV1()).As, recorder, prometheus.NewRegistry(), logging.ForTest(t))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := crew.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("the controllers ended: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	for role, group := range map[string]string{
		"system:node-bootstrapper": joiners,
		"system:certificates.k8s.io:certificatesigningrequests:nodeclient":     joiners,
		"system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": "system:nodes",
	} {
		w.bind(role, rbacv1.GroupKind, group)
	}
	return w
}

func (w *world) bind(role, kind, subject string) {
	w.Helper()
	must(w.kube.RbacV1().ClusterRoleBindings().Create(w.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: kind, APIGroup: rbacv1.GroupName, Name: subject}},
	}, metav1.CreateOptions{}))(w)
}

// token makes a bootstrap token.
func (w *world) token(token string, ends time.Time) {
	w.Helper()
	id, secret, _ := strings.Cut(token, ".")
	must(w.kube.CoreV1().Secrets(metav1.NamespaceSystem).Create(w.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "expiration": ends.UTC().Format(time.RFC3339), "auth-extra-groups": joiners,
			"usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
		},
	}, metav1.CreateOptions{}))(w)
}

// as is a client by a token, or by a certificate and its key.
func (w *world) as(token string, cert []byte, key crypto.Signer) kubernetes.Interface {
	w.Helper()
	cfg := &rest.Config{Host: w.cluster.URL(), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(w.cluster.Dir, "ca.crt"), CertData: cert}}
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			w.Fatal(err)
		}
		cfg.KeyData = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	return must(kubernetes.NewForConfig(cfg))(w)
}

// ask makes a request.
func (w *world) ask(by kubernetes.Interface, name, signer string, id pki.Identity, usage ...certificatesv1.KeyUsage) (crypto.Signer, error) {
	w.Helper()
	key, _, err := pki.NewKey()
	if err != nil {
		w.Fatal(err)
	}
	text := must(pki.NewRequest(id, key))(w)
	_, err = by.CertificatesV1().CertificateSigningRequests().Create(w.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       certificatesv1.CertificateSigningRequestSpec{Request: text, SignerName: signer, Usages: append(usage, "digital signature")},
	}, metav1.CreateOptions{})
	return key, err
}

// issued waits for a request's certificate.
func (w *world) issued(name string) []byte {
	w.Helper()
	var cert []byte
	w.until("the certificate of "+name, func() error {
		r, err := w.kube.CertificatesV1().CertificateSigningRequests().Get(w.Context(), name, metav1.GetOptions{})
		if err == nil && len(r.Status.Certificate) == 0 {
			err = fmt.Errorf("it has conditions %v", r.Status.Conditions)
		}
		if err == nil {
			cert = r.Status.Certificate
		}
		return err
	})
	return cert
}

// pending fails unless nobody has decided a request.
func (w *world) pending(name string) {
	w.Helper()
	r := must(w.kube.CertificatesV1().CertificateSigningRequests().Get(w.Context(), name, metav1.GetOptions{}))(w)
	if len(r.Status.Conditions) > 0 || len(r.Status.Certificate) > 0 {
		w.Errorf("%s was decided: %v", name, r.Status.Conditions)
	}
}

// decide approves or denies a request, as of a time.
func (w *world) decide(by kubernetes.Interface, name string, kind certificatesv1.RequestConditionType, at time.Time) error {
	w.Helper()
	r := must(w.kube.CertificatesV1().CertificateSigningRequests().Get(w.Context(), name, metav1.GetOptions{}))(w)
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: kind, Status: corev1.ConditionTrue, Reason: "Test", LastUpdateTime: metav1.NewTime(at),
	})
	_, err := by.CertificatesV1().CertificateSigningRequests().UpdateApproval(w.Context(), name, r, metav1.UpdateOptions{})
	return err
}

func kubelet(node string) pki.Identity {
	return pki.Identity{Name: "system:node:" + node, Groups: []string{"system:nodes"}}
}

const (
	clientSigner  = certificatesv1.KubeAPIServerClientSignerName
	kubeletSigner = certificatesv1.KubeAPIServerClientKubeletSignerName
	servingSigner = certificatesv1.KubeletServingSignerName
)

// A node joins by a token and renews; and whoever asks for what is not his gets nothing.
func TestCertificates(t *testing.T) {
	t.Parallel()
	w := registry(t)
	w.token(nodeToken, time.Now().Add(time.Hour))
	joiner := w.as(nodeToken, nil, nil)
	key := must(w.ask(joiner, "join", kubeletSigner, kubelet("one"), "client auth"))(w)
	cert := w.issued("join")
	one := w.as("", cert, key)
	if leaf := must(x509.ParseCertificate(decode(w, cert)))(w); time.Until(leaf.NotAfter) > time.Hour || leaf.IsCA || leaf.Subject.CommonName != "system:node:one" {
		t.Errorf("it joined by %+v", leaf)
	}

	// Its serving certificate waits for its Node to have the address.
	serving := kubelet("one")
	serving.DNS, serving.IPs = []string{"one"}, []net.IP{net.IPv4(192, 0, 2, 10)}
	must(w.ask(one, "serve", servingSigner, serving, "server auth"))(w)
	must(one.CoreV1().Nodes().Create(w.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.CreateOptions{}))(w)
	theirs := serving
	theirs.IPs = []net.IP{net.IPv4(192, 0, 2, 1)} // the API server's
	must(w.ask(one, "serve-theirs", servingSigner, theirs, "server auth"))(w)
	must(w.ask(one, "renew", kubeletSigner, kubelet("one"), "client auth"))(w)
	w.issued("renew")
	w.pending("serve")
	node := must(one.CoreV1().Nodes().Get(w.Context(), "one", metav1.GetOptions{}))(w)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.10"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	must(one.CoreV1().Nodes().UpdateStatus(w.Context(), node, metav1.UpdateOptions{}))(w)
	w.issued("serve")
	w.pending("serve-theirs")

	// Another node's certificate: refused when asked for, or at least never approved.
	if _, err := w.ask(one, "other", kubeletSigner, kubelet("two"), "client auth"); err == nil {
		must(w.ask(one, "renew-again", kubeletSigner, kubelet("one"), "client auth"))(w)
		w.issued("renew-again")
		w.pending("other")
	} else if !apierrors.IsForbidden(err) {
		t.Errorf("asking for another node's certificate: %v", err)
	}

	t.Run("an ordinary user", func(t *testing.T) { ordinary(w.sub2(t)) })
	t.Run("cluster-info", func(t *testing.T) { clusterInfo(w.sub2(t)) })
}

// sub2 is the same world in a part of a test.
func (w *world) sub2(t *testing.T) *world {
	s := *w
	s.T = t
	return &s
}

func decode(w *world, text []byte) []byte {
	w.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		w.Fatal("no PEM")
	}
	return block.Bytes
}

// ordinary is what bob gets, who may make requests and write approvals, and for no signer.
func ordinary(w *world) {
	bob := must(kubernetes.NewForConfig(w.cluster.Config("bob")))(w)
	if _, err := w.ask(bob, "early", clientSigner, pki.Identity{Name: "bob"}, "client auth"); !apierrors.IsForbidden(err) {
		w.Errorf("who may not make requests: %v", err)
	}
	must(w.kube.RbacV1().ClusterRoles().Create(w.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "asks"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"create", "get", "update"}, APIGroups: []string{certificatesv1.GroupName},
			Resources: []string{"certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"}},
	}}, metav1.CreateOptions{}))(w)
	w.bind("asks", rbacv1.UserKind, "bob")
	w.until("bob's role", func() error {
		_, err := bob.CertificatesV1().CertificateSigningRequests().Get(w.Context(), "join", metav1.GetOptions{})
		return err
	})

	_, err := w.ask(bob, "master", clientSigner, pki.Identity{Name: "bob", Groups: []string{"system:masters"}}, "client auth")
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed") {
		w.Errorf("asking to be a master: %v", err)
	}
	must(w.ask(bob, "dev", clientSigner, pki.Identity{Name: "bob", Groups: []string{"devs"}}, "client auth"))(w)
	if err := w.decide(bob, "dev", certificatesv1.CertificateApproved, time.Now()); !apierrors.IsForbidden(err) ||
		!strings.Contains(err.Error(), `user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"`) {
		w.Errorf("approving his own request: %v", err)
	}
	r := must(bob.CertificatesV1().CertificateSigningRequests().Get(w.Context(), "dev", metav1.GetOptions{}))(w)
	if r.Spec.Username != "bob" {
		w.Errorf("the request is of %q", r.Spec.Username)
	}
	r.Spec.Username = "admin"
	r = must(bob.CertificatesV1().CertificateSigningRequests().Update(w.Context(), r, metav1.UpdateOptions{}))(w)
	if r.Spec.Username != "bob" {
		w.Errorf("an update made the request %q's", r.Spec.Username)
	}
	r.Status.Certificate = w.issued("join")
	if _, err := bob.CertificatesV1().CertificateSigningRequests().UpdateStatus(w.Context(), r, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) ||
		!strings.Contains(err.Error(), `user not permitted to sign requests with signerName "kubernetes.io/kube-apiserver-client"`) {
		w.Errorf("signing his own request: %v", err)
	}
	// Being a node by himself: asked for, and not approved.
	must(w.ask(bob, "node", kubeletSigner, kubelet("three"), "client auth"))(w)
	if err := w.decide(w.kube, "dev", certificatesv1.CertificateApproved, time.Now()); err != nil {
		w.Fatal(err)
	}
	w.issued("dev")
	w.pending("node")

	// What its signer does not sign fails, and says why; what was denied long ago is gone.
	must(w.ask(bob, "serving", clientSigner, pki.Identity{Name: "bob"}, "client auth", "server auth"))(w)
	if err := w.decide(w.kube, "serving", certificatesv1.CertificateApproved, time.Now()); err != nil {
		w.Fatal(err)
	}
	w.until("a failure", func() error {
		r, err := w.kube.CertificatesV1().CertificateSigningRequests().Get(w.Context(), "serving", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range r.Status.Conditions {
			if c.Type == certificatesv1.CertificateFailed && c.Reason == "SignerValidationFailure" && c.Message == "invalid usage for client certificate: server auth" {
				return nil
			}
		}
		return fmt.Errorf("conditions are %v", r.Status.Conditions)
	})
	must(w.ask(bob, "old", clientSigner, pki.Identity{Name: "bob"}, "client auth"))(w)
	if err := w.decide(w.kube, "old", certificatesv1.CertificateDenied, time.Now().Add(-2*time.Hour)); err != nil {
		w.Fatal(err)
	}
	w.until("the end of what was denied", func() error {
		_, err := w.kube.CertificatesV1().CertificateSigningRequests().Get(w.Context(), "old", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
	w.pending("node")
}

// clusterInfo is signed by each token, and no more once that is gone; one that has ended goes by itself.
func clusterInfo(w *world) {
	infos := w.kube.CoreV1().ConfigMaps(metav1.NamespacePublic)
	must(infos.Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cluster-info"}, Data: map[string]string{"kubeconfig": "here"}}, metav1.CreateOptions{}))(w)
	signed := func(want string) func() error {
		return func() error {
			m, err := infos.Get(w.Context(), "cluster-info", metav1.GetOptions{})
			if err != nil {
				return err
			}
			got := ""
			for k := range m.Data {
				if id, ok := strings.CutPrefix(k, "jws-kubeconfig-"); ok {
					got += id
				}
			}
			if got != want {
				return fmt.Errorf("signed by %q", got)
			}
			return nil
		}
	}
	w.until("the signature", signed("abcdef"))
	w.token("ghijkl.0123456789abcdef", time.Now().Add(-time.Minute))
	w.until("the end of a token", func() error {
		_, err := w.kube.CoreV1().Secrets(metav1.NamespaceSystem).Get(w.Context(), "bootstrap-token-ghijkl", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
	if err := w.kube.CoreV1().Secrets(metav1.NamespaceSystem).Delete(w.Context(), "bootstrap-token-abcdef", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.until("the end of the signature", signed(""))
}
