package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/client"
)

// bench is one run.
type bench struct {
	cfg    config
	bin    string // absolute
	dir    string // of the cluster
	report report

	clients *client.Clients // once the cluster is up
	server  *server         // while the API is measured
}

func open(cfg config) (*bench, error) {
	bin, err := filepath.Abs(cfg.Bin)
	if err != nil {
		return nil, fmt.Errorf("finding the programs: %w", err)
	}
	dir, err := filepath.Abs(filepath.Join(".cluster", cfg.Name))
	if err != nil {
		return nil, fmt.Errorf("finding the cluster's folder: %w", err)
	}
	if _, err := os.Stat(dir); err == nil {
		return nil, fmt.Errorf("cluster %q exists: take it down, so that it does not count (bin/cluster -name %s down)", cfg.Name, cfg.Name)
	}
	return &bench{cfg: cfg, bin: bin, dir: dir, report: report{load: loadAverage()}}, nil
}

func (b *bench) cluster(args ...string) error {
	cmd := exec.Command(filepath.Join(b.bin, "cluster"), append([]string{"-name", b.cfg.Name, "-dir", b.dir}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cluster %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (b *bench) kubectl(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(b.bin, "kubectl"), append([]string{"--kubeconfig", filepath.Join(b.dir, "kubeconfig")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// start measures from nothing to an application that answers.
func (b *bench) start(ctx context.Context) error {
	began := time.Now()
	if err := b.cluster("up", "-nodes", "3"); err != nil {
		return err
	}
	up := time.Since(began)
	if _, err := b.kubectl("apply", "-f", "hack/manifests/demo.yaml"); err != nil {
		return err
	}
	address, err := b.kubectl("get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`)
	if err != nil {
		return err
	}
	port, err := b.kubectl("-n", "demo", "get", "service", "hello", "-o", "jsonpath={.spec.ports[0].nodePort}")
	if err != nil {
		return err
	}
	if err := answered(ctx, "http://"+address+":"+port+"/hostname"); err != nil {
		return err
	}
	first := time.Since(began)
	if _, err := b.kubectl("-n", "demo", "rollout", "status", "deployment/hello", "--timeout=60s"); err != nil {
		return err
	}
	b.report.add("From nothing, everything built, to …", row{"three nodes ready, names answered", seconds(up), "", ""},
		row{"the demo answers at a node port", seconds(first), "aim: 10 s", ""},
		row{"all three replicas available", seconds(time.Since(began)), "", ""})
	if err := b.connect(); err != nil {
		return err
	}
	return b.clients.Kube.CoreV1().Namespaces().Delete(ctx, "demo", metav1.DeleteOptions{})
}

// connect makes clients of the cluster that is up.
func (b *bench) connect() error {
	rest, err := client.Load(filepath.Join(b.dir, "kubeconfig"), "bench")
	if err != nil {
		return err
	}
	b.clients, err = client.New(rest)
	return err
}

// answered returns at the first good answer.
func answered(ctx context.Context, url string) error {
	c := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		resp, err := c.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", url, errors.Join(ctx.Err(), err))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// processes are the cluster's own record of its daemons: name to pid.
func (b *bench) processes() (map[string]int, error) {
	data, err := os.ReadFile(filepath.Join(b.dir, "state.json"))
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's state: %w", err)
	}
	var s struct {
		Processes map[string]struct {
			PID int `json:"pid"`
		} `json:"processes"`
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("reading the cluster's state: %w", err)
	}
	pids := map[string]int{}
	for name, p := range s.Processes {
		pids[name] = p.PID
	}
	return pids, nil
}
