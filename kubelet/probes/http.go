package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/version"
)

// mostBody is how much of an HTTP answer is read.
const mostBody = 10 << 10

// dialer closes connections without leaving them in TIME_WAIT for minutes: a node makes many of them.
var dialer = net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 1})
	})
	return errors.Join(err, failed)
}}

// Client is how pods are asked by HTTP: no proxy whatever the environment says, no connection kept, any certificate (a pod's own: nobody vouches
// for it), and a redirect to another host is not followed: the answer is then the redirect itself.
var Client = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	},
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

// Request is the request that the API's action describes, to the container at ip unless the action names a host; agent is the name before the
// version in User-Agent. An error: the container has no such port.
func Request(ctx context.Context, get *corev1.HTTPGetAction, c *corev1.Container, ip, agent string) (*http.Request, error) {
	port, err := Port(get.Port, c)
	if err != nil {
		return nil, err
	}
	host := get.Host
	if host == "" {
		host = ip
	}
	u, err := url.Parse("/" + strings.TrimPrefix(get.Path, "/"))
	if err != nil {
		u = &url.URL{Path: get.Path} // passed on as it is
	}
	if u.Scheme = "http"; get.Scheme == corev1.URISchemeHTTPS {
		u.Scheme = "https"
	}
	u.Host = net.JoinHostPort(host, port)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	for _, h := range get.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	if _, own := req.Header["User-Agent"]; !own {
		req.Header.Set("User-Agent", agent+"/"+version.Major+"."+version.Minor)
	}
	if _, own := req.Header["Accept"]; !own {
		req.Header.Set("Accept", "*/*")
	} else if req.Header.Get("Accept") == "" {
		req.Header.Del("Accept")
	}
	req.Host = req.Header.Get("Host")
	return req, nil
}

// get asks by HTTP; an answer from 200 to 399 is well.
func get(ctx context.Context, a *corev1.HTTPGetAction, target Target) error {
	req, err := Request(ctx, a, target.Container, target.IP.String(), "kube-probe")
	if err != nil {
		return unknown{err}
	}
	resp, err := Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostBody))
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode < 200 || resp.StatusCode >= 400:
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	case resp.StatusCode >= 300:
		return warning{fmt.Sprintf("Probe terminated redirects, Response body: %s", clip(body))}
	}
	return nil
}
