package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/urfave/cli/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"pilothouse.dev/controller-manager/accounts"
	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
	"pilothouse.dev/pkg/events"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/pkg/testcluster"
)

// world is a real control plane, all controllers over it, and a player in the place of scheduler and kubelets.
type world struct {
	*testing.T
	cluster  *testcluster.Cluster
	kube     kubernetes.Interface
	player   *player
	writes   *atomic.Int64 // of the controllers, but for events
	writeLog *sync.Map
	fakes    *sync.Map // http.Handler by the prefix of a path, of what no server of ours serves: asked by the controllers
}

func newWorld(t *testing.T, args ...string) *world {
	return newWorldOver(t, testcluster.Start(t, "--default-toleration=2s", "--advertise-address=192.0.2.1"), args...)
}

// newWorldOver is the same over an API server that is there; one after another may be over it.
func newWorldOver(t *testing.T, c *testcluster.Cluster, args ...string) *world {
	w := &world{T: t, cluster: c, kube: c.Kube, writes: &atomic.Int64{}, writeLog: &sync.Map{}, fakes: &sync.Map{}}
	ca := filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(ca, []byte("the authority\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var cfg Config
	app := &cli.App{Flags: flags(&cfg), Action: func(*cli.Context) error { return cfg.check() }}
	args = append([]string{"controller-manager", "--kubeconfig=none", "--root-ca-file=" + ca, "--allocate-node-cidrs",
		"--cluster-cidr=10.244.0.0/16", "--service-cluster-ip-range=10.96.0.0/16"}, args...)
	if err := app.Run(args); err != nil {
		t.Fatal(err)
	}
	rest := client.Patient(c.Config("system:kube-controller-manager"))
	anonymous, err := client.Anonymous(rest)
	if err != nil {
		t.Fatal(err)
	}
	count := func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if h := w.fake(r.URL.Path); h != nil {
				answer := httptest.NewRecorder()
				h.ServeHTTP(answer, r)
				return answer.Result(), nil
			}
			if r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/events") {
				w.writes.Add(1)
				w.writeLog.Store(fmt.Sprint(w.writes.Load(), " ", r.Method, " ", r.URL.Path), true)
			}
			answer, err := next.RoundTrip(r)
			if err == nil && answer.StatusCode == http.StatusForbidden {
				w.refused(r, answer)
			}
			return answer, err
		})
	}
	rest.Wrap(count)
	anonymous.Wrap(count)
	clients, err := client.New(rest)
	if err != nil {
		t.Fatal(err)
	}
	log := logging.ForTest(t)
	recorder := events.New(clients.Kube, "controller-manager", "")
	table, err := enabled(controllers(cfg), cfg.Controllers.Value())
	if err != nil {
		t.Fatal(err)
	}
	crew := loop.NewCrew(table, clients, accounts.New(anonymous, clients.Kube.CoreV1()).As, recorder, prometheus.NewRegistry(), log)
	w.player = newPlayer(c.Kube)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for name, run := range map[string]func(context.Context) error{"crew": crew.Run, "recorder": recorder.Run, "player": w.player.run} {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s ended: %v", name, err)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	if _, err := c.Kube.CoreV1().Nodes().Get(t.Context(), "steady", metav1.GetOptions{}); apierrors.IsNotFound(err) {
		w.player.add(w, "steady")
	} else if err != nil {
		t.Fatal(err)
	}
	return w
}

// fake is who answers a path in the place of the API server; nil: the API server does.
func (w *world) fake(path string) (h http.Handler) {
	w.fakes.Range(func(prefix, answers any) bool {
		if strings.HasPrefix(path, prefix.(string)) {
			h = answers.(http.Handler)
		}
		return h == nil
	})
	return h
}

