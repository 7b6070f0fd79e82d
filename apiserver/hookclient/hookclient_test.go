package hookclient

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// service is a TLS server and the kubeconfig that leads to it.
func service(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	b, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "s", "cluster": map[string]any{"server": s.URL + "/ask", "certificate-authority-data": ca}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": "t0ken"}}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "s", "user": "u"}}},
	})
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPost(t *testing.T) {
	type message struct{ Text string }
	for _, c := range []struct {
		name    string
		answers []int // status codes, one a try; the last for all further
		want    string
		tries   int
	}{
		{"at once", []int{200}, "", 1},
		{"created", []int{201}, "", 1},
		{"after trouble", []int{500, 429, 200}, "", 3},
		{"never", []int{503}, "503", 3},
		{"refused", []int{403}, "403", 1},
		{"elsewhere", []int{302}, "302", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			tries := 0
			file := service(t, func(w http.ResponseWriter, r *http.Request) {
				code := c.answers[min(tries, len(c.answers)-1)]
				tries++
				var in message
				if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Text != "secret question" || r.URL.Path != "/ask" || r.Header.Get("Authorization") != "Bearer t0ken" {
					t.Errorf("asked %+v at %s (%v)", in, r.URL, err)
				}
				w.Header().Set("Location", "/other")
				w.WriteHeader(code)
				_, _ = w.Write([]byte(`{"text":"answer"}`))
			})
			client, err := FromKubeconfig(file, Options{Tries: 3, Pause: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			var out message
			err = client.Post(t.Context(), message{"secret question"}, &out)
			if tries != c.tries {
				t.Errorf("asked %d times, want %d", tries, c.tries)
			}
			if c.want == "" {
				if err != nil || out.Text != "answer" {
					t.Errorf("got %+v, %v", out, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "t0ken") {
				t.Errorf("got %v, want %s and no secret", err, c.want)
			}
		})
	}
}

func TestBadKubeconfig(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("clusters: {"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{bad, filepath.Join(dir, "absent")} {
		if _, err := FromKubeconfig(file, Options{}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
