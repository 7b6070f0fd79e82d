package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// read parses a command line as main does.
func read(args ...string) (cfg Config, err error) {
	app := &cli.App{Name: "kubelet", Flags: cfg.flags(), Action: func(*cli.Context) error { return nil }, ExitErrHandler: func(*cli.Context, error) {}, Writer: io.Discard, ErrWriter: io.Discard}
	err = app.Run(append([]string{"kubelet"}, args...))
	return cfg, err
}

// parsed is read for a command line that must be good.
func parsed(t *testing.T, args ...string) Config {
	t.Helper()
	cfg, err := read(args...)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestFace is the kubelet's command line, its files, and what it tells of them.
func TestFace(t *testing.T) {
	t.Run("files", testFiles)
	t.Run("flags that are only known", testKnown)
	t.Run("every setting has a flag", testInForce)
}

func testFiles(t *testing.T) {
	dir, drop := t.TempDir(), t.TempDir()
	const head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
	write := func(path, text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(head+text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write(filepath.Join(dir, "config.yaml"), `
maxPods: 20
clusterDNS: [10.96.0.10, "fd00::a"]
nodeLeaseDurationSeconds: 40
rotateCertificates: true
streamingConnectionIdleTimeout: 90s
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}, x509: {clientCAFile: ca.crt}}
registerWithTaints: [{key: dedicated, value: db, effect: NoSchedule}]
containerLogMaxSize: 3Mi
featureGates: {Anything: true}
`)
	write(filepath.Join(drop, "10.conf"), "containerLogMaxFiles: 7\nmaxPods: 30\n")
	for name, c := range map[string]struct {
		args []string
		want func(Config) bool
	}{
		"a file": {[]string{"--config", file}, func(c Config) bool {
			return c.MaxPods == 20 && reflect.DeepEqual(c.ClusterDNS.Value(), []string{"10.96.0.10", "fd00::a"}) && c.LeaseInterval.String() == "10s" && c.Rotate && c.StreamIdle.String() == "1m30s" &&
				c.Access.Anonymous && !c.Access.Tokens && c.CA == dir+"/ca.crt" && reflect.DeepEqual(c.Taints.Value(), []string{"dedicated=db:NoSchedule"}) && c.LogMaxSize == "3Mi" && c.LogMaxFiles == 5
		}},
		"a flag wins": {[]string{"--max-pods=7", "--config", file, "--cluster-dns=10.0.0.1"}, func(c Config) bool {
			return c.MaxPods == 7 && fmt.Sprint(c.ClusterDNS.Value()) == "[10.0.0.1]" && c.Rotate
		}},
		"drop-ins":             {[]string{"--config", file, "--config-dir", drop}, func(c Config) bool { return c.MaxPods == 30 && c.LogMaxFiles == 7 && c.Rotate }},
		"drop-ins alone":       {[]string{"--config-dir", drop}, func(c Config) bool { return c.MaxPods == 30 && c.LogMaxFiles == 7 && !c.Rotate }},
		"a flag over drop-ins": {[]string{"--config-dir", drop, "--max-pods", "4"}, func(c Config) bool { return c.MaxPods == 4 && c.LogMaxFiles == 7 }},
	} {
		if cfg := parsed(t, c.args...); !c.want(cfg) {
			t.Errorf("%s: got %+v", name, cfg)
		}
	}
	for text, want := range map[string]string{
		"maxPodz: 3": `bad.yaml:3: strict decoding error: unknown field "maxPodz"`, "containerLogMaxFiles: 99999999999999999999": "bad.yaml:3: ",
		"cgroupDriver: systemd": "cgroupDriver: Unsupported value",
	} {
		if _, err := read("--config", write(filepath.Join(dir, "bad.yaml"), text+"\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func testKnown(t *testing.T) {
	parsed(t, "--pod-infra-container-image=pause:3.10", "--event-qps=0", "--read-only-port=0", "--network-plugin=cni", "--feature-gates=A=true", "--cgroup-driver=cgroupfs", "--container-runtime=remote", "--protect-kernel-defaults=false")
	for _, bad := range []string{"--read-only-port=10255", "--cgroup-driver=systemd", "--docker-endpoint=unix:///var/run/docker.sock", "--protect-kernel-defaults", "--topology-manager-policy=best-effort", "--cloud-provider=aws"} {
		name, _, _ := strings.Cut(bad, "=")
		if _, err := read(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// testInForce: what a flag or a file says is what /configz shows.
func testInForce(t *testing.T) {
	cfg := parsed(t, "--max-pods=12", "--cluster-dns=10.0.0.1", "--cluster-dns=10.0.0.2", "--event-qps=3", "--anonymous-auth=false")
	for _, f := range cfg.own() {
		if _, ok := cfg.inForce()(f.Names()[0]); !ok {
			t.Errorf("--%s cannot be told: inForce does not know flags of type %T", f.Names()[0], f)
		}
	}
	raw, err := json.Marshal(configz(&cfg))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"maxPods":12`, `"clusterDNS":["10.0.0.1","10.0.0.2"]`, `"eventRecordQPS":3`, `"anonymous":{"enabled":false}`, `"kind":"KubeletConfiguration"`, `"nodeLeaseDurationSeconds":4`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s is not in %s", want, raw)
		}
	}
}

// numbersOf looks at every page that dashboards and autoscalers read.
func (m *machine) numbersOf(pod string) {
	for path, wants := range map[string][]string{
		"/configz":          {`"kubeletconfig"`, `"containerLogMaxFiles":2`},
		"/runningpods/":     {`"kind":"PodList"`, `"name":"` + pod + `"`},
		"/metrics":          {"kubelet_running_pods 1", `kubelet_node_name{node="n1"} 1`, `kubelet_runtime_operations_total{operation_type="start_container"}`, "kubelet_pod_start_sli_duration_seconds_count", "rest_client_requests_total{", "kubelet_http_requests_total{", "kubernetes_build_info{", "kubelet_pleg_relist_duration_seconds_count", "kubelet_started_pods_total 1"},
		"/metrics/cadvisor": {`container_memory_working_set_bytes{container="` + pod + `",id="`, `container_network_receive_bytes_total{container="",id=`, `interface="eth0"`, "machine_memory_bytes{", `container_processes{container="` + pod + `"`},
		"/metrics/resource": {`pod_memory_working_set_bytes{namespace="default",pod="` + pod + `"}`, "resource_scrape_error 0"},
		"/metrics/probes":   {`prober_probe_total{`},
		"/stats/summary":    {`"imageFs":{`, `"rootfs":{`, `"ephemeral-storage":{`, `"network":{`, `"volume":[{`, `"rlimit":{`, `"systemContainers":[`, `"process_stats":{`},
		"/debug/pprof/":     {"goroutine"},
		"/logs/":            {"<pre>"},
	} {
		code, text := m.get("caller", path)
		for _, want := range wants {
			if code != http.StatusOK || !strings.Contains(text, want) {
				m.t.Errorf("%s: %d, no %q in %.600q", path, code, want, text)
			}
		}
		if code, _ := m.get("other", path); code != http.StatusForbidden {
			m.t.Errorf("%s: a stranger gets %d", path, code)
		}
	}
	resp, err := http.Get("http://127.0.0.1:10248/healthz")
	if err != nil {
		m.t.Error(err)
		return
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "ok" {
		m.t.Errorf("/healthz on this machine: %q, %v", b, err)
	}
}
