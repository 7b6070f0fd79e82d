package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/stats"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pki"
	"pilothouse.dev/pkg/testcluster"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" { // a kubelet to be killed: see chaos_test.go
		main()
		return
	}
	stats.Client() // before the first request: the tests' own clients are in this process, too
	os.Exit(nodetest.Main(m))
}

// machine is the whole kubelet with a real API server, etcd and containerd; the scheduler and the controllers are played by the test.
type machine struct {
	t       *testing.T
	cluster *testcluster.Cluster
	daemon  *nodetest.Containerd
	args    []string // its flags
	cfg     Config   // made of them
	stop    func()
}

const nodeName, nodeIP = "n1", "198.18.0.11"

func newMachine(t *testing.T) *machine {
	certs := t.TempDir()
	ca, err := pki.EnsureAuthority(certs, "ca")
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]pki.Identity{
		"kubelet": {Name: "system:node:" + nodeName, Groups: []string{"system:nodes"}, Server: true, IPs: []net.IP{net.ParseIP(nodeIP)}},
		"caller":  {Name: "kube-apiserver-kubelet-client", Client: true},
		"other":   {Name: "somebody", Client: true},
	} {
		pair, err := ca.Issue(id, 0)
		if err == nil {
			err = pair.Write(certs, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(n string) string { return filepath.Join(certs, n) }
	m := &machine{t: t, daemon: nodetest.StartContainerd(t), cluster: testcluster.Start(t, "--kubelet-certificate-authority="+file("ca.crt"),
		"--kubelet-client-certificate="+file("caller.crt"), "--kubelet-client-key="+file("caller.key"))}
	m.importImage()
	m.uplink()
	m.args = []string{"--kubeconfig=" + m.cluster.Kubeconfig("system:node:"+nodeName, "system:nodes"), "--hostname-override=" + nodeName, "--node-ip=" + nodeIP,
		"--root-dir=" + t.TempDir(), "--local-path-dir=" + t.TempDir(), "--netns-dir=" + m.daemon.Dir, "--container-runtime-endpoint=unix://" + m.daemon.Address,
		"--cgroup-root=" + nodetest.CgroupRoot(t), "--container-log-max-size=1Mi", "--container-log-max-files=2", "--max-container-restart-period=1m",
		"--tls-cert-file=" + file("kubelet.crt"), "--tls-private-key-file=" + file("kubelet.key"), "--client-ca-file=" + file("ca.crt"), "--address=" + nodeIP,
		"--eviction-hard=memory.available<1Mi", "--image-gc-high-threshold=100"} // how full this disk is, is not what is tested
	m.cfg = parsed(t, m.args...)
	// As a cluster's installer does.
	_, err = m.cluster.Kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "kubelets"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:kubelet-api-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "kube-apiserver-kubelet-client"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() { m.stop() })
	return m
}

// importImage puts the test's image onto the node, as a cluster's operator might.
func (m *machine) importImage() {
	m.t.Helper()
	rt := containers.New(containers.Config{Address: m.daemon.Address, StateDir: m.daemon.Dir}, nil, logging.ForTest(m.t))
	if err := rt.Open(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	defer rt.Close()
	if _, err := images.New(images.Config{}, rt, logging.ForTest(m.t)).Import(m.t.Context(), nodetest.Archive(m.t, nodetest.Image)); err != nil {
		m.t.Fatal(err)
	}
}

// start runs the daemon as main would, after its flags.
func (m *machine) start() {
	cfg := m.cfg
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, cfg, logging.ForTest(m.t)) }()
	m.stop = func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Errorf("the kubelet ended: %v", err)
		}
	}
}

