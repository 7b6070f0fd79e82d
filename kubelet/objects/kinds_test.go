package objects

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"pilothouse.dev/pkg/testcluster"
)

// running is a store that follows until the test ends.
func running(t *testing.T, kube kubernetes.Interface) *Store {
	t.Helper()
	s := New(kube)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// showing is a pod with those volumes.
func showing(uid types.UID, sources ...corev1.VolumeProjection) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", UID: uid}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{
		{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}}}}
}

func mapNamed(name string) corev1.VolumeProjection {
	return corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so: ", what)
		}
	}
}

// authority is a certificate of its own, as a bundle has them.
func authority(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestKinds: what cannot change is not watched, what may not be read is said at once, bundles are found by name and by signer, and an object may be
// as large as they can be.
func TestKinds(t *testing.T) {
	cluster := testcluster.Start(t)
	maps := cluster.Kube.CoreV1().ConfigMaps("default")

	t.Run("immutable", func(t *testing.T) {
		s := running(t, cluster.Kube)
		make := func(data string) {
			t.Helper()
			_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "fixed"}, Immutable: new(true),
				Data: map[string]string{"k": data}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
		}
		holds := func(want string) {
			t.Helper()
			if cm, err := s.ConfigMap("default", "fixed"); err != nil || cm.Data["k"] != want {
				t.Errorf("holds %v, %v, want %s", cm, err, want)
			}
		}
		make("one")
		s.Keep(showing("uid-x", mapNamed("fixed")))
		holds("one")
		key := Key{Kind: ConfigMap, Namespace: "default", Name: "fixed"}
		s.mu.Lock()
		sl := s.slots[key]
		s.mu.Unlock()
		sl.mu.Lock()
		if sl.stop != nil || !sl.frozen {
			t.Error("it is still followed")
		}
		sl.mu.Unlock()
		if err := maps.Delete(t.Context(), "fixed", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		make("two")
		s.Keep(showing("uid-x", mapNamed("fixed"), mapNamed("other"))) // the pod that has it already sees no other
		holds("one")
		s.Keep(showing("uid-y", mapNamed("fixed")))
		holds("two")
	})

	t.Run("forbidden", func(t *testing.T) {
		s := running(t, cluster.Clients("nobody").Kube)
		s.Keep(showing("uid-x", mapNamed("fixed")))
		if _, err := s.ConfigMap("default", "fixed"); !apierrors.IsForbidden(err) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("large", func(t *testing.T) {
		s := running(t, cluster.Kube)
		data := bytes.Repeat([]byte("x"), 1<<20)
		if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "large"}, BinaryData: map[string][]byte{"k": data}},
			metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		s.Keep(showing("uid-x", mapNamed("large")))
		if cm, err := s.ConfigMap("default", "large"); err != nil || !bytes.Equal(cm.BinaryData["k"], data) || cm.ManagedFields != nil {
			t.Errorf("got %v", err)
		}
	})

	t.Run("bundles", func(t *testing.T) {
		s := running(t, cluster.Kube)
		put := func(name, signer string) {
			t.Helper()
			_, err := cluster.Kube.CertificatesV1().ClusterTrustBundles().Create(t.Context(), &certificatesv1.ClusterTrustBundle{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: authority(t, name)}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
		}
		put("alone", "")
		put("example.com:signer:a", "example.com/signer")
		s.Keep(showing("uid-x", corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: new("alone")}},
			corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: new("none")}},
			corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{SignerName: new("example.com/signer")}}))
		if b, err := s.TrustBundle("alone"); err != nil || b.Name != "alone" {
			t.Errorf("by name: %v, %v", b, err)
		}
		if b, err := s.TrustBundle("none"); !apierrors.IsNotFound(err) {
			t.Errorf("a missing one: %v, %v", b, err)
		}
		if all, err := s.TrustBundles("example.com/signer"); err != nil || len(all) != 1 {
			t.Errorf("by signer: %v, %v", all, err)
		}
		put("example.com:signer:b", "example.com/signer")
		eventually(t, "another one of the signer is seen", func() bool {
			all, err := s.TrustBundles("example.com/signer")
			return err == nil && len(all) == 2 && all[1].Name == "example.com:signer:b"
		})
		if err := cluster.Kube.CertificatesV1().ClusterTrustBundles().Delete(t.Context(), "example.com:signer:a", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "one is gone", func() bool {
			all, err := s.TrustBundles("example.com/signer")
			return err == nil && len(all) == 1 && all[0].Name == "example.com:signer:b"
		})
	})
}
