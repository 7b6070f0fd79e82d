package server

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/testcluster"
)

// TestEncryption: what the file names is not readable in etcd's files; keys are rotated the documented way, with no restart.
func TestEncryption(t *testing.T) {
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	put := func(providers ...string) {
		t.Helper()
		text := "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [" + strings.Join(providers, ", ") + "]\n"
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	provider := func(kind, name string, fill byte) string {
		return fmt.Sprintf("{%s: {keys: [{name: %s, secret: %s}]}}", kind, name, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)))
	}
	one, two := provider("aesgcm", "one", 1), provider("secretbox", "two", 2)
	put(one, "{identity: {}}")
	c := testcluster.Start(t, "--encryption-provider-config="+file)
	secrets := c.Kube.CoreV1().Secrets("default")
	s, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a"}, StringData: map[string]string{"k": "the-hidden-marker"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	open := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": "the-open-marker"}}
	if _, err := c.Kube.CoreV1().ConfigMaps("default").Create(t.Context(), open, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"the-hidden-marker": false, "the-open-marker": true, "k8s:enc:aesgcm:v1:one:": true} {
		if got, err := c.Etcd.Holds([]byte(text)); err != nil || got != want {
			t.Errorf("etcd's files hold %q: %v (%v), want %v", text, got, err, want)
		}
	}

	reloaded := func(outcome string, times int) {
		t.Helper()
		line := fmt.Sprintf("apiserver_encryption_config_controller_automatic_reloads_total{status=%q} %d", outcome, times)
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			b, err := c.Kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte(line)) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("no %s", line)
			}
		}
	}
	rewritten := func() bool {
		t.Helper()
		before := s.ResourceVersion
		if s, err = secrets.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		return s.ResourceVersion != before
	}
	if rewritten() {
		t.Error("an update that changes nothing was stored, under the same key")
	}
	put("{aesgcm: {keys: []}}")
	reloaded("failure", 1)
	put(two, one)
	reloaded("success", 1)
	if !rewritten() {
		t.Error("under another key, an update that changes nothing was not stored")
	}
	if rewritten() {
		t.Error("and stored again")
	}
	put(two)
	reloaded("success", 2)
	c.KillAPIServer()
	if err := c.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	got, err := secrets.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || string(got.Data["k"]) != "the-hidden-marker" {
		t.Errorf("after the old key was dropped: %v", err)
	}

	put("{secretbox: {keys: [{name: two, secret: c2hvcnQ=}]}}")
	if said := c.Refused("--encryption-provider-config=" + file); !strings.Contains(said, file) || !strings.Contains(said, "keys[0].secret: Invalid value: 5 bytes") {
		t.Errorf("a bad file: %s", said)
	}
}
