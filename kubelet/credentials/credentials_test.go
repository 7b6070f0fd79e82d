package credentials

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"pilothouse.dev/pkg/logging"
)

func users(creds []Credential) []string {
	var names []string
	for _, c := range creds {
		names = append(names, c.Username)
	}
	return names
}

// TestMatching: by host, port, path and stars, the most precise first.
func TestMatching(t *testing.T) {
	var logins []login
	for where, user := range map[string]string{
		"https://index.docker.io/v1/": "docker", "reg.test": "host", "reg.test/team": "team", "http://reg.test/v2/team/app": "app", "*.reg.test": "star",
		"reg.test:5000": "port", "eu.*.test": "middle", "app*.test": "part",
	} {
		l, err := loginOf(where, dockerAuth{Username: user}, Credential{})
		if err != nil {
			t.Fatal(err)
		}
		logins = append(logins, l)
	}
	for repository, want := range map[string][]string{
		"docker.io/library/busybox": {"docker"},
		"reg.test/other":            {"host"},
		"reg.test/team/app":         {"app", "team", "host"},
		"reg.test/team/b":           {"team", "host"},
		"eu.reg.test/app":           {"middle", "star"},
		"a.eu.reg.test/app":         nil,
		"reg.test:5000/app":         {"port"},
		"reg.test:5001/app":         nil,
		"apples.test/x":             {"part"},
		"other.test/app":            nil,
	} {
		if got := users(matching(logins, repository)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", repository, got, want)
		}
	}
}

func TestDockerConfig(t *testing.T) {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for entry, want := range map[string]string{
		`{"username":"u","password":"p"}`:                                    "u p",
		`{"auth":"` + encode("u:p:q") + `"}`:                                 "u p:q",
		`{"auth":"` + strings.TrimRight(encode("u:pp"), "=") + `"}`:          "u pp",
		`{"username":"x","password":"y","auth":"` + encode("u:p\x00") + `"}`: "u p",
		`{"identitytoken":"t","auth":"` + encode("u:p") + `"}`:               " t",
		`{"auth":"not base64!"}`:                                             "auth is not base64",
		`{"auth":"` + encode("secret") + `"}`:                                "auth holds no user and password",
	} {
		logins, err := readConfig([]byte(`{"auths":{"reg.test":`+entry+`}}`), true, Credential{})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = logins[0].cred.Username + " " + logins[0].cred.Password
		}
		if !strings.HasSuffix(got, want) {
			t.Errorf("%s: got %q, want %q", entry, got, want)
		}
	}
	if _, err := readConfig([]byte(`{"reg.test":{"auth":"`+encode("u:secret")), false, Credential{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("half a file: %v", err)
	}
}

// TestFormat: whatever prints a credential, what it holds is not told.
func TestFormat(t *testing.T) {
	for _, c := range []Credential{{Username: "u", Password: "secret"}, {Password: "secret", Secret: "s"}, {Password: "secret", Account: "a"}} {
		text := fmt.Sprintf("%v %+v %#v %s %q %x %v", c, c, c, c, c, c, []Credential{c})
		if strings.Contains(text, "secret") && c.Secret == "" || strings.Contains(text, "736563726574") || strings.Contains(text, "u\"") {
			t.Errorf("told: %s", text)
		}
	}
	a, b := Credential{Username: "u", Password: "p"}, Credential{Username: "up", Password: ""}
	if a.Hash("x") == b.Hash("x") || a.Hash("x") == a.Hash("y") || a.Hash("x") != (Credential{Username: "u", Password: "p", Secret: "s"}).Hash("x") {
		t.Error("hashes do not tell credentials apart")
	}
}