// until polls a condition of the API.
func (m *machine) until(what string, ok func() (bool, string)) {
	m.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		yes, seen := ok()
		if yes {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("not %s: %s", what, seen)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (m *machine) node() *corev1.Node {
	n, err := m.cluster.Kube.CoreV1().Nodes().Get(m.t.Context(), nodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

func ready(n *corev1.Node) *corev1.NodeCondition {
	if n == nil {
		return nil
	}
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == corev1.NodeReady {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

func (m *machine) pod(name string) *corev1.Pod {
	p, err := m.cluster.Kube.CoreV1().Pods("default").Get(m.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return p
}

func podReady(p *corev1.Pod) bool {
	return p != nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// tell is what a pod's containers do, in short.
func tell(p *corev1.Pod) string {
	if p == nil {
		return "no pod"
	}
	out := string(p.Status.Phase)
	for _, cs := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		out += fmt.Sprintf("; %s: %s (ready %t, restarts %d)", cs.Name, cs.State.String(), cs.Ready, cs.RestartCount)
	}
	return out
}

// get asks the kubelet's server as one of the clients made above.
func (m *machine) get(who, path string) (int, string) {
	m.t.Helper()
	c := m.client(who)
	defer c.CloseIdleConnections()
	resp, err := c.Get("https://" + nodeIP + ":10250" + path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestKubelet takes the daemon through a node's and a pod's life against the real API server.
func TestKubelet(t *testing.T) {
	m := newMachine(t)
	kube := m.cluster.Kube
	m.until("registered", func() (bool, string) {
		c := ready(m.node())
		return c != nil && c.Status == corev1.ConditionFalse && strings.Contains(c.Message, "pod range"), fmt.Sprint(c)
	})
	if _, err := kube.CoreV1().Nodes().Patch(t.Context(), nodeName, types.MergePatchType, []byte(`{"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	m.until("ready", func() (bool, string) {
		c := ready(m.node())
		return c != nil && c.Status == corev1.ConditionTrue, fmt.Sprint(c)
	})
	n := m.node()
	if n.Status.Addresses[0].Address != nodeIP || n.Labels[corev1.LabelHostname] != nodeName || n.Status.Allocatable.Pods().Value() != 110 ||
		!strings.HasPrefix(n.Status.NodeInfo.ContainerRuntimeVersion, "containerd://") || len(n.Status.Images) != 1 {
		t.Errorf("node is %+v", n)
	}
	lease, err := kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), nodeName, metav1.GetOptions{})
	if err != nil || *lease.Spec.HolderIdentity != nodeName || *lease.Spec.LeaseDurationSeconds != 4 {
		t.Fatalf("lease is %+v, %v", lease, err)
	}
	m.until("renewed", func() (bool, string) {
		now, err := kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), nodeName, metav1.GetOptions{})
		return err == nil && now.Spec.RenewTime.After(lease.Spec.RenewTime.Time), fmt.Sprint(now, err)
	})

	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}, Data: map[string]string{"greeting": "hello"}}
	if _, err := kube.CoreV1().ConfigMaps("default").Create(t.Context(), settings, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	web := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{
		NodeName: nodeName, TerminationGracePeriodSeconds: new(int64(5)), AutomountServiceAccountToken: new(false),
		InitContainers: []corev1.Container{{Name: "init", Image: nodetest.Image, Command: []string{"sh", "-c", "echo page > /data/index.html"}, VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
		Containers: []corev1.Container{{
			Name: "web", Image: nodetest.Image, Command: []string{"sh", "-c", `trap 'exit 0' USR1; cat /conf/greeting; env | grep SERVICE_HOST; httpd -f -p 80 -h /data & wait`},
			VolumeMounts:   []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "conf", MountPath: "/conf"}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/index.html", Port: intstr.FromInt(80)}}, PeriodSeconds: 1},
		}},
		Volumes: []corev1.Volume{
			{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
		},
	}}
	begin := time.Now()
	if _, err := kube.CoreV1().Pods("default").Create(t.Context(), web, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.until("ready", func() (bool, string) { p := m.pod("web"); return podReady(p), tell(p) })
	t.Logf("ready %s after its creation", time.Since(begin).Round(time.Millisecond))
	p := m.pod("web")

	// The server: logs, numbers, and who is let in.
	if code, text := m.get("caller", "/containerLogs/default/web/web?timestamps=false"); code != http.StatusOK || !strings.HasPrefix(text, "hello") {
		t.Errorf("log: %d %q", code, text)
	}
	for path, want := range map[string]string{
		"/healthz": "ok", "/pods": `"name":"web"`, "/stats/summary": `"podRef":{"name":"web"`, "/metrics/resource": `container_memory_working_set_bytes{container="web"`,
		"/metrics": "go_goroutines", "/containerLogs/default/web/none": "not found", "/containerLogs/default/none/web": "does not exist",
		"/containerLogs/default/web/web?previous=true": "previous terminated container", "/containerLogs/default/web/web?tailLines=x": "tailLines",
	} {
		if _, text := m.get("caller", path); !strings.Contains(text, want) {
			t.Errorf("%s says %.300q, want %q in it", path, text, want)
		}
	}
	if code, _ := m.get("other", "/pods"); code != http.StatusForbidden {
		t.Errorf("a stranger gets %d", code)
	}
	if code, _ := m.get("", "/pods"); code != http.StatusUnauthorized {
		t.Errorf("nobody gets %d", code)
	}

	m.numbersOf("web")
	m.throughTheAPI()

	// The kubelet goes and comes back; meanwhile the map is changed. The container stays the same, its volume follows.
	m.stop()
	settings.Data["greeting"] = "hello again"
	if _, err := kube.CoreV1().ConfigMaps("default").Update(t.Context(), settings, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	m.start()
	greeting := filepath.Join(m.cfg.RootDir, "pods", string(p.UID), "volumes/configmap/conf/greeting")
	m.until("followed", func() (bool, string) {
		b, err := os.ReadFile(greeting)
		return string(b) == "hello again", fmt.Sprint(string(b), err)
	})
	if now := m.pod("web"); now.Status.ContainerStatuses[0].ContainerID != p.Status.ContainerStatuses[0].ContainerID || !podReady(now) {
		t.Errorf("after the restart the pod is %+v", now.Status)
	}

	// The API server goes away while a container ends; the truth arrives when it is back.
	m.cluster.KillAPIServer()
	l, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/memory", m.cfg.CgroupRoot, "kubepods/besteffort/pod"+string(p.UID), strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://"), "cgroup.procs"))
	if err != nil {
		l, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", m.cfg.CgroupRoot, "kubepods/besteffort/pod"+string(p.UID), strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://"), "cgroup.procs"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(l)) {
		kill(t, pid)
	}
	time.Sleep(time.Second)
	if err := m.cluster.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	m.until("restarted and ready", func() (bool, string) {
		p := m.pod("web")
		return podReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1, tell(p)
	})
	if code, text := m.get("caller", "/containerLogs/default/web/web?previous=true"); code != http.StatusOK || !strings.HasPrefix(text, "hello") {
		t.Errorf("previous log: %d %q", code, text)
	}

	begin = time.Now()
	if err := kube.CoreV1().Pods("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.until("gone", func() (bool, string) { p := m.pod("web"); return p == nil, tell(p) })
	t.Logf("gone %s after its deletion", time.Since(begin).Round(time.Millisecond))
	m.until("told", func() (bool, string) {
		events, err := kube.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		told := map[string]bool{}
		for _, e := range events.Items {
			told[e.Reason] = true
		}
		return told["Pulled"] && told["Created"] && told["Started"] && told["Killing"], fmt.Sprint(told)
	})
}
