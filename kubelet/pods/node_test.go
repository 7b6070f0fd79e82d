package pods_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/network"
	"pilothouse.dev/kubelet/pods"
	"pilothouse.dev/kubelet/probes"
	"pilothouse.dev/kubelet/source"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/kubelet/tokens"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/logging"
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(m)) }

// api stands for the API server: it keeps pods, takes their statuses and deletions, and streams what changed. It is strict: a status of a pod it
// doesn't know, or a deletion that was not asked for, fails the test.
type api struct {
	t       *testing.T
	updates chan source.Update
	acks    chan status.Ack

	mu      sync.Mutex
	pods    map[types.UID]*corev1.Pod
	queue   []source.Update
	answers []status.Ack
	kick    chan struct{}
	events  []string
	maps    map[string]*corev1.ConfigMap
	changes chan struct{}
}

func newAPI(t *testing.T) *api {
	return &api{t: t, updates: make(chan source.Update), acks: make(chan status.Ack), pods: map[types.UID]*corev1.Pod{}, kick: make(chan struct{}, 1),
		maps: map[string]*corev1.ConfigMap{}, changes: make(chan struct{}, 1)}
}

// serve streams until ctx ends, all pods first, as after a start of the kubelet.
func (a *api) serve(ctx context.Context) {
	a.mu.Lock()
	a.queue, a.answers = nil, nil
	for _, p := range a.pods {
		a.queue = append(a.queue, source.Update{Pod: p})
	}
	a.queue = append(a.queue, source.Update{Synced: true})
	a.mu.Unlock()
	for {
		a.mu.Lock()
		queue, answers := a.queue, a.answers
		a.queue, a.answers = nil, nil
		a.mu.Unlock()
		for _, u := range queue {
			select {
			case a.updates <- u:
			case <-ctx.Done():
				return
			}
		}
		for _, k := range answers {
			select {
			case a.acks <- k:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-a.kick:
		case <-ctx.Done():
			return
		}
	}
}

func (a *api) put(p *corev1.Pod, gone bool) {
	a.pods[p.UID] = p
	if gone {
		delete(a.pods, p.UID)
	}
	a.queue = append(a.queue, source.Update{Pod: p, Gone: gone})
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

func (a *api) create(p *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(p, false)
}

// edit changes the newest state of a pod.
func (a *api) edit(uid types.UID, f func(*corev1.Pod)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.pods[uid].DeepCopy()
	f(p)
	a.put(p, false)
}

func (a *api) delete(uid types.UID, grace int64) {
	a.edit(uid, func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Now().Add(time.Duration(grace) * time.Second)}, &grace
	})
}

func (a *api) Set(p *corev1.Pod, st corev1.PodStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	have := a.pods[p.UID]
	if have == nil {
		a.t.Errorf("status of a pod that is not there: %s", p.Name)
		return
	}
	next := have.DeepCopy()
	next.Status = st
	a.answers = append(a.answers, status.Ack{UID: p.UID, Phase: st.Phase})
	a.put(next, false)
}

func (a *api) Delete(p *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	have := a.pods[p.UID]
	if have == nil || have.DeletionTimestamp == nil {
		a.t.Errorf("deletion of %s, which nobody asked for", p.Name)
		return
	}
	a.put(have, true)
}

func (a *api) Forget(types.UID)         {}
func (a *api) Acks() <-chan status.Ack  { return a.acks }
func (a *api) Keep(*corev1.Pod)         {}
func (a *api) Drop(types.UID)           {}
func (a *api) Changes() <-chan struct{} { return a.changes }

func (a *api) TakeChanged() []types.UID {
	a.mu.Lock()
	defer a.mu.Unlock()
	var uids []types.UID
	for uid := range a.pods {
		uids = append(uids, uid)
	}
	return uids
}

func (a *api) setMap(ns, name string, data map[string]string) {
	a.mu.Lock()
	a.maps[ns+"/"+name] = &corev1.ConfigMap{Data: data}
	a.mu.Unlock()
	select {
	case a.changes <- struct{}{}:
	default:
	}
}

func (a *api) ConfigMap(ns, name string) (*corev1.ConfigMap, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cm := a.maps[ns+"/"+name]; cm != nil {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name)
}

func (a *api) Secret(_, name string) (*corev1.Secret, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
}

func (a *api) Eventf(obj runtime.Object, kind, reason, format string, args ...any) {
	ref := obj.(*corev1.ObjectReference)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, fmt.Sprintf("%s %s %s: %s", ref.Name, reason, ref.FieldPath, fmt.Sprintf(format, args...)))
}

func (a *api) told(reason string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if strings.Contains(e, reason) {
			n++
		}
	}
	return n
}

func (a *api) pod(uid types.UID) *corev1.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pods[uid]
}

