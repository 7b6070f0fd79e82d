package probes

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/version"
)

// most is how much of an answer is kept for a complaint.
const most = 1024

// trier makes one try of a probe; nil is a success.
type trier struct{ run Runner }

func (t trier) try(ctx context.Context, p *corev1.Probe, target Target) error {
	switch {
	case p.Exec != nil:
		return t.exec(ctx, p.Exec.Command, target.ContainerID)
	case p.HTTPGet != nil:
		return Get(ctx, p.HTTPGet, target.Container, target.IP.String())
	case p.TCPSocket != nil:
		return tcp(ctx, p.TCPSocket, target)
	case p.GRPC != nil:
		return health(ctx, p.GRPC, target)
	default:
		return errors.New("the probe names nothing to try")
	}
}

func (t trier) exec(ctx context.Context, command []string, id string) error {
	out := &limited{}
	code, err := t.run.Exec(ctx, id, containers.ExecSpec{Args: command, Stdout: out, Stderr: out})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("command %q timed out", strings.Join(command, " "))
	case err != nil:
		return err
	case code != 0 && out.Len() == 0:
		return fmt.Errorf("command ended with exit code %d", code)
	case code != 0:
		return errors.New(strings.TrimSpace(out.String()))
	}
	return nil
}

// limited keeps the beginning of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if room := most - l.Len(); room > 0 {
		l.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

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

// Get asks by HTTP; an answer from 200 to 399 is well. Hooks ask the same way. A redirect to another host counts as well, without being followed.
func Get(ctx context.Context, get *corev1.HTTPGetAction, c *corev1.Container, ip string) error {
	port, err := Port(get.Port, c)
	if err != nil {
		return err
	}
	host := get.Host
	if host == "" {
		host = ip
	}
	u, err := url.Parse("/" + strings.TrimPrefix(get.Path, "/"))
	if err != nil {
		return fmt.Errorf("reading path %q: %w", get.Path, err)
	}
	if u.Scheme = "http"; get.Scheme == corev1.URISchemeHTTPS {
		u.Scheme = "https"
	}
	u.Host = net.JoinHostPort(host, port)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("User-Agent", "kube-probe/"+version.Major+"."+version.Minor)
	req.Header.Set("Accept", "*/*")
	for _, h := range get.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		if h.Value == "" && strings.EqualFold(h.Name, "Accept") {
			req.Header.Del("Accept")
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // a pod's own certificate: nobody vouches for it
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	_, err = io.CopyN(io.Discard, resp.Body, 10*most)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

func tcp(ctx context.Context, a *corev1.TCPSocketAction, t Target) error {
	port, err := Port(a.Port, t.Container)
	if err != nil {
		return err
	}
	host := a.Host
	if host == "" {
		host = t.IP.String()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	conn.Close() // it answered: how it hangs up is of no interest
	return nil
}

func health(ctx context.Context, a *corev1.GRPCAction, t Target) error {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(t.IP.String(), strconv.Itoa(int(a.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/"+version.Major+"."+version.Minor))
	if err != nil {
		return fmt.Errorf("making a gRPC client: %w", err)
	}
	defer conn.Close()
	req := &grpc_health_v1.HealthCheckRequest{}
	if a.Service != nil {
		req.Service = *a.Service
	}
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, req)
	if err != nil {
		return err
	}
	if resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", resp.Status)
	}
	return nil
}
