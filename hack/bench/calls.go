package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/hack/netns"
)

const (
	callers     = 16
	callsFor    = 2 * time.Second
	callsRounds = 5
)

// calls are HTTP requests from node1 to one pod there: straight, with nothing but the connection table on the way, and through a cluster IP.
type calls struct {
	inside       string // the network namespace of callers
	straight, by string // host:port
}

// openCalls starts the pod that answers.
func (b *bench) openCalls(ctx context.Context) (*calls, error) {
	labels := map[string]string{"app": "answer"}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "answer", Labels: labels}, Spec: podSpec()}
	p.Spec.NodeName = "node1"
	p.Spec.Containers[0].Args = []string{"serve"}
	pods := b.clients.Kube.CoreV1().Pods(networkRoom)
	if _, err := pods.Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("making a pod: %w", err)
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "answer"}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 8080}}}}
	made, err := b.clients.Kube.CoreV1().Services(networkRoom).Create(ctx, svc, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("making a service: %w", err)
	}
	pids, err := b.processes()
	if err != nil {
		return nil, err
	}
	c := &calls{inside: fmt.Sprintf("/proc/%d/ns/net", pids["node1/kubelet"]), by: net.JoinHostPort(made.Spec.ClusterIP, "8080")}
	err = b.until(ctx, "the pod answers through its service", func() (bool, error) {
		p, err := pods.Get(ctx, "answer", metav1.GetOptions{})
		if err != nil || p.Status.PodIP == "" {
			return false, err
		}
		c.straight = net.JoinHostPort(p.Status.PodIP, "8080")
		_, err = getInside(ctx, c.inside, "http://"+c.by+"/hostname")
		return err == nil, err
	})
	return c, err
}

// measure compares both ways, in turns, so that what else the machine does meets both; the middle of the rounds counts.
func (c *calls) measure(ctx context.Context, b *bench, services int) error {
	for _, kind := range []struct {
		what, aim string
		keep      bool
	}{{"kept connections", "0.97", true}, {"a connection a request", "0.9", false}} {
		var straight, by []float64
		for range callsRounds {
			for addr, rates := range map[string]*[]float64{c.straight: &straight, c.by: &by} {
				rate, err := c.rate(ctx, addr, kind.keep)
				if err != nil {
					return fmt.Errorf("calling %s: %w", addr, err)
				}
				*rates = append(*rates, rate)
			}
		}
		slices.Sort(straight)
		slices.Sort(by)
		ours, limit := by[callsRounds/2], straight[callsRounds/2]
		b.report.add(networkTitle, row{fmt.Sprintf("%s through a cluster IP, %d services (aim: ratio %s)", kind.what, services, kind.aim),
			fmt.Sprintf("%.0f/s", ours), fmt.Sprintf("%.0f/s", limit), fmt.Sprintf("%.2f", ours/limit)})
	}
	return nil
}

// rate is how many requests a second all callers together have answered.
func (c *calls) rate(ctx context.Context, addr string, keep bool) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, callsFor)
	defer cancel()
	var done atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, callers)
	began := time.Now()
	for range callers {
		all.Go(func() {
			if err := c.call(ctx, addr, keep, &done); err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	select {
	case err := <-failed:
		return 0, err
	default:
		return float64(done.Load()) / took.Seconds(), nil
	}
}

// call is one caller, on a thread that stands in the node's network.
func (c *calls) call(ctx context.Context, addr string, keep bool, done *atomic.Int64) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := netns.Enter(c.inside); err != nil {
			result <- err
			return
		}
		for ctx.Err() == nil {
			if err := session(ctx, addr, keep, done); err != nil {
				result <- err
				return
			}
		}
		result <- nil
	}()
	return <-result
}

// session is one connection: one request, or all until ctx ends. It ends with a reset, for a port that waits in TIME_WAIT could not be had again.
func session(ctx context.Context, addr string, keep bool, done *atomic.Int64) (err error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.(*net.TCPConn).SetLinger(0), conn.Close()) }()
	in := bufio.NewReader(conn)
	for first := true; first || keep && ctx.Err() == nil; first = false {
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "GET /hostname HTTP/1.1\r\nHost: answer\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		done.Add(1)
	}
	return nil
}