// until waits until a pod is as it should be (nil: gone), or fails with its last state.
func (a *api) until(uid types.UID, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	a.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		p := a.pod(uid)
		if ok(p) {
			return p
		}
		if time.Now().After(deadline) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if p == nil {
				a.t.Fatalf("%s: not %s: there is no such pod; events:\n%s", uid, what, strings.Join(a.events, "\n"))
			}
			a.t.Fatalf("%s: not %s: %+v\nevents:\n%s", uid, what, p.Status, strings.Join(a.events, "\n"))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// node is a kubelet's upper half on a real containerd, network and control groups.
type node struct {
	t      *testing.T
	api    *api
	daemon *nodetest.Containerd
	root   string
	groups *cgroups.Tree
	rt     *containers.Runtime
	vols   *volumes.Manager
	stop   func()
}

func newNode(t *testing.T) *node {
	n := &node{t: t, api: newAPI(t), daemon: nodetest.StartContainerd(t), root: t.TempDir()}
	n.groups = cgroups.New(cgroups.Config{Root: nodetest.CgroupRoot(t)}, zap.NewNop())
	if err := n.groups.Open(); err != nil {
		t.Fatal(err)
	}
	n.start()
	if _, err := images.New(images.Config{}, n.rt, zap.NewNop()).Import(t.Context(), nodetest.Archive(t, nodetest.Image)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.stop()
		n.groups.Remove(context.Background())
	})
	return n
}

// start builds everything as main does and runs it; stop ends it as a signal would.
func (n *node) start() {
	n.t.Helper()
	log := logging.ForTest(n.t)
	ctx, cancel := context.WithCancel(context.Background())
	open := func(path string) (containers.Sink, error) { return logs.OpenWriter(path, logs.Limits{}) }
	n.rt = containers.New(containers.Config{Address: n.daemon.Address, StateDir: n.daemon.Dir}, open, log)
	if err := n.rt.Open(ctx); err != nil {
		n.t.Fatal(err)
	}
	net := network.New(network.Config{MTU: 1500}, log)
	if err := net.SetPodCIDRs(ctx, []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}); err != nil {
		n.t.Fatal(err)
	}
	n.vols = volumes.New(n.root, volumes.Parts{Look: n.api, Tokens: tokens.New(nil, log)}, log)
	prober := probes.New(n.rt)
	self := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"disk": "fast"}}}
	self.Status.Capacity = corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")}
	self.Status.Allocatable = self.Status.Capacity
	ws := pods.New(pods.Config{
		Node: "n1", NodeIPs: []netip.Addr{netip.MustParseAddr("198.18.0.11")}, Root: n.root, Logs: filepath.Join(n.root, "logs"),
		DNS: pods.DNS{Cluster: []string{"10.96.0.10"}, Domain: "cluster.local"}, Backoff: pods.Backoff{First: time.Second, Max: 10 * time.Second, Calm: time.Minute},
	}, pods.Parts{
		Sandboxes: n.rt, Containers: n.rt, Observer: n.rt, Images: images.New(images.Config{}, n.rt, log), Network: net, Groups: n.groups, Volumes: n.vols,
		Objects: n.api, Probes: prober, Status: n.api, Events: n.api, Updates: n.api.updates,
		Node: func() *corev1.Node { return self }, Services: func() ([]*corev1.Service, error) { return nil, nil },
	}, log)
	var all sync.WaitGroup
	for name, run := range map[string]func(context.Context) error{"runtime": n.rt.Run, "volumes": n.vols.Run, "probes": prober.Run, "pods": ws.Run} {
		all.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				n.t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Go(func() { n.api.serve(ctx) })
	n.stop = func() {
		cancel()
		all.Wait()
		if err := n.rt.Close(); err != nil {
			n.t.Error(err)
		}
	}
}

func shell(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: nodetest.Image, ImagePullPolicy: corev1.PullNever, Command: []string{"/bin/sh", "-c", script}}
}

func newPod(name string, cs ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1", Generation: 1},
		Spec:       corev1.PodSpec{Containers: cs, RestartPolicy: corev1.RestartPolicyAlways, NodeName: "n1", TerminationGracePeriodSeconds: new(int64(5))},
	}
}