// refused fails the test when a controller was refused for want of a right; that a quota is used up or a namespace ends is no such thing.
func (w *world) refused(r *http.Request, answer *http.Response) {
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	answer.Body = io.NopCloser(bytes.NewReader(body))
	if err == nil && bytes.Contains(body, []byte(`" cannot `)) {
		w.Errorf("%s %s: %q", r.Method, r.URL.Path, body)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// until waits for a condition that events bring about.
func (w *world) until(what string, ok func() error) {
	w.Helper()
	w.within(time.Minute, what, ok)
}

// within is until for what may rightly take longer.
func (w *world) within(most time.Duration, what string, ok func() error) {
	w.Helper()
	var err error
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	w.Fatalf("waited for %s: %v", what, err)
}

// quiet waits for three seconds in which no controller writes, each beginning with a nudge that is none of their business.
func (w *world) quiet(nudge func()) {
	w.Helper()
	w.until("three seconds without a write", func() error {
		before := w.writes.Load()
		nudge()
		time.Sleep(3 * time.Second) // that nothing happens can only be waited for by the clock
		if n := w.writes.Load() - before; n > 0 {
			var what []any
			w.writeLog.Range(func(k, _ any) bool { what = append(what, k); return len(what) < 1000 })
			return fmt.Errorf("%d writes, of all %v", n, what)
		}
		return nil
	})
}

// must is for calls that the test makes itself: must(call())(w).
func must[T any](v T, err error) func(*world) T {
	return func(w *world) T {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
		return v
	}
}

// namespace makes one and waits until pods may be made in it.
func (w *world) namespace(name string) {
	w.Helper()
	must(w.kube.CoreV1().Namespaces().Create(w.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))(w)
	w.until("the service account of namespace "+name, func() error {
		_, err := w.kube.CoreV1().ServiceAccounts(name).Get(w.Context(), "default", metav1.GetOptions{})
		return err
	})
}

// sub runs a part in a namespace of its own, in the same world.
func (w *world) sub(name string, fn func(w *world, ns string)) {
	w.Run(name, func(t *testing.T) {
		s := *w
		s.T = t
		s.namespace(name)
		fn(&s, name)
	})
}

// player does what scheduler and kubelets do: binds pods to living nodes, runs them, ends them, renews leases.
type player struct {
	kube kubernetes.Interface

	mu    sync.Mutex
	nodes map[string]bool // guarded by mu: whether it lives
	ips   int             // guarded by mu
	sick  string          // guarded by mu: pods of this image never become ready
	// scripts, by image, are done to a living, bound pod at every look in place of making it ready. Guarded by mu.
	scripts map[string]func(context.Context, *corev1.Pod)
}

func newPlayer(kube kubernetes.Interface) *player {
	return &player{kube: kube, nodes: map[string]bool{}, scripts: map[string]func(context.Context, *corev1.Pod){}}
}

// script has pods of an image played by fn, which may be called again before its write is seen.
func (p *player) script(image string, fn func(context.Context, *corev1.Pod)) {
	p.set(func() { p.scripts[image] = fn })
}

func (p *player) scriptOf(o *corev1.Pod) func(context.Context, *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.scripts[o.Spec.Containers[0].Image]
}

func (p *player) set(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
}

// home is where a pod goes: the node it is pinned to, or the first living node that is named like its namespace, or the steady one.
func (p *player) home(o *corev1.Pod) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := o.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, f := range t.MatchFields {
				return f.Values[0]
			}
		}
	}
	for i := range 10 {
		if n := fmt.Sprintf("%s-%d", o.Namespace, i); p.nodes[n] {
			return n
		}
	}
	return "steady"
}

func (p *player) alive(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodes[node]
}

const leaseSeconds = 6

func (p *player) add(w *world, name string) {
	w.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	must(p.kube.CoreV1().Nodes().Create(w.Context(), n, metav1.CreateOptions{}))(w)
	if err := p.report(w.Context(), name); err != nil {
		w.Fatal(err)
	}
	p.set(func() { p.nodes[name] = true })
	p.renew(w.Context())
}

// report says that a node is ready, as its kubelet does when it starts or finds its status changed.
func (p *player) report(ctx context.Context, name string) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		n, err := p.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
		_, err = p.kube.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{})
		return err
	})
}

func (p *player) run(ctx context.Context) error {
	renew := time.NewTicker(time.Second)
	defer renew.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-renew.C:
			p.renew(ctx)
		case <-look.C:
			p.play(ctx) // errors are tried again at the next look
		}
	}
}

func (p *player) renew(ctx context.Context) {
	var living []string
	p.set(func() {
		for n, ok := range p.nodes {
			if ok {
				living = append(living, n)
			}
		}
	})
	leases := p.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	for _, n := range living {
		seconds, now := int32(leaseSeconds), metav1.NowMicro()
		spec := coordinationv1.LeaseSpec{HolderIdentity: &n, LeaseDurationSeconds: &seconds, RenewTime: &now}
		l, err := leases.Get(ctx, n, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: n}, Spec: spec}, metav1.CreateOptions{})
		} else if err == nil {
			l.Spec = spec
			leases.Update(ctx, l, metav1.UpdateOptions{})
		}
	}
}

func (p *player) play(ctx context.Context) {
	list, err := p.kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	for i := range list.Items {
		o := &list.Items[i]
		pods := p.kube.CoreV1().Pods(o.Namespace)
		switch {
		case o.Spec.NodeName == "" && o.DeletionTimestamp == nil:
			pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: o.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: p.home(o)}}, metav1.CreateOptions{})
		case !p.alive(o.Spec.NodeName):
		case o.DeletionTimestamp != nil:
			none := int64(0)
			pods.Delete(ctx, o.Name, metav1.DeleteOptions{GracePeriodSeconds: &none})
		case pod.Terminal(o):
		case p.scriptOf(o) != nil:
			p.scriptOf(o)(ctx, o)
		case !pod.Ready(o) && !p.isSick(o):
			p.set(func() {
				p.ips++
				o.Status.PodIP = fmt.Sprintf("10.244.9.%d", p.ips%250+1)
			})
			o.Status.Phase, o.Status.PodIPs = corev1.PodRunning, []corev1.PodIP{{IP: o.Status.PodIP}}
			pod.SetCondition(&o.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, time.Now())
			pods.UpdateStatus(ctx, o, metav1.UpdateOptions{})
		}
	}
}

func (p *player) isSick(o *corev1.Pod) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return o.Spec.Containers[0].Image == p.sick
}
