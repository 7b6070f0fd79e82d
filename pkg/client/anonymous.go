package client

import (
	"fmt"
	"strings"

	"k8s.io/client-go/rest"
)

// Anonymous returns a copy of cfg that trusts the same API server and says nothing of who calls: no certificate, no token. All
// clients made of it and of its copies share one transport, and so one connection; whoever wraps that transport may add a token.
func Anonymous(cfg *rest.Config) (*rest.Config, error) {
	cfg, err := renewing(rest.AnonymousClientConfig(cfg))
	if err != nil {
		return nil, err
	}
	if cfg.Transport != nil {
		return cfg, nil
	}
	t, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a transport to %s: %w", cfg.Host, err)
	}
	cfg = rest.CopyConfig(cfg)
	if !strings.Contains(cfg.Host, "://") {
		cfg.Host = "https://" + cfg.Host
	}
	cfg.TLSClientConfig, cfg.Dial, cfg.Transport = rest.TLSClientConfig{}, nil, t
	return cfg, nil
}