// TestNodeFile: the first file that is there counts, after the pod's secrets, and is read again when it changes.
func TestNodeFile(t *testing.T) {
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "none.json"), filepath.Join(dir, "config.json"), filepath.Join(dir, ".dockercfg")}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k := New(Config{Files: files}, nil, nil, logging.ForTest(t))
	secret := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "uid"}, Type: corev1.SecretTypeDockercfg,
		Data: map[string][]byte{corev1.DockerConfigKey: []byte(`{"reg.test":{"username":"pod"}}`)}}
	look := func(want ...string) {
		t.Helper()
		got, _ := k.Lookup(t.Context(), Request{Repository: "reg.test/app", Secrets: []corev1.Secret{secret, {Type: corev1.SecretTypeOpaque}}})
		if !slices.Equal(users(got), want) {
			t.Errorf("got %v, want %v", users(got), want)
		}
	}
	look("pod")
	write(".dockercfg", `{"reg.test":{"username":"old"}}`)
	look("pod", "old")
	write("config.json", `{"auths":{"reg.test":{"username":"node"}}}`)
	look("pod", "node")
	write("config.json", `{"auths":{"reg.test":{"username":"changed"}}}`)
	look("pod", "changed")
	write("config.json", `{`)
	if got, problems := k.Lookup(t.Context(), Request{Repository: "reg.test/app", Secrets: []corev1.Secret{secret}}); len(got) != 1 || len(problems) != 1 ||
		got[0].Secret != "uid" || got[0].OfNode() {
		t.Errorf("a spoiled file: %v, %v", got, problems)
	}
}

// tokens gives a token for each audience.
type tokens struct{ asked int }

func (t *tokens) Token(_ context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	t.asked++
	return "token-of-" + pod.Name + "-for-" + p.Audience, time.Time{}, nil
}

// provider writes a plugin: a program that notes what it is asked and answers with a file.
func provider(t *testing.T, dir, name, answer string) {
	t.Helper()
	script := fmt.Sprintf("#!/bin/sh\ncat >> %[1]s/%[2]s.asked\necho \"$*|$MODE\" >> %[1]s/%[2]s.ran\nsh -c 'echo a-secret-on-stderr >&2'\n%[3]s\n", dir, name, answer)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func response(kind, life, auth string) string {
	return fmt.Sprintf(`echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":%q%s,"auth":%s}'`, kind, life, auth)
}

func lines(t *testing.T, path string) int {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(raw), "\n")
}

const head = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"

// TestPlugins: those that the image is for are asked, and not again while their answer lasts; one that fails stands in nobody's way.
func TestPlugins(t *testing.T) {
	dir := t.TempDir()
	provider(t, dir, "by-image", response("Image", "", `{"*.reg.test":{"username":"image","password":"p"},"other.test":{"username":"no","password":"p"}}`))
	provider(t, dir, "by-registry", response("Registry", `,"cacheDuration":"1h"`, `{"a.reg.test":{"username":"registry","password":"p"},"b.reg.test":{"username":"registry","password":"p"}}`))
	provider(t, dir, "by-all", response("Global", "", `{"*.reg.test":{"username":"all","password":"p"}}`))
	provider(t, dir, "never", response("Image", `,"cacheDuration":"0s"`, `null`))
	provider(t, dir, "fails", "echo password=a-secret; exit 3")
	provider(t, dir, "babbles", "echo a-secret")
	provider(t, dir, "strange", strings.ReplaceAll(response("Image", "", "{}"), "kubelet.k8s.io/v1", "kubelet.k8s.io/v2"))
	provider(t, dir, "kind", response("World", "", "{}"))
	provider(t, dir, "elsewhere", "exit 1")
	config := head
	for _, name := range []string{"by-image", "by-registry", "by-all", "never", "fails", "babbles", "strange", "kind"} {
		config += fmt.Sprintf("- name: %s\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  defaultCacheDuration: 1h\n  matchImages: ['*.reg.test']\n  args: [get, me]\n  env: [{name: MODE, value: m}]\n", name)
	}
	config += "- {name: elsewhere, apiVersion: credentialprovider.kubelet.k8s.io/v1, defaultCacheDuration: 1h, matchImages: [elsewhere.test]}\n"
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	k := New(Config{PluginConfig: file, PluginDir: dir}, nil, nil, logging.ForTest(t))
	if err := k.Open(); err != nil {
		t.Fatal(err)
	}
	for i, repository := range []string{"a.reg.test/app", "a.reg.test/app", "a.reg.test/other", "b.reg.test/app"} {
		got, problems := k.Lookup(t.Context(), Request{Repository: repository})
		if want := []string{"image", "registry", "all"}; !slices.Equal(users(got), want) || !got[0].OfNode() {
			t.Errorf("%d: got %v, want %v", i, users(got), want)
		}
		if len(problems) != 4 || strings.Contains(fmt.Sprint(problems), "a-secret") || !strings.Contains(problems[0].Error(), "credential provider fails: running it: exit status 3") {
			t.Errorf("%d: problems %v", i, problems)
		}
	}
	for name, want := range map[string]int{"by-image": 3, "by-registry": 2, "by-all": 1, "never": 4, "fails": 4, "elsewhere": 0} {
		if ran := lines(t, filepath.Join(dir, name+".ran")); ran != want {
			t.Errorf("%s ran %d times, want %d", name, ran, want)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "by-all.ran")); err != nil || string(raw) != "get me|m\n" {
		t.Errorf("ran as %q, %v", raw, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "by-all.asked"))
	if want := `{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"a.reg.test/app"}`; err != nil || string(raw) != want {
		t.Errorf("asked %s, %v; want %s", raw, err, want)
	}
}

