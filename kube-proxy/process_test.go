package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kube-proxy/testnet"
	"pilothouse.dev/pkg/testcluster"
)

// binary builds the daemon.
func binary(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kube-proxy")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the daemon: %v\n%s", err, out)
	}
	return path
}

// apiInside makes the API server, which listens on the test's loopback, answer at
// the same address on the loopback of a namespace.
func apiInside(t testing.TB, p testnet.Place, c *testcluster.Cluster) {
	t.Helper()
	u, err := url.Parse(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	var ln net.Listener
	p.Do(t, func() (err error) {
		ln, err = net.Listen("tcp", u.Host)
		return err
	})
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { pipe(ctx, in, u.Host) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		all.Wait()
	})
}

// pipe passes on what two ends say until one of them is done.
func pipe(ctx context.Context, in net.Conn, to string) {
	out, err := net.Dial("tcp", to)
	if err != nil {
		_ = in.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
	defer stop()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // whoever closed first knows why
			_, _ = in.Close(), out.Close()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}

// process is the daemon as a process of a namespace.
type process struct {
	place testnet.Place
	cmd   *exec.Cmd
}

func start(t testing.TB, p testnet.Place, bin, kubeconfig string, more ...string) *process {
	t.Helper()
	args := append([]string{
		"--kubeconfig=" + kubeconfig, "--hostname-override=n1", "--cluster-cidr=" + testnet.PodCIDR.String() + "," + testnet.PodCIDR6.String(),
		"--healthz-bind-address=127.0.0.1:10256", "--log-level=warn", "--sync-period=1s",
	}, more...)
	r := &process{place: p, cmd: exec.Command(bin, args...)}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr = log, log
	p.Do(t, r.cmd.Start)
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			said, err := os.ReadFile(log.Name())
			t.Logf("the daemon said: %s %v", said, err)
		}
		_ = log.Close()
	})
	return r
}

// kill ends it as a crash would.
func (r *process) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill() // it may be gone already
		_ = r.cmd.Wait()         // it was killed
	}
}

// healthy asks /healthz inside.
func (r *process) healthy() error {
	return r.place.Run(func() error {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, at string) (net.Conn, error) {
			return r.place.Dial(network, netip.MustParseAddrPort(at))
		}}}
		resp, err := c.Get("http://127.0.0.1:10256/healthz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// resident is its memory in bytes.
func (r *process) resident(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// processor is how long it has worked.
func (r *process) processor(t testing.TB) time.Duration {
	t.Helper()
	var all time.Duration
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all += time.Duration(ns)
	}
	return all
}

// callers open connections without a pause, from inside a place, until stopped.
type callers struct {
	stop  atomic.Bool
	calls atomic.Int64
	done  sync.WaitGroup
	err   atomic.Pointer[error]
}

func (c *callers) call(p testnet.Place, to netip.AddrPort, many int) {
	for range many {
		c.done.Go(func() {
			err := p.Run(func() error {
				for !c.stop.Load() {
					conn, err := net.DialTimeout("tcp", to.String(), testnet.Patience)
					if err != nil {
						return fmt.Errorf("call %d from %s: %w", c.calls.Load(), p.Name, err)
					}
					if _, err := testnet.Ask(conn); err != nil {
						return fmt.Errorf("call %d from %s: %w", c.calls.Load(), p.Name, err)
					}
					_ = conn.Close()
					c.calls.Add(1)
				}
				return nil
			})
			if err != nil {
				c.err.CompareAndSwap(nil, &err)
				c.stop.Store(true)
			}
		})
	}
}

// wait waits for so many calls more.
func (c *callers) wait(n int64) {
	for until := c.calls.Load() + n; c.calls.Load() < until && !c.stop.Load(); {
		time.Sleep(time.Millisecond)
	}
}

// The daemon is killed and started again under a load of new connections: none is
// lost, flows stay, and what went while it was away goes.
func TestKilledAndStartedAgain(t *testing.T) {
	c := testcluster.Start(t)
	n := testnet.New(t, 4)
	for _, p := range n.Pods {
		p.Serve(t, 8080)
	}
	ctx := t.Context()
	slices, services := c.Kube.DiscoveryV1().EndpointSlices("default"), c.Kube.CoreV1().Services("default")
	make := func(name string, protocol corev1.Protocol, pods ...testnet.Place) (*corev1.Service, *discoveryv1.EndpointSlice) {
		svc, err := services.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, Protocol: protocol}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr(""), Port: ptr[int32](8080), Protocol: &protocol}},
		}
		for _, p := range pods {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{p.IP.String()}})
		}
		if s, err = slices.Create(ctx, s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		return svc, s
	}
	at := func(s *corev1.Service) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(s.Spec.ClusterIP), 80)
	}
	web, webSlice := make("web", corev1.ProtocolTCP, n.Pods[:3]...)
	stale, _ := make("stale", corev1.ProtocolTCP, n.Pods[0])
	dns, _ := make("dns", corev1.ProtocolUDP, n.Pods[:3]...)

	apiInside(t, n.Node, c)
	bin, kubeconfig := binary(t), c.Kubeconfig("system:kube-proxy", "system:node-proxier")
	if _, err := c.Kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	daemon := start(t, n.Node, bin, kubeconfig)
	eventually(t, "it is healthy", daemon.healthy)
	if _, err := n.Host.Call("tcp", at(stale)); err != nil {
		t.Fatal(err)
	}
	flow, err := n.Host.Dial("udp", at(dns))
	if err != nil {
		t.Fatal(err)
	}
	defer flow.Close()
	before, err := testnet.Ask(flow)
	if err != nil {
		t.Fatal(err)
	}

	var load callers
	load.call(n.Host, at(web), 2)
	load.call(n.Pods[3], at(web), 2)
	began := time.Now()
	load.wait(1000)
	for round := range 3 {
		daemon.kill()
		load.wait(300)
		if round == 0 {
			if err := services.Delete(ctx, "stale", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			webSlice.Endpoints = webSlice.Endpoints[1:]
			if webSlice, err = slices.Update(ctx, webSlice, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		daemon = start(t, n.Node, bin, kubeconfig)
		eventually(t, "it is healthy again", daemon.healthy)
		load.wait(300)
	}
	t.Logf("%d connections, %.0f a second", load.calls.Load(), float64(load.calls.Load())/time.Since(began).Seconds())
	load.stop.Store(true)
	load.done.Wait()
	if err := load.err.Load(); err != nil {
		t.Error(*err)
	}
	if after, err := testnet.Ask(flow); err != nil || after != before {
		t.Errorf("the flow was answered by %+v, then by %+v, %v", before, after, err)
	}
	if _, err := n.Pods[0].Call("tcp", at(stale)); err == nil {
		t.Error("a service that went while the daemon was away is still answered")
	}
	for range 40 {
		if a, err := n.Host.Call("tcp", at(web)); err != nil || a.From == n.Pods[0].Name {
			t.Fatalf("an endpoint that went while the daemon was away: %+v, %v", a, err)
		}
	}
	if err := daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := daemon.cmd.Wait(); err != nil {
		t.Errorf("asked to stop it ended with %v", err)
	}
	if _, err := n.Host.Call("tcp", at(web)); err != nil {
		t.Errorf("after the daemon has stopped: %v", err)
	}
}
