package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"pilothouse.dev/hack/netns"
)

// answers is a daemon's readiness by URL: it works when it says 200. The certificate is the caller's.
func (c *cluster) answers(url, ca, certificate string) func(context.Context) error {
	return func(ctx context.Context) error {
		t := &http.Transport{DisableKeepAlives: true}
		if certificate != "" {
			cfg, err := c.clientTLS(ca, certificate)
			if err != nil {
				return err
			}
			t.TLSClientConfig = cfg
		}
		return get(ctx, t, url)
	}
}

// answersInside is the same for what listens only within a node.
func (c *cluster) answersInside(n *node, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		t := &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
				err = netns.Do(c.nodeNetns(n), func() error {
					conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
					return err
				})
				return conn, err
			},
		}
		return get(ctx, t, url)
	}
}

func get(ctx context.Context, t *http.Transport, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// accepts is a daemon's readiness by unix socket: it works when it takes connections.
func accepts(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			return fmt.Errorf("calling %s: %w", socket, err)
		}
		return conn.Close()
	}
}
