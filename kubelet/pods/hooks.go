package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/probes"
)

// hookOutput is how much of a hook's output is kept for its event.
const hookOutput = 1024

// hook runs a postStart or preStop handler.
func (w *worker) hook(ctx context.Context, h *corev1.LifecycleHandler, c *corev1.Container, id string, in input) error {
	switch {
	case h.Exec != nil:
		out := &opening{}
		code, err := w.parts.Containers.Exec(ctx, id, containers.ExecSpec{Args: h.Exec.Command, Stdout: out, Stderr: out})
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("command %q ended with exit code %d: %s", strings.Join(h.Exec.Command, " "), code, strings.TrimSpace(strings.ToValidUTF8(string(out.text), "\uFFFD")))
		}
		return nil
	case h.HTTPGet != nil:
		ip := ""
		if len(in.facts.PodIPs) > 0 {
			ip = in.facts.PodIPs[0].String()
		} else if h.HTTPGet.Host == "" {
			return errors.New("the pod has no address")
		}
		return askHook(ctx, h.HTTPGet, c, ip)
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case h.TCPSocket != nil: // https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#LifecycleHandler
		return errors.New("invalid handler: tcpSocket is not supported as a lifecycle hook")
	default:
		return errors.New("invalid handler: it names nothing to do")
	}
}

// askHook sends a hook's HTTP request. Any answer is well. A server that speaks only plain HTTP is asked so although HTTPS was named, as
// pods of long ago expect.
func askHook(ctx context.Context, get *corev1.HTTPGetAction, c *corev1.Container, ip string) error {
	req, err := probes.Request(ctx, get, c, ip, "kube-lifecycle")
	if err != nil {
		return err
	}
	resp, err := probes.Client.Do(req)
	if err != nil && req.URL.Scheme == "https" && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		req.URL.Scheme = "http"
		req.Header.Del("Authorization") // it was meant for an encrypted connection
		resp, err = probes.Client.Do(req)
	}
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, resp.Body, 10*hookOutput)
	if err == nil || errors.Is(err, io.EOF) {
		return resp.Body.Close()
	}
	return errors.Join(fmt.Errorf("reading the answer: %w", err), resp.Body.Close())
}

// opening keeps the first part of what is written to it.
type opening struct{ text []byte }

func (b *opening) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(hookOutput-len(b.text), len(p))]...)
	return len(p), nil
}