func ready(p *corev1.Pod) bool {
	return p != nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// nothing checks that a node without pods holds nothing.
func (n *node) nothing() {
	n.t.Helper()
	l, err := n.rt.List(context.Background())
	if err != nil || len(l.Sandboxes)+len(l.Containers) > 0 {
		n.t.Errorf("left in the runtime: %+v, %v", l, err)
	}
	if uids, err := n.groups.PodUIDs(); err != nil || len(uids) > 0 {
		n.t.Errorf("control groups left of %v, %v", uids, err)
	}
	if uids, err := n.vols.Pods(); err != nil || len(uids) > 0 {
		n.t.Errorf("folders left of %v, %v", uids, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), n.root) {
		n.t.Errorf("mounts left below %s: %v\n%s", n.root, err, mounts)
	}
	if left, err := filepath.Glob(n.root + "/logs/*"); err != nil || len(left) > 0 {
		n.t.Errorf("logs left: %v, %v", left, err)
	}
}

// TestWholePod takes a pod with an init container, two containers, volumes, environment, hooks and probes through its life, with a restart of
// the kubelet in the middle.
func TestWholePod(t *testing.T) {
	n := newNode(t)
	n.api.setMap("shop", "settings", map[string]string{"greeting": "hello"})
	web := shell("web", `echo "$GREETING $POD_IP" > /data/index.html; trap 'exit 0' USR1; httpd -f -p 8080 -h /data & wait`)
	web.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	web.Env = []corev1.EnvVar{
		{Name: "GREETING", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "greeting"}}},
		{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
	}
	web.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	web.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/from-init", Port: intstr.FromString("http")}}, PeriodSeconds: 1}
	web.Lifecycle = &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", "echo started > /data/hook"}}},
		PreStop:   &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", "echo stopping"}}},
	}
	work := shell("work", `trap 'echo bye; exit 0' USR1; cat /conf/greeting; while true; do sleep 0.1; done`)
	work.VolumeMounts = []corev1.VolumeMount{{Name: "conf", MountPath: "/conf"}, {Name: "data", MountPath: "/data", ReadOnly: true}}
	work.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", "! grep -q sick /conf/greeting"}}}, PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 5}
	p := newPod("web", web, work)
	init := shell("init", "echo from init > /data/from-init")
	init.VolumeMounts = web.VolumeMounts
	p.Spec.InitContainers = []corev1.Container{init}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
	}
	begin := time.Now()
	n.api.create(p)
	up := n.api.until(p.UID, "ready", ready)
	t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
	if up.Status.Phase != corev1.PodRunning || !strings.HasPrefix(up.Status.PodIP, "10.244.7.") || up.Status.HostIP != "198.18.0.11" {
		t.Errorf("status is %+v", up.Status)
	}
	get := func(path string) string {
		t.Helper()
		resp, err := http.Get("http://" + up.Status.PodIP + ":8080/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b := make([]byte, 100)
		k, _ := resp.Body.Read(b)
		return strings.TrimSpace(string(b[:k]))
	}
	if got := get("index.html"); got != "hello "+up.Status.PodIP {
		t.Errorf("the container wrote %q", got)
	}
	if got := get("hook"); got != "started" {
		t.Errorf("the hook wrote %q", got)
	}

	// The kubelet is started anew: containers stay, and the pod does not even stop being ready.
	before := n.list()
	n.stop()
	n.api.mu.Lock()
	events := len(n.api.events)
	n.api.mu.Unlock()
	n.start()
	time.Sleep(1500 * time.Millisecond) // long enough for a probe and for a wrong move
	if after := n.list(); after != before {
		t.Errorf("a restart of the kubelet changed\n%s\ninto\n%s", before, after)
	}
	n.api.mu.Lock()
	if more := n.api.events[events:]; len(more) > 0 {
		t.Errorf("a restart of the kubelet brought events: %q", more)
	}
	n.api.mu.Unlock()
	if again := n.api.pod(p.UID); !ready(again) || !again.Status.StartTime.Equal(up.Status.StartTime) {
		t.Errorf("a restart of the kubelet changed the status: %+v", again.Status)
	}

	// A change of the ConfigMap reaches the volume; the liveness probe sees it and has the container restarted.
	n.api.setMap("shop", "settings", map[string]string{"greeting": "sick"})
	sick := n.api.until(p.UID, "restarted", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[1].RestartCount > 0 })
	n.api.setMap("shop", "settings", map[string]string{"greeting": "well"})
	if last := sick.Status.ContainerStatuses[1].LastTerminationState.Terminated; last == nil || last.ExitCode != 0 {
		t.Errorf("the stopped container's last state is %+v", last)
	}
	if n.api.told("Unhealthy") == 0 || n.api.told("failed liveness probe, will be restarted") == 0 {
		t.Errorf("events are %q", n.api.events)
	}
	n.api.until(p.UID, "ready again", ready)

	// It ends gracefully and leaves nothing.
	begin = time.Now()
	n.api.delete(p.UID, 5)
	n.api.until(p.UID, "gone", func(p *corev1.Pod) bool { return p == nil })
	t.Logf("gone after %s", time.Since(begin).Round(time.Millisecond))
	n.untilNothing()
}

// list is what runs, in a form to compare.
func (n *node) list() string {
	n.t.Helper()
	l, err := n.rt.List(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	var lines []string
	for _, c := range l.Containers {
		lines = append(lines, fmt.Sprintf("%s %s %d %s %d", c.Name, c.ID, c.Attempt, c.State, c.PID))
	}
	for _, b := range l.Sandboxes {
		lines = append(lines, fmt.Sprintf("sandbox %s %t %v", b.ID, b.Ready, b.IPs))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// untilNothing waits for the workers' last steps, then looks.
func (n *node) untilNothing() {
	n.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	logs := func() int { left, _ := filepath.Glob(n.root + "/logs/*"); return len(left) }
	for (n.list() != "" || logs() > 0) && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	n.nothing()
}
