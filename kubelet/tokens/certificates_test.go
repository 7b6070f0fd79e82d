package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

// signer answers the requests of a signer name: issues, or says why not.
type signer struct {
	kube kubernetes.Interface
	key  *ecdsa.PrivateKey
	ca   *x509.Certificate
}

func newSigner(t *testing.T, kube kubernetes.Interface) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour)}
	return &signer{kube, key, ca}
}

// answer waits for a request and gives it that condition.
func (s *signer) answer(t *testing.T, condition string) {
	client := s.kube.CertificatesV1().PodCertificateRequests("default")
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		list, err := client.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		for i := range list.Items {
			r := &list.Items[i]
			if len(r.Status.Conditions) > 0 {
				continue
			}
			r.Status.Conditions = []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue, Reason: "Test", Message: "by the test", LastTransitionTime: metav1.Now()}}
			if condition == certificatesv1.PodCertificateRequestConditionTypeIssued {
				s.issue(t, r)
			}
			if _, err := client.UpdateStatus(t.Context(), r, metav1.UpdateOptions{}); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Error("nobody has asked")
}

func (s *signer) issue(t *testing.T, r *certificatesv1.PodCertificateRequest) {
	csr, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		t.Error(err)
		return
	}
	from, to := time.Now().Add(-time.Minute).Truncate(time.Second), time.Now().Add(12*time.Hour).Truncate(time.Second)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to,
		DNSNames: []string{r.Spec.PodName + ".test"}}, s.ca, csr.PublicKey, s.key)
	if err != nil {
		t.Error(err)
		return
	}
	r.Status.CertificateChain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	r.Status.NotBefore, r.Status.NotAfter, r.Status.BeginRefreshAt = new(metav1.NewTime(from)), new(metav1.NewTime(to)), new(metav1.NewTime(from.Add(6*time.Hour)))
}

// TestCertificates: a kubelet asks a real API server for the certificates of a pod of its node, with a kubelet's rights.
func TestCertificates(t *testing.T) {
	cluster := testcluster.Start(t)
	ctx := t.Context()
	node, err := cluster.Kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var sources []corev1.VolumeProjection // a kubelet may ask only for what the pod names
	kinds := []string{"ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072"}
	for i, kind := range kinds {
		sources = append(sources, corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: "example.com/signer", KeyType: kind, CredentialBundlePath: fmt.Sprint("bundle-", i)}})
	}
	sources = append(sources, corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
		SignerName: "example.com/other", KeyType: "ED25519", CredentialBundlePath: "other"}})
	pod, err := cluster.Kube.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{
		NodeName: "n1", AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "c", Image: "i"}},
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := NewCertificates(cluster.Clients("system:node:n1", "system:nodes").Kube, func() *corev1.Node { return node }, logging.ForTest(t))
	now := time.Now()
	c.now = func() time.Time { return now }
	s := newSigner(t, cluster.Kube)
	// with answers one request while it is made.
	with := func(condition string, p *corev1.PodCertificateProjection) (key, chain []byte, renew time.Time, err error) {
		var all sync.WaitGroup
		if condition != "" {
			all.Go(func() { s.answer(t, condition) })
		}
		defer all.Wait()
		return c.Certificate(ctx, pod, p)
	}
	issued := certificatesv1.PodCertificateRequestConditionTypeIssued
	for _, kind := range kinds {
		key, chain, renew, err := with(issued, &corev1.PodCertificateProjection{SignerName: "example.com/signer", KeyType: kind})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		matching(t, key, chain)
		if left := renew.Sub(now); left < 5*time.Hour || left > 6*time.Hour {
			t.Errorf("%s: renewed in %v", kind, left)
		}
	}
	p := &corev1.PodCertificateProjection{SignerName: "example.com/signer", KeyType: "ECDSAP256"}
	first, _, _, err := with("", p)
	if err != nil {
		t.Fatal("the one at hand: ", err)
	}
	now = now.Add(7 * time.Hour)
	if key, _, renew, err := with(certificatesv1.PodCertificateRequestConditionTypeFailed, p); err != nil || string(key) != string(first) || !renew.Equal(now.Add(again)) {
		t.Errorf("while the signer fails: %v, again at %v", err, renew)
	}
	now = now.Add(2 * failedPause)
	second, chain, renew, err := with(issued, p) // by a signer whose clock is hours behind
	if err != nil || string(second) == string(first) || !renew.Equal(now.Add(again)) {
		t.Errorf("renewed: %v, again at %v", err, renew)
	}
	matching(t, second, chain)

	denied := &corev1.PodCertificateProjection{SignerName: "example.com/other", KeyType: "ED25519"}
	if _, _, _, err = with(certificatesv1.PodCertificateRequestConditionTypeDenied, denied); err == nil || !strings.Contains(err.Error(), "Denied: Test: by the test") {
		t.Errorf("denied: %v", err)
	}
	if _, _, _, err = with("", denied); err == nil || !strings.Contains(err.Error(), "Denied") {
		t.Errorf("denied before: %v", err)
	}
	c.Forget(pod.UID)
	if len(c.kept) != 0 {
		t.Error("a pod that is gone is remembered")
	}
	if _, _, _, err := c.Certificate(ctx, pod, &corev1.PodCertificateProjection{SignerName: "example.com/signer", KeyType: "DSA"}); err == nil || !strings.Contains(err.Error(), `key type "DSA"`) {
		t.Errorf("an unknown key: %v", err)
	}
}

// matching ends the test unless the certificate is for the key.
func matching(t *testing.T, key, chain []byte) {
	t.Helper()
	block, _ := pem.Decode(key)
	if block == nil || block.Type != "PRIVATE KEY" {
		t.Fatalf("the key is %.30q", key)
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(chain)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(private.(crypto.Signer).Public()) {
		t.Fatal("the certificate is for another key")
	}
}
