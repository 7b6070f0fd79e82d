package configuration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// settings are the flags that files set, as FLAG=TEXT.
func settings(t *testing.T, file, dir string) []string {
	t.Helper()
	f, err := Read(file, dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range f.Settings() {
		all = append(all, s.Flag+"="+s.Text)
	}
	slices.Sort(all)
	return all
}

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing": {"", nil},
		"each kind": {`
address: 198.18.0.1
port: 10250
rotateCertificates: true
maxPods: 55
streamingConnectionIdleTimeout: 5m
clusterDNS: [10.96.0.10, "fd00::10"]
featureGates: {Some: true, Other: false}
memoryThrottlingFactor: 0.8
registerWithTaints:
- {key: dedicated, value: db, effect: NoSchedule}
- {key: new, effect: NoExecute}
`, []string{
			"address=198.18.0.1", "cluster-dns=10.96.0.10,fd00::10", "feature-gates=Other=false,Some=true", "max-pods=55", "memory-throttling-factor=0.8",
			"port=10250", "register-with-taints=dedicated=db:NoSchedule,new=:NoExecute", "rotate-certificates=true", "streaming-connection-idle-timeout=5m",
		}},
		"below objects": {`
authentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 1m}, x509: {clientCAFile: /ca.crt}}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 3m}
crashLoopBackOff: {maxContainerRestartPeriod: 30s}
`, []string{
			"anonymous-auth=false", "authentication-token-webhook-cache-ttl=1m", "authorization-mode=Webhook", "authorization-webhook-cache-authorized-ttl=3m",
			"client-ca-file=/ca.crt", "max-container-restart-period=30s",
		}},
		"signs":                           {"evictionHard: {memory.available: 200Mi}\nsystemReserved: {cpu: 100m}\n", []string{"eviction-hard=memory.available<200Mi", "system-reserved=cpu=100m"}},
		"thresholds over the usual ones":  {"evictionHard: {memory.available: 200Mi}\nmergeDefaultEvictionSettings: true\n", []string{"eviction-hard=imagefs.available<15%,imagefs.inodesFree<5%,memory.available<200Mi,nodefs.available<10%,nodefs.inodesFree<5%"}},
		"headers":                         {"staticPodURL: http://a\nstaticPodURLHeader: {X-A: [one, two], X-B: [three]}\n", []string{`manifest-url-header={"X-A":["one","two"],"X-B":["three"]}`, "manifest-url=http://a"}},
		"a lease":                         {"nodeLeaseDurationSeconds: 40\n", []string{"node-lease-interval=10s"}},
		"null is as if it were not there": {"maxPods: null\nauthentication: null\n", nil},
		"JSON is YAML":                    {"", nil},
		"an anchor":                       {"kubeReserved: &r {cpu: 1}\n", nil},
	} {
		if strings.Contains(c.text, "&r") {
			c.text, c.want = "kubeReserved: &r {cpu: \"1\"}\nsystemReserved: *r\n", []string{"kube-reserved=cpu=1", "system-reserved=cpu=1"}
		}
		text := head + c.text
		if name == "JSON is YAML" {
			text, c.want = `{"kind":"KubeletConfiguration","apiVersion":"kubelet.config.k8s.io/v1beta1","maxPods":7}`, []string{"max-pods=7"}
		}
		if got := settings(t, write(t, t.TempDir(), "config.yaml", text), ""); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestPathsStandBesideTheirFile(t *testing.T) {
	dir := t.TempDir()
	got := settings(t, write(t, dir, "config.yaml", head+"staticPodPath: manifests\nresolvConf: /etc/resolv.conf\ntlsCertFile: \"\"\n"), "")
	if want := []string{"pod-manifest-path=" + dir + "/manifests", "resolv-conf=/etc/resolv.conf", "tls-cert-file="}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFolder: drop-ins are laid over the file and each other in the order of their paths; lists are replaced, maps and objects merged.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	main := write(t, t.TempDir(), "config.yaml", head+"maxPods: 10\nclusterDNS: [10.0.0.1, 10.0.0.2]\nfeatureGates: {A: true, B: true}\nauthorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 5m}}\nport: 1\n")
	write(t, dir, "20-last.conf", head+"maxPods: 30\nfeatureGates: {B: false}\n")
	write(t, dir, "10-first.conf", head+"maxPods: 20\nclusterDNS: [10.0.0.3]\nauthorization: {mode: AlwaysAllow}\n")
	write(t, dir, "30/deeper.conf", head+"address: 198.18.0.9\n")
	write(t, dir, "notes.txt", "no configuration")
	want := []string{"address=198.18.0.9", "authorization-mode=AlwaysAllow", "authorization-webhook-cache-authorized-ttl=5m", "cluster-dns=10.0.0.3", "feature-gates=A=true,B=false", "max-pods=30", "port=1"}
	if got := settings(t, main, dir); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := settings(t, "", dir); slices.Contains(got, "port=1") || !slices.Contains(got, "max-pods=30") {
		t.Errorf("a folder alone gives %q", got)
	}
	write(t, dir, "40-bad.conf", "maxPods: 1\n")
	if _, err := Read(main, dir); err == nil || !strings.Contains(err.Error(), "40-bad.conf:1: ") || !strings.Contains(err.Error(), "apiVersion: Invalid value") {
		t.Errorf("a drop-in without a type: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"maxPod: 3":                                     `config.yaml:3: strict decoding error: unknown field "maxPod"`,
		"authentication: {x509: {file: a}}":             `config.yaml:3: strict decoding error: unknown field "authentication.x509.file"`,
		"port: 1\nport: 2":                              `config.yaml:4: strict decoding error: duplicate field "port"`,
		"authentication: yes please":                    `config.yaml:3: authentication: Invalid value: must be an object`,
		"\nmaxPods: many":                               `config.yaml:4: maxPods: Invalid value: "many": must be an integer`,
		"maxPods: 1.5":                                  `maxPods: Invalid value: "1.5": must be an integer`,
		"maxPods: \"3\"":                                `maxPods: Invalid value: "3": must be an integer`,
		"rotateCertificates: 1":                         `rotateCertificates: Invalid value: "1": must be a boolean`,
		"syncFrequency: 10":                             `syncFrequency: Invalid value: "10": must be a duration`,
		"syncFrequency: soon":                           `syncFrequency: Invalid value: "soon": must be a duration such as "10s"`,
		"clusterDNS: 10.0.0.1":                          `clusterDNS: Invalid value: "10.0.0.1": must be a list of strings`,
		"evictionHard: {memory.available: 5}":           `evictionHard: [memory.available]: Invalid value: "5": must be a map of strings`,
		"registerWithTaints: [{key: a}]":                `registerWithTaints: [0]: Required value: key and effect`,
		"enableServer: false":                           `enableServer: Unsupported value: "false": supported values: ["true"]`,
		"readOnlyPort: 10255":                           `readOnlyPort: Forbidden: `,
		"cgroupDriver: systemd":                         `cgroupDriver: Unsupported value: "systemd": supported values: ["cgroupfs"]`,
		"memorySwap: {swapBehavior: LimitedSwap}":       `memorySwap.swapBehavior: Unsupported value: "LimitedSwap"`,
		"topologyManagerPolicy: best-effort":            `topologyManagerPolicy: Unsupported value: "best-effort"`,
		"enforceNodeAllocatable: [pods, kube-reserved]": `enforceNodeAllocatable: Unsupported value: "kube-reserved"`,
		"maxPods: [":                                    `config.yaml: yaml: line 3`,
	} {
		_, err := Read(write(t, t.TempDir(), "config.yaml", head+text+"\n"), "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "the file is empty", "kind: KubeletConfiguration\n": "apiVersion: Invalid value", "apiVersion: kubelet.config.k8s.io/v1\nkind: KubeletConfiguration\n": `"kubelet.config.k8s.io/v1": must be kubelet.config.k8s.io/v1beta1`,
	} {
		if _, err := Read(write(t, t.TempDir(), "config.yaml", text), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if _, err := Read("/nowhere/config.yaml", ""); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestConfigz(t *testing.T) {
	flags := map[string]string{"max-pods": "12", "cluster-dns": "10.0.0.1,10.0.0.2", "node-lease-interval": "10s", "anonymous-auth": "false", "eviction-hard": "memory.available<1Gi",
		"register-with-taints": "a=b:NoSchedule", "streaming-connection-idle-timeout": "4h0m0s"}
	all := Configz(func(name string) (string, bool) { v, ok := flags[name]; return v, ok })
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Kubeletconfig map[string]any `json:"kubeletconfig"`
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"kind": Kind, "apiVersion": APIVersion, "maxPods": 12.0, "clusterDNS": []any{"10.0.0.1", "10.0.0.2"}, "nodeLeaseDurationSeconds": 40.0,
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": false}}, "evictionHard": map[string]any{"memory.available": "1Gi"},
		"registerWithTaints": []any{map[string]any{"key": "a", "value": "b", "effect": "NoSchedule"}}, "streamingConnectionIdleTimeout": "4h0m0s", "cgroupDriver": "cgroupfs",
	} {
		if !reflect.DeepEqual(got.Kubeletconfig[field], want) {
			t.Errorf("%s is %v, want %v", field, got.Kubeletconfig[field], want)
		}
	}
}

func TestOthers(t *testing.T) {
	have := map[string]bool{"max-pods": true}
	names := map[string]Known{}
	for _, k := range Others(func(name string) bool { return have[name] }) {
		if _, twice := names[k.Name]; twice {
			t.Errorf("--%s is there twice", k.Name)
		}
		names[k.Name] = k
	}
	if _, ok := names["max-pods"]; ok {
		t.Error("a flag that the daemon has is made again")
	}
	for flag, c := range map[string]struct {
		text string
		ok   bool
	}{
		"read-only-port": {"0", true}, "read-only-port ": {"10255", false}, "cgroup-driver": {"cgroupfs", true}, "cgroup-driver ": {"systemd", false},
		"pod-infra-container-image": {"pause:3", true}, "docker-endpoint": {"unix:///docker.sock", false}, "network-plugin": {"cni", true}, "network-plugin ": {"kubenet", false},
		"event-qps": {"0", true}, "feature-gates": {"A=true", true}, "qos-reserved": {"memory=50%", false},
	} {
		k, known := names[strings.TrimSpace(flag)]
		if err := k.Check(c.text); !known || (err == nil) != c.ok {
			t.Errorf("--%s=%s: known %v, %v", flag, c.text, known, err)
		}
	}
}

// TestConfigzNull: a factor that is not set is not shown, as its default is null.
func TestConfigzNull(t *testing.T) {
	for text, want := range map[string]any{"0": nil, "0.5": 0.5} {
		shown := Configz(func(name string) (string, bool) { return text, name == "memory-throttling-factor" })["kubeletconfig"].(map[string]any)
		if got := shown["memoryThrottlingFactor"]; got != want {
			t.Errorf("a factor of %s is shown as %v, want %v", text, got, want)
		}
	}
}
