package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
)

// profileTime is how much of a load is profiled.
const profileTime = 3 * time.Second

// profiled runs a load, and with -profiles takes a CPU profile of the server meanwhile, kept as NAME.pprof.
func (b *bench) profiled(ctx context.Context, name string, load func() error) error {
	if b.cfg.Profiles == "" {
		return load()
	}
	taken := make(chan error, 1)
	go func() { taken <- b.profile(ctx, filepath.Join(b.cfg.Profiles, name+".pprof")) }()
	err := load()
	if perr := <-taken; err == nil {
		err = perr
	}
	return err
}

func (b *bench) profile(ctx context.Context, path string) error {
	tlsConf, err := rest.TLSConfigFor(b.server.rest)
	if err != nil {
		return fmt.Errorf("reading certificates: %w", err)
	}
	t := &http.Transport{TLSClientConfig: tlsConf}
	defer t.CloseIdleConnections()
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", b.server.rest.Host, profileTime.Seconds())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("taking a profile: %s", resp.Status)
	}
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("keeping a profile: %w", err)
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("keeping a profile: %w", err)
	}
	return out.Close()
}
