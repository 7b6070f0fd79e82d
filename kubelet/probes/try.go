package probes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/version"
)

// most is how much of an answer is kept for a complaint.
const most = 1024

// unknown is the error of a try that says nothing about the container: it could not be made. It changes no verdict.
type unknown struct{ error }

// warning is a try that counts as well, with something to say all the same.
type warning struct{ text string }

func (w warning) Error() string { return w.text }

// trier makes one try of a probe: nil is a success, a warning counts as one, an unknown as nothing, any other error as a failure.
type trier struct{ run Runner }

func (t trier) try(ctx context.Context, p *corev1.Probe, target Target) (err error) {
	defer func() {
		if r := recover(); r != nil { // whatever a pod's spec holds must not end the kubelet
			err = unknown{fmt.Errorf("internal error: %v\n%s", r, debug.Stack())}
		}
	}()
	switch {
	case p.Exec != nil:
		return t.exec(ctx, p.Exec.Command, target.ContainerID)
	case p.HTTPGet != nil:
		return get(ctx, p.HTTPGet, target)
	case p.TCPSocket != nil:
		return tcp(ctx, p.TCPSocket, target)
	case p.GRPC != nil:
		return health(ctx, p.GRPC, target)
	default:
		return unknown{fmt.Errorf("missing probe handler for container %s", target.Container.Name)}
	}
}

func (t trier) exec(ctx context.Context, command []string, id string) error {
	out := &limited{}
	code, err := t.run.Exec(ctx, id, containers.ExecSpec{Args: command, Stdout: out, Stderr: out})
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("command timed out: %q timed out after %s", strings.Join(command, " "), timeout(ctx))
	case err != nil:
		return unknown{err}
	case code != 0 && len(out.text) == 0:
		return fmt.Errorf("command ended with exit code %d", code)
	case code != 0:
		return errors.New(strings.TrimSpace(clip(out.text)))
	}
	return nil
}

// timed marks a context with how long it lasts, for complaints.
type timed struct{}

func timeout(ctx context.Context) time.Duration {
	d, _ := ctx.Value(timed{}).(time.Duration)
	return d
}

// limited keeps the beginning of what is written to it.
type limited struct{ text []byte }

func (l *limited) Write(b []byte) (int, error) {
	l.text = append(l.text, b[:min(most-len(l.text), len(b))]...)
	return len(b), nil
}

// clip is the beginning of an answer, as text.
func clip(b []byte) string { return strings.ToValidUTF8(string(b[:min(len(b), most)]), "\uFFFD") }

// Port finds a port by number or by the name that the container gave it.
func Port(port intstr.IntOrString, c *corev1.Container) (string, error) {
	n := port.IntValue()
	if port.Type == intstr.String && n == 0 {
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				n = int(p.ContainerPort)
			}
		}
	}
	if n < 1 || n > 65535 {
		return "", fmt.Errorf("container %s has no port %q", c.Name, port.String())
	}
	return strconv.Itoa(n), nil
}

func tcp(ctx context.Context, a *corev1.TCPSocketAction, t Target) error {
	port, err := Port(a.Port, t.Container)
	if err != nil {
		return unknown{err}
	}
	host := a.Host
	if host == "" {
		host = t.IP.String()
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	conn.Close() // it answered: how it hangs up is of no interest
	return nil
}

func health(ctx context.Context, a *corev1.GRPCAction, t Target) error {
	addr := net.JoinHostPort(t.IP.String(), strconv.Itoa(int(a.Port)))
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithUserAgent("kube-probe/"+version.Major+"."+version.Minor),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }))
	if err != nil {
		return unknown{fmt.Errorf("making a gRPC client: %w", err)}
	}
	defer conn.Close()
	req := &grpc_health_v1.HealthCheckRequest{}
	if a.Service != nil {
		req.Service = *a.Service
	}
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, req)
	if err != nil {
		switch st, _ := grpcstatus.FromError(err); st.Code() {
		case codes.Unimplemented:
			return fmt.Errorf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", st.Message())
		case codes.DeadlineExceeded:
			return fmt.Errorf("timeout: health rpc did not complete within %s", timeout(ctx))
		case codes.Unavailable:
			return fmt.Errorf("error: failed to connect service at %q: %s", addr, st.Message())
		}
		return fmt.Errorf("error: health rpc probe failed: %w", err)
	}
	if resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", resp.Status)
	}
	return nil
}
