package stats

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/csi"
)

// node is a node with pods p0, p1 …, each with one container c that has been running for a minute; the last pod's group is gone.
type node struct {
	root    string
	pods    []*corev1.Pod
	layers  int // how often a layer was measured
	volumes map[string]string
	cpu     time.Duration
}

func newNode(t testing.TB, pods int) *node {
	n := &node{root: t.TempDir(), volumes: map[string]string{}, cpu: time.Minute}
	for i := range pods {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%d", i), UID: types.UID(fmt.Sprintf("uid-%d", i))}}
		p.Status.StartTime = &metav1.Time{Time: time.Now().Add(-time.Minute)}
		n.pods = append(n.pods, p)
	}
	return n
}

func (n *node) stats(keep time.Duration) *Stats {
	return New(Config{Node: "n1", Root: n.root, Logs: filepath.Join(n.root, "logs"), Keep: keep}, Parts{Runtime: n, Groups: n, Pods: n, Volumes: n, Drivers: n})
}

func (n *node) Pods() []*corev1.Pod { return n.pods }

func (n *node) List(context.Context) (containers.Listing, error) {
	var l containers.Listing
	for i, p := range n.pods {
		l.Sandboxes = append(l.Sandboxes, containers.Sandbox{ID: "box", PodUID: string(p.UID), Ready: true})
		l.Containers = append(l.Containers,
			containers.Container{ID: fmt.Sprintf("id-%d", i), PodUID: string(p.UID), Name: "c", Image: "example.test/busybox:1", State: containers.Running, CgroupPath: n.PodPath("", string(p.UID)) + "/id", PID: os.Getpid(), Started: time.Now().Add(-time.Minute)},
			containers.Container{ID: fmt.Sprintf("old-%d", i), PodUID: string(p.UID), Name: "c", State: containers.Exited, CgroupPath: "/none"})
	}
	return l, nil
}

func (n *node) LayerUsage(context.Context, string) (containers.LayerUsage, error) {
	n.layers++
	return containers.LayerUsage{Bytes: 4096, Inodes: 3}, nil
}

func (n *node) Folder(context.Context) (string, error) { return n.root, nil }

func (n *node) PodPath(_ corev1.PodQOSClass, uid string) string {
	return "/kubepods/besteffort/pod" + uid
}
func (n *node) KubepodsPath() string       { return "/kubepods" }
func (n *node) PIDs(string) ([]int, error) { return nil, nil }

func (n *node) Where(types.UID) map[string]string { return n.volumes }

func (n *node) Stats(_ context.Context, _ types.UID, pv string) (csi.Usage, error) {
	if pv != "pv-1" {
		return csi.Usage{}, csi.ErrNoStats
	}
	return csi.Usage{Capacity: new(uint64(1000)), Used: new(uint64(250)), Available: new(uint64(750))}, nil
}

func (n *node) Details(paths []string, see func(int, *cgroups.Detail, error)) error {
	last := string(n.pods[len(n.pods)-1].UID)
	for i, path := range paths {
		if strings.Contains(path, "pod"+last) && len(n.pods) > 1 {
			see(i, &cgroups.Detail{}, fmt.Errorf("%s: %w", path, cgroups.ErrNotFound))
			continue
		}
		see(i, &cgroups.Detail{
			Stats:   cgroups.Stats{Time: time.Now(), CPU: n.cpu, MemoryUsage: 3 << 20, WorkingSet: 2 << 20, RSS: 1 << 20, MemoryLimit: 8 << 20, PIDs: 4, OOMKills: 1},
			Periods: 10, Throttled: 2, ThrottledFor: time.Second, Shares: 2, Quota: 20000, Period: 100000, Swap: 512, Processes: []int{os.Getpid()},
			Disks: []cgroups.DiskIO{{Major: 8, ReadBytes: 10, WriteBytes: 20, Reads: 1, Writes: 2}}, CPUPressure: &cgroups.Pressure{},
		}, nil)
	}
	return nil
}

