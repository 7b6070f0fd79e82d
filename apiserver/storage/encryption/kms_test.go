package encryption

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"
)

// counted is the value of a counter with one label.
func counted(t *testing.T, c *prometheus.CounterVec, label string) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.WithLabelValues(label).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// plugin is a key service on a socket: it seals by XOR with its key's name, which nobody should do, and counts.
type plugin struct {
	kmsapi.UnimplementedKeyManagementServiceServer

	mu       sync.Mutex
	key      string
	ill      bool
	encrypts int
	decrypts int
}

func (p *plugin) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ill {
		return nil, errors.New("ill")
	}
	return &kmsapi.StatusResponse{Version: "v2", Healthz: "ok", KeyId: p.key}, nil
}

func mask(key string, b []byte) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= key[i%len(key)]
	}
	return out
}

func (p *plugin) Encrypt(_ context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.encrypts++
	return &kmsapi.EncryptResponse{Ciphertext: mask(p.key, r.Plaintext), KeyId: p.key, Annotations: map[string][]byte{"key.example.com": []byte(p.key)}}, nil
}

func (p *plugin) Decrypt(_ context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ill {
		return nil, errors.New("ill")
	}
	p.decrypts++
	if r.KeyId != string(r.Annotations["key.example.com"]) {
		return nil, fmt.Errorf("the annotations are lost: %q, %q", r.KeyId, r.Annotations)
	}
	return &kmsapi.DecryptResponse{Plaintext: mask(r.KeyId, r.Ciphertext)}, nil
}

func (p *plugin) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func startPlugin(t *testing.T) (*plugin, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "kms.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p, s := &plugin{key: "key-1"}, grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(s, p)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p, "unix://" + socket
}

func TestKMS(t *testing.T) {
	p, endpoint := startPlugin(t)
	text := config("secrets", fmt.Sprintf("kms: {apiVersion: v2, name: vault, endpoint: '%s'}", endpoint))
	k := keeper(t, text)
	defer k.closeAll(k.now.Load())
	now := time.Unix(1_000_000, 0)
	service := k.now.Load().kms[0]
	service.now = func() time.Time { return now }
	var stored [][]byte
	seal := func() []byte {
		t.Helper()
		b, err := k.Seal(t.Context(), "", "secrets", path, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, b)
		return b
	}
	for range 100 {
		b := seal()
		if !bytes.HasPrefix(b, []byte("k8s:enc:kms:v2:vault:")) || bytes.Contains(b, []byte("secret value")) {
			t.Fatalf("stored %q", b)
		}
	}
	if p.encrypts != 1 {
		t.Errorf("%d calls to seal 100 values, want 1", p.encrypts)
	}
	if err := k.Healthy(t.Context()); err != nil {
		t.Error(err)
	}

	// Another server, or this one after a restart, opens them with one call.
	other := keeper(t, text)
	defer other.closeAll(other.now.Load())
	for _, b := range stored {
		if value, stale, err := other.Open(t.Context(), "", "secrets", path, b); err != nil || stale || string(value) != plain {
			t.Fatalf("opened %q, stale %v, %v", value, stale, err)
		}
	}
	if p.decrypts != 1 {
		t.Errorf("%d calls to open 100 values of one seed, want 1", p.decrypts)
	}
	if _, _, err := other.Open(t.Context(), "", "secrets", []byte("/elsewhere"), stored[0]); err == nil {
		t.Error("it opens at another path")
	}
	for n := range stored[0] {
		if value, _, err := other.Open(t.Context(), "", "secrets", path, stored[0][:n]); err == nil && string(value) != plain {
			t.Errorf("%d of %d bytes open as %q", n, len(stored[0]), value)
		}
	}

	// The plugin's key is replaced: the next check makes a seed of its own, what the old one sealed is stale.
	p.set(func() { p.key = "key-2" })
	if err := service.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := seal()
	if _, stale, err := k.Open(t.Context(), "", "secrets", path, stored[0]); err != nil || !stale {
		t.Errorf("of the old key: stale %v, %v", stale, err)
	}
	if _, stale, err := k.Open(t.Context(), "", "secrets", path, fresh); err != nil || stale {
		t.Errorf("of the new key: stale %v, %v", stale, err)
	}

	// The plugin is away: what is known goes on, for a while.
	p.set(func() { p.ill = true })
	now = now.Add(stateLife - time.Second)
	seal()
	now = now.Add(2 * time.Second)
	if _, err := k.Seal(t.Context(), "", "secrets", path, []byte(plain)); err == nil || !strings.Contains(err.Error(), `kms plugin "vault"`) || strings.Contains(err.Error(), plain) {
		t.Errorf("sealed with a plugin that is away: %v", err)
	}
	if err := k.Healthy(t.Context()); err == nil {
		t.Error("healthy with a plugin that is away")
	}
	if value, _, err := k.Open(t.Context(), "", "secrets", path, fresh); err != nil || string(value) != plain {
		t.Errorf("what is known does not open: %v", err)
	}
	p.set(func() { p.ill = false })
	seal()
}

func FuzzEnvelope(f *testing.F) {
	f.Add(appendEnvelope(nil, envelope{body: []byte("body"), seed: sealedSeed{"k", []byte("seed"), map[string][]byte{"a": []byte("b")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEnvelope(b)
		if err != nil {
			return
		}
		again, err := parseEnvelope(appendEnvelope(nil, e))
		if err != nil || !bytes.Equal(again.body, e.body) || again.seed.keyID != e.seed.keyID || len(again.seed.annotations) != len(e.seed.annotations) {
			t.Errorf("%+v, then %+v, %v", e, again, err)
		}
	})
}
