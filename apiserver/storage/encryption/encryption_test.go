package encryption

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pilothouse.dev/pkg/logging"
)

func key(fill byte, size int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, size))
}

// config writes the file with these lists of resources and providers, alternating.
func config(parts ...string) string {
	var b strings.Builder
	b.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n")
	for i := 0; i < len(parts); i += 2 {
		fmt.Fprintf(&b, "- resources: [%s]\n  providers:\n", parts[i])
		for p := range strings.SplitSeq(parts[i+1], ";") {
			fmt.Fprintf(&b, "  - %s\n", p)
		}
	}
	return b.String()
}

func local(kind, name string, fill byte) string {
	return fmt.Sprintf("%s: {keys: [{name: %s, secret: %s}]}", kind, name, key(fill, 32))
}

// keeper is one with this configuration in force.
func keeper(t *testing.T, text string) *Keeper {
	t.Helper()
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Open(Config{File: file}, prometheus.NewRegistry(), logging.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const plain = "the very secret value"

var path = []byte("/registry/secrets/ns/a")

func TestSealAndOpen(t *testing.T) {
	for _, kind := range []string{"aesgcm", "aescbc", "secretbox"} {
		t.Run(kind, func(t *testing.T) {
			k := keeper(t, config("secrets", local(kind, "one", 1)+"; identity: {}"))
			stored, err := k.Seal(t.Context(), "", "secrets", path, []byte(plain))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(stored, []byte("k8s:enc:"+kind+":v1:one:")) || bytes.Contains(stored, []byte("secret value")) {
				t.Errorf("stored %q", stored)
			}
			second, err := k.Seal(t.Context(), "", "secrets", path, []byte(plain))
			if err != nil || bytes.Equal(stored, second) {
				t.Errorf("the same twice: %v", err)
			}
			value, stale, err := k.Open(t.Context(), "", "secrets", path, stored)
			if err != nil || stale || string(value) != plain {
				t.Errorf("opened %q, stale %v, %v", value, stale, err)
			}
			value, stale, err = k.Open(t.Context(), "", "secrets", path, []byte(plain))
			if err != nil || !stale || string(value) != plain {
				t.Errorf("what was never sealed: %q, stale %v, %v", value, stale, err)
			}
			for i := range stored[len("k8s:enc:"+kind+":v1:one:"):] {
				bad := bytes.Clone(stored)
				bad[len(bad)-1-i] ^= 0x40
				if value, _, err := k.Open(t.Context(), "", "secrets", path, bad); err == nil && string(value) == plain {
					t.Errorf("byte %d from the end is changed and the value opens", i)
				} else if err == nil && kind != "aescbc" { // which authenticates nothing
					t.Errorf("byte %d from the end is changed, and it opens as %q", i, value)
				}
			}
			for n := range stored {
				if value, _, err := k.Open(t.Context(), "", "secrets", path, stored[:n]); err == nil && string(value) == plain {
					t.Errorf("%d of %d bytes open", n, len(stored))
				}
			}
			if _, _, err := k.Open(t.Context(), "", "secrets", []byte("/registry/secrets/ns/b"), stored); kind == "aesgcm" && err == nil {
				t.Error("it opens at another path")
			}
			other := keeper(t, config("secrets", local(kind, "one", 2)))
			if value, _, err := other.Open(t.Context(), "", "secrets", path, stored); err == nil && string(value) == plain {
				t.Error("it opens with another key of the same name")
			}
			other = keeper(t, config("secrets", local(kind, "two", 1)))
			if _, _, err := other.Open(t.Context(), "", "secrets", path, stored); err == nil || !strings.Contains(err.Error(), "sealed by k8s:enc:"+kind+":v1:one,") {
				t.Errorf("without the key: %v", err)
			}
		})
	}
}

// TestRotation goes the documented way: add the new key second, make it first, rewrite, drop the old.
func TestRotation(t *testing.T) {
	one, two := local("aesgcm", "one", 1), local("secretbox", "two", 2)
	steps := []struct {
		providers string
		stale     bool // of what step 0 stored
		mark      string
	}{
		{one, false, "aesgcm:v1:one:"},
		{one + ";" + two, false, "aesgcm:v1:one:"},
		{two + ";" + one, true, "secretbox:v1:two:"},
	}
	var first []byte
	for i, s := range steps {
		k := keeper(t, config("secrets", s.providers))
		stored, err := k.Seal(t.Context(), "", "secrets", path, []byte(plain))
		if err != nil || !bytes.HasPrefix(stored, []byte("k8s:enc:"+s.mark)) {
			t.Fatalf("step %d: %q, %v", i, stored, err)
		}
		if i == 0 {
			first = stored
		}
		value, stale, err := k.Open(t.Context(), "", "secrets", path, first)
		if err != nil || stale != s.stale || string(value) != plain {
			t.Errorf("step %d: %q, stale %v, %v", i, value, stale, err)
		}
	}
	// Identity first: what is sealed stays readable, what is written is not sealed.
	k := keeper(t, config("secrets", "identity: {};"+one))
	if value, stale, err := k.Open(t.Context(), "", "secrets", path, first); err != nil || !stale || string(value) != plain {
		t.Errorf("turned off: %q, stale %v, %v", value, stale, err)
	}
	if stored, err := k.Seal(t.Context(), "", "secrets", path, []byte(plain)); err != nil || string(stored) != plain {
		t.Errorf("turned off: %q, %v", stored, err)
	}
}

func TestWhichKinds(t *testing.T) {
	one, two := local("aesgcm", "one", 1), local("aesgcm", "two", 2)
	k := keeper(t, config("secrets, deployments.apps", one, "'*.'", two, "'*.apps'", two))
	for _, c := range []struct{ group, plural, key string }{
		{"", "secrets", "one"}, {"apps", "deployments", "one"}, {"", "configmaps", "two"}, {"apps", "replicasets", "two"},
		{"batch", "jobs", ""}, {"batch", "secrets", ""},
	} {
		stored, err := k.Seal(t.Context(), c.group, c.plural, path, []byte(plain))
		if err != nil || c.key != "" != sealed(stored) || !strings.Contains(string(stored), c.key) {
			t.Errorf("%s.%s: %q, %v; want key %q", c.plural, c.group, stored, err, c.key)
		}
	}
	all := keeper(t, config("secrets", one, "'*.*'", two))
	if stored, err := all.Seal(t.Context(), "batch", "jobs", path, []byte(plain)); err != nil || !strings.Contains(string(stored), "two") {
		t.Errorf("everything: %q, %v", stored, err)
	}
	// A kind that the file does not name: what is sealed is never taken for a value.
	if _, _, err := k.Open(t.Context(), "batch", "jobs", path, []byte("k8s:enc:aesgcm:v1:one:xxx")); err == nil || !strings.Contains(err.Error(), "does not name") {
		t.Errorf("got %v", err)
	}
}

func TestBadFiles(t *testing.T) {
	good := local("aesgcm", "one", 1)
	for _, c := range []struct{ name, text, want string }{
		{"no YAML", "resources: [", "yaml: line 1"},
		{"a name before the wildcard", config("events", good, "'*.'", good, "'*.*'", good), ""},
		{"another kind", "apiVersion: v1\nkind: Pod", `want "EncryptionConfiguration" of "apiserver.config.k8s.io/v1"`},
		{"nothing", config(), "resources: Required value"},
		{"a field that is not", config("secrets", "aesgmc: {}"), `unknown field "resources[0].providers[0].aesgmc"`},
		{"no kinds", config("", good), "resources[0].resources: Required value"},
		{"no provider", "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{resources: [secrets]}]", "resources[0].providers: Required value"},
		{"two in one", config("secrets", "{identity: {}, aesgcm: {keys: []}}"), "resources[0].providers[0]: want exactly one"},
		{"no keys", config("secrets", "aesgcm: {keys: []}"), "resources[0].providers[0].aesgcm.keys: Required value"},
		{"a short key", config("secrets", "secretbox: {keys: [{name: a, secret: "+key(7, 16)+"}]}"), "resources[0].providers[0].secretbox.keys[0].secret: Invalid value: 16 bytes, want one of [32]"},
		{"no base64", config("secrets", "aesgcm: {keys: [{name: a, secret: '!!! not for eyes'}]}"), "keys[0].secret: Invalid value: not base64"},
		{"a key twice", config("secrets", "aesgcm: {keys: [{name: a, secret: "+key(1, 32)+"}, {name: a, secret: "+key(2, 32)+"}]}"), "keys[1].name: Invalid value: \"a\""},
		{"a colon", config("secrets", "aesgcm: {keys: [{name: 'a:b', secret: "+key(1, 32)+"}]}"), "no colon"},
		{"a subresource", config("pods/status", good), "a subresource is not stored"},
		{"a star alone", config("'*'", good), "use *.* for everything"},
		{"covered", config("'*.*'", good, "secrets", good), `resources[1].resources[0]: Invalid value: "secrets": an earlier list covers it already`},
		{"twice", config("secrets, secrets", good), "is named twice"},
		{"version 1 of kms", config("secrets", "kms: {apiVersion: v1, name: k, endpoint: 'unix:///s'}"), `.kms.apiVersion: Unsupported value: "v1"`},
		{"kms elsewhere", config("secrets", "kms: {apiVersion: v2, name: k, endpoint: 'https://x'}"), ".kms.endpoint: Invalid value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "encryption.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(Config{File: file}, prometheus.NewRegistry(), logging.ForTest(t))
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Fatalf("got %v, want %s and the file", err, c.want)
			}
			for _, secret := range []string{key(1, 32), key(7, 16), "not for eyes"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("a key is told: %v", err)
				}
			}
		})
	}
}

// TestReload: a new file comes into force, a bad one does not.
func TestReload(t *testing.T) {
	k := keeper(t, config("secrets", local("aesgcm", "one", 1)))
	k.cfg.Reload = true
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(k.cfg.File+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(k.cfg.File+".new", k.cfg.File); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	mark := func() string {
		stored, err := k.Seal(t.Context(), "", "secrets", path, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		return string(stored[:len("k8s:enc:aesgcm:v1:one:")])
	}
	put(config("secrets", "aesgcm: {keys: []}"))
	until("a bad file is not counted", func() bool { return counted(t, k.metrics.reloads, "failure") == 1 })
	if got := mark(); got != "k8s:enc:aesgcm:v1:one:" {
		t.Errorf("after a bad file: %s", got)
	}
	put(config("secrets", local("aesgcm", "two", 2)+";"+local("aesgcm", "one", 1)))
	until("the new file is not used", func() bool { return mark() == "k8s:enc:aesgcm:v1:two:" })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
