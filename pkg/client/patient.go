package client

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

// Pauses of a patient dialer.
const (
	knockFirst = 50 * time.Millisecond
	knockWorst = 500 * time.Millisecond
	knockFor   = 30 * time.Second // after this the request fails, and whoever made it tries again
)

// Patient returns a copy of cfg whose connections are knocked for while the API server refuses them, for at most half a
// minute or the request's own time. Without it a watch that finds the server away tries again with pauses that grow to a
// minute, and stays away long after the server is back.
func Patient(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	d := &net.Dialer{Timeout: knockFor, KeepAlive: 30 * time.Second}
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, knockFor)
		defer cancel()
		for pause := knockFirst; ; pause = min(2*pause, knockWorst) {
			c, err := d.DialContext(ctx, network, address)
			if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
				return c, err
			}
			select {
			case <-ctx.Done():
				return nil, err
			case <-time.After(pause):
			}
		}
	}
	return cfg
}