// TestAccounts: a plugin that wants to know the service account gets its annotations and a token; what it says is kept for that account alone.
func TestAccounts(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"account", "token", "maybe"} {
		provider(t, dir, name, response("Global", "", `{"reg.test":{"username":"`+name+`","password":"p"}}`))
	}
	config := head
	for name, attributes := range map[string]string{
		"account": "cacheType: ServiceAccount, requireServiceAccount: true, requiredServiceAccountAnnotationKeys: [test/role], optionalServiceAccountAnnotationKeys: [test/more]",
		"token":   "cacheType: Token, requireServiceAccount: true", "maybe": "cacheType: ServiceAccount, requireServiceAccount: false",
	} {
		config += fmt.Sprintf("- {name: %s, apiVersion: credentialprovider.kubelet.k8s.io/v1, defaultCacheDuration: 1h, matchImages: [reg.test], tokenAttributes: {serviceAccountTokenAudience: reg, %s}}\n", name, attributes)
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	account := func(name string, annotations map[string]string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "uid-" + "of", Annotations: annotations}}
	}
	kube := fake.NewClientset(account("full", map[string]string{"test/role": "puller", "test/private": "x"}), account("bare", nil))
	k := New(Config{PluginConfig: file, PluginDir: dir}, kube.CoreV1(), &tokens{}, logging.ForTest(t))
	if err := k.Open(); err != nil {
		t.Fatal(err)
	}
	pod := func(name, account string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{ServiceAccountName: account}}
	}
	for _, c := range []struct {
		name     string
		pod      *corev1.Pod
		want     []string
		problems string
	}{
		{"the first", pod("a", "full"), []string{"account", "maybe", "token"}, "[]"},
		{"another of the same account", pod("b", "full"), []string{"account", "maybe", "token"}, "[]"},
		{"an account without the annotation", pod("c", "bare"), []string{"maybe", "token"}, "[credential provider account: service account ns/bare: required annotation test/role not found]"},
		{"no account", pod("d", ""), []string{"maybe"}, "[]"},
		{"the node itself", nil, []string{"maybe"}, "[]"},
	} {
		got, problems := k.Lookup(t.Context(), Request{Repository: "reg.test/app", Pod: c.pod})
		names := users(got)
		slices.Sort(names)
		if !slices.Equal(names, c.want) || fmt.Sprint(problems) != c.problems {
			t.Errorf("%s: got %v, %v", c.name, names, problems)
		}
		if c.pod != nil && c.pod.Spec.ServiceAccountName == "full" && (got[0].OfNode() || got[0].Account != "uid-of") {
			t.Errorf("%s: %v is not the account's", c.name, got[0])
		}
	}
	for name, want := range map[string]int{"account": 1, "token": 3, "maybe": 3} {
		if ran := lines(t, filepath.Join(dir, name+".ran")); ran != want {
			t.Errorf("%s ran %d times, want %d", name, ran, want)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "account.asked"))
	var asked struct {
		ServiceAccountToken       string
		ServiceAccountAnnotations map[string]string
	}
	if err == nil {
		err = json.Unmarshal(raw, &asked)
	}
	if err != nil || asked.ServiceAccountToken != "token-of-a-for-reg" || len(asked.ServiceAccountAnnotations) != 1 || asked.ServiceAccountAnnotations["test/role"] != "puller" {
		t.Errorf("asked %s, %v", raw, err)
	}
}