func TestSummary(t *testing.T) {
	n := newNode(t, 2)
	dir := filepath.Join(n.root, "pods/uid-0/volumes")
	for name, path := range map[string]string{"scratch": "empty-dir/scratch", "data": csi.Folder + "/pv-1/mount", "host": "host"} {
		n.volumes[name] = filepath.Join(dir, path)
		if err := os.MkdirAll(n.volumes[name], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(n.volumes["scratch"], "file"), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	n.pods[0].Spec.Volumes = []corev1.Volume{
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}},
		{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}},
		{Name: "absent", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	s := n.stats(time.Hour)
	sum, err := s.Summary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	node := sum.Node
	if node.NodeName != "n1" || node.CPU == nil || *node.Memory.WorkingSetBytes == 0 || node.Fs == nil || node.Runtime.ImageFs == nil || node.Runtime.ContainerFs == nil ||
		node.Rlimit == nil || *node.Rlimit.MaxPID == 0 || node.Swap == nil || len(node.SystemContainers) != 2 {
		t.Errorf("the node is %+v", node)
	}
	if len(sum.Pods) != 1 {
		t.Fatalf("%d pods, want the one whose group is there", len(sum.Pods))
	}
	p := sum.Pods[0]
	if p.PodRef.Name != "p0" || len(p.Containers) != 1 || *p.ProcessStats.ProcessCount != 4 || *p.CPU.UsageCoreNanoSeconds != 60e9 || p.CPU.UsageNanoCores != nil || p.CPU.PSI == nil || *p.Swap.SwapUsageBytes != 512 {
		t.Errorf("the pod is %+v", p)
	}
	c := p.Containers[0]
	if c.Name != "c" || *c.Memory.AvailableBytes != 6<<20 || *c.Rootfs.UsedBytes != 4096 || *c.Rootfs.InodesUsed != 3 || c.Logs == nil || *c.Rootfs.CapacityBytes != *node.Fs.CapacityBytes {
		t.Errorf("the container is %+v", c)
	}
	if len(p.VolumeStats) != 2 || p.VolumeStats[0].Name != "scratch" || *p.VolumeStats[0].UsedBytes < 100_000 || p.VolumeStats[0].PVCRef != nil ||
		p.VolumeStats[1].PVCRef.Name != "claim" || *p.VolumeStats[1].UsedBytes != 250 || *p.VolumeStats[1].CapacityBytes != 1000 {
		t.Errorf("the volumes are %+v", p.VolumeStats)
	}
	if got := *p.EphemeralStorage.UsedBytes; got < 104_096 || got > 200_000 {
		t.Errorf("ephemeral storage is %d", got)
	}
	// Once more: what was measured is kept, and a rate is known.
	s.rates["/kubepods/besteffort/poduid-0"] = rate{at: time.Now().Add(-10 * time.Second), cpu: n.cpu - 5*time.Second}
	if sum, err = s.Summary(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rate := sum.Pods[0].CPU.UsageNanoCores; rate == nil || *rate < 4e8 || *rate > 5e8 || n.layers != 1 {
		t.Errorf("rate %v, layers measured %d times", rate, n.layers)
	}
}

func scrape(t testing.TB, s *Stats) map[string]*dto.MetricFamily {
	t.Helper()
	var b bytes.Buffer
	if err := s.WriteContainers(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return parse(t, b.String())
}

func parse(t testing.TB, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// mixin are the names of cAdvisor that the queries of kubernetes-mixin's dashboards and alerts use, and others that people alert on.
var mixin = []string{
	"container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total", "container_cpu_cfs_throttled_seconds_total", "container_cpu_usage_seconds_total",
	"container_cpu_user_seconds_total", "container_cpu_system_seconds_total", "container_fs_reads_bytes_total", "container_fs_reads_total", "container_fs_writes_bytes_total",
	"container_fs_writes_total", "container_fs_usage_bytes", "container_fs_limit_bytes", "container_fs_inodes_total", "container_fs_inodes_free", "container_memory_cache",
	"container_memory_rss", "container_memory_swap", "container_memory_usage_bytes", "container_memory_working_set_bytes", "container_memory_max_usage_bytes",
	"container_memory_failcnt", "container_memory_failures_total", "container_memory_mapped_file", "container_network_receive_bytes_total", "container_network_receive_packets_total",
	"container_network_receive_packets_dropped_total", "container_network_receive_errors_total", "container_network_transmit_bytes_total",
	"container_network_transmit_packets_total", "container_network_transmit_packets_dropped_total", "container_network_transmit_errors_total", "container_oom_events_total",
	"container_processes", "container_threads", "container_threads_max", "container_file_descriptors", "container_sockets", "container_start_time_seconds", "container_last_seen",
	"container_spec_cpu_period", "container_spec_cpu_quota", "container_spec_cpu_shares", "container_spec_memory_limit_bytes", "container_spec_memory_swap_limit_bytes",
	"container_spec_memory_reservation_limit_bytes", "container_scrape_error", "machine_cpu_cores", "machine_cpu_physical_cores", "machine_cpu_sockets",
	"machine_memory_bytes", "machine_scrape_error", "cadvisor_version_info",
}

func labelsOf(m *dto.Metric) map[string]string {
	all := map[string]string{}
	for _, l := range m.Label {
		all[l.GetName()] = l.GetValue()
	}
	return all
}

func TestContainers(t *testing.T) {
	n := newNode(t, 2)
	n.pods[0].Name = `p"0\`
	all := scrape(t, n.stats(time.Hour))
	for _, name := range mixin {
		if all[name] == nil && !strings.HasPrefix(name, "container_network") { // a test may have no interface but lo
			t.Errorf("%s is not there", name)
		}
	}
	rows := map[string]map[string]string{}
	for _, m := range all["container_memory_working_set_bytes"].Metric {
		l := labelsOf(m)
		rows[l["id"]] = l
		if m.GetGauge().GetValue() != 2<<20 {
			t.Errorf("%v is %v", l, m)
		}
	}
	for id, want := range map[string]map[string]string{
		"/":                                {"pod": "", "namespace": "", "container": "", "image": "", "name": ""},
		"/kubepods":                        {"pod": "", "namespace": "", "container": "", "image": "", "name": ""},
		"/kubepods/besteffort/poduid-0":    {"pod": `p"0\`, "namespace": "default", "container": "", "image": "", "name": ""},
		"/kubepods/besteffort/poduid-0/id": {"pod": `p"0\`, "namespace": "default", "container": "c", "image": "example.test/busybox:1", "name": "id-0"},
	} {
		want["id"] = id
		if fmt.Sprint(rows[id]) != fmt.Sprint(want) {
			t.Errorf("%s has the labels %v, want %v", id, rows[id], want)
		}
	}
	if len(rows) != 6 {
		t.Errorf("rows of %d groups, want 6", len(rows))
	}
	for _, m := range all["container_cpu_usage_seconds_total"].Metric {
		if labelsOf(m)["cpu"] != "total" || m.GetCounter().GetValue() != 60 {
			t.Errorf("processor time is %v", m)
		}
	}
	if m := all["container_fs_writes_bytes_total"].Metric[0]; labelsOf(m)["device"] == "" || m.GetCounter().GetValue() != 20 {
		t.Errorf("disk writes are %v", m)
	}
}

func TestLinks(t *testing.T) {
	links := readLinks([]byte("Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\n"))
	if want := []link{{"eth0", 100, 2, 3, 4, 500, 6, 7, 8}}; fmt.Sprint(links) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", links, want)
	}
	got := networkStats(links, "eth0")
	if got.Name != "eth0" || *got.RxBytes != 100 || *got.TxErrors != 7 || len(got.Interfaces) != 1 || networkStats(nil, "eth0") != nil {
		t.Errorf("got %+v", got)
	}
}

// TestResource holds the page to what metrics-server reads: these names, with labels and milliseconds, so that it can make a rate of two scrapes.
func TestResource(t *testing.T) {
	n := newNode(t, 2)
	reg := prometheus.NewRegistry()
	reg.MustRegister(n.stats(time.Hour))
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics/resource", nil))
	text := w.Body.String()
	all := parse(t, text)
	for name, labels := range map[string]string{
		"node_cpu_usage_seconds_total": "map[]", "node_memory_working_set_bytes": "map[]", "node_swap_usage_bytes": "map[]",
		"pod_cpu_usage_seconds_total": "map[namespace:default pod:p0]", "pod_memory_working_set_bytes": "map[namespace:default pod:p0]", "pod_swap_usage_bytes": "map[namespace:default pod:p0]",
		"container_cpu_usage_seconds_total": "map[container:c namespace:default pod:p0]", "container_memory_working_set_bytes": "map[container:c namespace:default pod:p0]",
		"container_swap_usage_bytes": "map[container:c namespace:default pod:p0]", "container_swap_limit_bytes": "map[container:c namespace:default pod:p0]",
		"container_start_time_seconds": "map[container:c namespace:default pod:p0]", "resource_scrape_error": "map[]",
	} {
		f := all[name]
		if f == nil || len(f.Metric) != 1 || fmt.Sprint(labelsOf(f.Metric[0])) != labels {
			t.Errorf("%s is %v", name, f)
			continue
		}
		if ago := time.Since(time.UnixMilli(f.Metric[0].GetTimestampMs())); name != "container_start_time_seconds" && name != "resource_scrape_error" && (ago < -time.Second || ago > time.Minute) {
			t.Errorf("%s was read %v ago", name, ago)
		}
	}
	if !strings.Contains(text, "container_cpu_usage_seconds_total{container=\"c\",namespace=\"default\",pod=\"p0\"} 60 ") {
		t.Errorf("the page is\n%s", text)
	}
}

func TestFacts(t *testing.T) {
	n := newNode(t, 3)
	n.volumes["data"] = n.root
	n.pods[0].Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}}}
	reg := prometheus.NewRegistry()
	reg.MustRegister(n.stats(time.Hour).Facts())
	got, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*dto.MetricFamily{}
	for _, f := range got {
		all[f.GetName()] = f
	}
	for name, want := range map[string]float64{"kubelet_running_pods": 3, "kubelet_node_name": 1, "kubernetes_build_info": 1, "kubelet_desired_pods": 3} {
		if f := all[name]; f == nil || f.Metric[0].GetGauge().GetValue() != want {
			t.Errorf("%s is %v, want %v", name, f, want)
		}
	}
	for _, m := range all["kubelet_running_containers"].Metric {
		if m.GetGauge().GetValue() != 3 {
			t.Errorf("containers are %v", m)
		}
	}
	if f := all["kubelet_volume_stats_capacity_bytes"]; f == nil || fmt.Sprint(labelsOf(f.Metric[0])) != "map[namespace:default persistentvolumeclaim:claim]" || f.Metric[0].GetGauge().GetValue() == 0 {
		t.Errorf("volumes are %v", f)
	}
}

func TestStarts(t *testing.T) {
	s := NewStarts(nil)
	now := metav1.Now()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "a", CreationTimestamp: now}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	s.OnAdd(p, true)
	running := p.DeepCopy()
	running.Status.Phase, running.Status.StartTime = corev1.PodRunning, &now
	running.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	s.OnUpdate(p, running)
	s.OnUpdate(p, running) // is measured once
	found := running.DeepCopy()
	found.UID = "b" // of a former life
	s.OnAdd(found, true)
	for _, c := range s.Collectors() {
		var m dto.Metric
		if err := c.(prometheus.Histogram).Write(&m); err != nil || m.GetHistogram().GetSampleCount() != 1 {
			t.Errorf("%v, %v", &m, err)
		}
	}
}

// BenchmarkContainers is a scrape with a hundred pods, without the kernel's part.
func BenchmarkContainers(b *testing.B) {
	n := newNode(b, 101)
	s := n.stats(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.WriteContainers(b.Context(), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
