package serviceaccount

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

// Secrets of the type are filled, their tokens work, and they go with their account.
func TestTokens(t *testing.T) {
	c := testcluster.Start(t)
	signer, err := ReadSigner(filepath.Join(c.Dir, "service-account.key"))
	if err != nil {
		t.Fatal(err)
	}
	authority := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(authority, []byte("the authority"), 0o600); err != nil {
		t.Fatal(err)
	}
	clients := c.Clients("system:kube-controller-manager")
	crew := loop.NewCrew([]loop.Line{{Name: "serviceaccounttoken", New: Tokens(signer, authority), Workers: 2}}, clients, nil,
		events.New(clients.Kube, "controller-manager", ""), prometheus.NewRegistry(), logging.ForTest(t))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := crew.Run(ctx); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })

	secrets, accounts := c.Kube.CoreV1().Secrets("default"), c.Kube.CoreV1().ServiceAccounts("default")
	account := func(name string) *corev1.ServiceAccount {
		t.Helper()
		a, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	secret := func(name, of string, annotations map[string]string) {
		t.Helper()
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: of}}, Type: corev1.SecretTypeServiceAccountToken}
		for k, v := range annotations {
			s.Annotations[k] = v
		}
		if _, err := secrets.Create(ctx, s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// filled waits for the token of a secret.
	filled := func(name string) *corev1.Secret {
		t.Helper()
		var s *corev1.Secret
		within(t, name+" is filled", func() (bool, error) {
			var err error
			s, err = secrets.Get(ctx, name, metav1.GetOptions{})
			return err == nil && len(s.Data["token"]) > 0, err
		})
		return s
	}
	gone := func(name string) {
		t.Helper()
		within(t, name+" is gone", func() (bool, error) {
			_, err := secrets.Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return true, nil
			}
			return false, err
		})
	}
	// who is the bearer of a token; empty: it is refused.
	who := func(token []byte) string {
		t.Helper()
		cfg := rest.AnonymousClientConfig(c.Config("x"))
		cfg.BearerToken = string(token)
		kube, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r, err := kube.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if apierrors.IsUnauthorized(err) {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.UserInfo.Username
	}

	robot := account("robot")
	secret("first", "robot", nil)
	first := filled("first")
	if string(first.Data["ca.crt"]) != "the authority" || string(first.Data["namespace"]) != "default" || first.Annotations[corev1.ServiceAccountUIDKey] != string(robot.UID) {
		t.Errorf("filled with %v, %v", first.Data, first.Annotations)
	}
	if got := who(first.Data["token"]); got != "system:serviceaccount:default:robot" {
		t.Errorf("its bearer is %q", got)
	}
	// A token that is taken away is made anew, and what stands there already stays.
	first, err = secrets.Get(ctx, "first", metav1.GetOptions{}) // its use was noted on it
	if err != nil {
		t.Fatal(err)
	}
	first.Data = map[string][]byte{"more": []byte("x")}
	if _, err := secrets.Update(ctx, first, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := filled("first"); !bytes.Equal(again.Data["more"], []byte("x")) || who(again.Data["token"]) == "" {
		t.Errorf("filled again with %v", again.Data)
	}
	// One that names an account which is not there is removed, as is one for another UID.
	secret("orphan", "nobody", nil)
	secret("stale", "robot", map[string]string{corev1.ServiceAccountUIDKey: "another"})
	gone("orphan")
	gone("stale")

	// The account forgets a secret that is gone.
	robot.Secrets = []corev1.ObjectReference{{Name: "second"}, {Name: "kept"}}
	if _, err := accounts.Update(ctx, robot, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	secret("second", "robot", nil)
	second := filled("second")
	if err := secrets.Delete(ctx, "second", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, "the account forgets it", func() (bool, error) {
		a, err := accounts.Get(ctx, "robot", metav1.GetOptions{})
		return err == nil && len(a.Secrets) == 1 && a.Secrets[0].Name == "kept", err
	})
	within(t, "its token is refused", func() (bool, error) { return who(second.Data["token"]) == "", nil })

	// All go with the account, also when one of its name comes at once.
	secret("third", "robot", nil)
	third := filled("third")
	if err := accounts.Delete(ctx, "robot", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	account("robot")
	gone("first")
	gone("third")
	if got := who(third.Data["token"]); got != "" {
		t.Errorf("after its account is gone, its bearer is %q", got)
	}
}

func within(t *testing.T, what string, is func() (bool, error)) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ok, err := is()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s: %v", what, err)
		}
	}
}

func TestReadSigner(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(edwards)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "nonsense", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))} {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSigner(file); err == nil || !bytes.Contains([]byte(err.Error()), []byte(file)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ReadSigner("/nonexistent"); err == nil {
		t.Error("a file that is not there is read")
	}
}