// TestConfig: what is wrong in a configuration is said at the start.
func TestConfig(t *testing.T) {
	dir := t.TempDir()
	provider(t, dir, "ok", "")
	const good = "- {name: ok, apiVersion: credentialprovider.kubelet.k8s.io/v1, defaultCacheDuration: 1h, matchImages: [reg.test]}\n"
	with := func(attributes string) string {
		return head + strings.Replace(good, "}", ", tokenAttributes: {"+attributes+"}}", 1)
	}
	for text, want := range map[string]string{
		head + good:        "",
		head + good + good: `Duplicate value: "ok"`,
		strings.Replace(head, "/v1", "/v9", 1) + good: "want kind CredentialProviderConfig",
		head:                          "at least 1 item in plugins is required",
		head + "- {name: ok, x: 1}\n": `unknown field "x"`,
		head + "- {name: a/b}\n":      "provider name cannot contain spaces",
		head + "- {}\n":               "name: Required value",
		head + strings.Replace(good, "1h", "-1h", 1):                                                                                      "must be greater than or equal to 0",
		head + strings.Replace(good, "io/v1", "io/v3", 1):                                                                                 "apiVersion: Unsupported value",
		head + strings.Replace(good, "[reg.test]", "[]", 1):                                                                               "matchImages: Required value",
		head + strings.Replace(good, "[reg.test]", "['a b%zz']", 1):                                                                       "matchImages[0]: Invalid value",
		head + strings.Replace(good, "name: ok", "name: missing", 1):                                                                      "no such file",
		with("serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true"):                                             "",
		with("cacheType: Token, requireServiceAccount: true"):                                                                             "serviceAccountTokenAudience: Required value",
		with("serviceAccountTokenAudience: a, requireServiceAccount: true"):                                                               "cacheType: Required value",
		with("serviceAccountTokenAudience: a, cacheType: Never, requireServiceAccount: true"):                                             "cacheType: Unsupported value",
		with("serviceAccountTokenAudience: a, cacheType: Token"):                                                                          "requireServiceAccount: Required value",
		with("serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: false, requiredServiceAccountAnnotationKeys: [a]"): "Forbidden",
		with("serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true, requiredServiceAccountAnnotationKeys: [a], optionalServiceAccountAnnotationKeys: [a]"): "Duplicate value",
		with("serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true, optionalServiceAccountAnnotationKeys: ['a b']"):                                        "Invalid value",
	} {
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := New(Config{PluginConfig: file, PluginDir: dir}, nil, nil, logging.ForTest(t)).Open()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	if New(Config{PluginDir: dir}, nil, nil, logging.ForTest(t)).Open() == nil {
		t.Error("a folder without a configuration was taken")
	}
	// A folder of configurations.
	many := t.TempDir()
	if err := New(Config{PluginConfig: many, PluginDir: dir}, nil, nil, logging.ForTest(t)).Open(); err == nil {
		t.Error("an empty folder was taken")
	}
	provider(t, dir, "second", "")
	for name, text := range map[string]string{"2.json": `{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[{"name":"second","apiVersion":"credentialprovider.kubelet.k8s.io/v1","defaultCacheDuration":"0s","matchImages":["x"]}]}`,
		"1.yml": head + good, "README": "no configuration"} {
		if err := os.WriteFile(filepath.Join(many, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k := New(Config{PluginConfig: many, PluginDir: dir}, nil, nil, logging.ForTest(t))
	if err := k.Open(); err != nil || len(k.plugins) != 2 || k.plugins[0].Name != "ok" {
		t.Errorf("a folder: %d plugins, %v", len(k.plugins), err)
	}
}
