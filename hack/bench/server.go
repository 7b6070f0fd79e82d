package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

const (
	serverPort   = 6999
	serverPrefix = "/bench-registry" // of the own server's keys, beside the cluster's
	starts       = 5
)

// server is an API server of its own for all that concerns the API: on the cluster's etcd under another prefix, with no clients
// but the load. Its start and its memory are then nobody else's.
type server struct {
	args []string // program first
	log  string
	cmd  *exec.Cmd
	rest *rest.Config
	http *http.Client // asks for readiness
}

// openServer copies how the cluster's own server was started.
func (b *bench) openServer() (*server, error) {
	line, err := b.apiserverCommand()
	if err != nil {
		return nil, err
	}
	s := &server{log: filepath.Join(b.dir, "bench-apiserver.log"), rest: rest.CopyConfig(b.clients.REST)}
	own := []string{"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", serverPort), "--etcd-prefix=" + serverPrefix}
	for _, arg := range line {
		flag, _, _ := strings.Cut(arg, "=")
		if flag != "--bind-address" && flag != "--secure-port" && flag != "--etcd-prefix" {
			s.args = append(s.args, arg)
		}
	}
	s.args = append(s.args, own...)
	s.rest.Host = fmt.Sprintf("https://127.0.0.1:%d", serverPort)
	// Under its own prefix nobody has bound the administrator's group to a role.
	s.rest.CertData, s.rest.KeyData = nil, nil
	s.rest.CertFile, s.rest.KeyFile = filepath.Join(b.dir, "pki", "super-admin.crt"), filepath.Join(b.dir, "pki", "super-admin.key")
	tlsConf, err := rest.TLSConfigFor(s.rest)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConf}, Timeout: time.Second}
	return s, nil
}

// start runs the server and returns how long it took from exec to /readyz.
func (s *server) start(ctx context.Context) (time.Duration, error) {
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("opening the server's log: %w", err)
	}
	defer out.Close()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting a server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		resp, err := s.http.Get(s.rest.Host + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(began), nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(fmt.Errorf("the server is not ready (its log: %s): %w", s.log, ctx.Err()), s.stop())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// stop ends the server as its operator would.
func (s *server) stop() error {
	if s.cmd == nil {
		return nil
	}
	cmd := s.cmd
	s.cmd = nil
	s.http.CloseIdleConnections()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping the server: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the server ended with: %w (its log: %s)", err, s.log)
	}
	return nil
}

// restart gives a server that did nothing yet, on the same objects.
func (s *server) restart(ctx context.Context) error {
	if err := s.stop(); err != nil {
		return err
	}
	_, err := s.start(ctx)
	return err
}

// apiserverCommand is the cluster's own API server: program and flags.
func (b *bench) apiserverCommand() ([]string, error) {
	pids, err := b.processes()
	if err != nil {
		return nil, err
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pids["apiserver"]))
	if err != nil {
		return nil, fmt.Errorf("reading the API server's flags: %w", err)
	}
	return strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"), nil
}

// apiServer measures the API on a server of its own: start, memory, objects, fan-out, clients that all return at once, and one that floods it.
func (b *bench) apiServer(ctx context.Context) (err error) {
	if err := b.cluster("down"); err != nil {
		return err
	}
	if err := b.cluster("up", "-nodes", "0"); err != nil {
		return err
	}
	if err := b.connect(); err != nil {
		return err
	}
	if b.server, err = b.openServer(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.stop()) }()
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{
		{"starts", b.starts}, {"objects", b.objects}, {"fan-out", b.fanOut}, {"returning", b.returning}, {"fairness", b.fairness},
	} {
		if b.cfg.Part != "" && part.name != b.cfg.Part && part.name != "starts" {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return err
		}
	}
	return b.serverMemory(ctx, "after the whole load, its objects deleted")
}

// starts measures exec to /readyz, and the memory of a server that is ready.
func (b *bench) starts(ctx context.Context) error {
	var took samples
	for i := range starts {
		d, err := b.server.start(ctx)
		if err != nil {
			return err
		}
		took = append(took, d)
		if i < starts-1 {
			if err := b.server.stop(); err != nil {
				return err
			}
		}
	}
	title := "The API server from exec to /readyz, etcd running, all kinds served"
	b.report.add(title, row{"the first, on an empty etcd", millis(took[0]), "aim: 500 ms", ""},
		row{fmt.Sprintf("p50 of %d", starts), millis(took.at(50)), "aim: 500 ms", ""})
	return b.serverMemory(ctx, "ready")
}

// serverMemory reports the memory of the own server once it has settled.
func (b *bench) serverMemory(ctx context.Context, when string) error {
	m, err := b.settled(ctx)
	if err != nil {
		return err
	}
	b.report.add("The API server alone: resident memory, MiB (anonymous part in brackets)",
		row{when, fmt.Sprintf("%d (%d)", m.rss>>10, m.anon>>10), "aim: " + memoryAims[when], ""})
	return nil
}

var memoryAims = map[string]string{
	"ready": "45", "restarted with all objects": "75", "after the whole load, its objects deleted": "130",
}

// usage is memory in KiB.
type usage struct{ rss, anon int }

func (b *bench) settled(ctx context.Context) (usage, error) {
	select {
	case <-ctx.Done():
		return usage{}, ctx.Err()
	case <-time.After(settle):
	}
	rss, anon, err := resident(b.server.cmd.Process.Pid)
	return usage{rss, anon}, err
}

// cpu is the processor time a process has used.
func cpu(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading processor time: %w", err)
	}
	// The name in brackets may hold anything; utime and stime are the 12th and 13th field after it, in hundredths of a second.
	_, rest, ok := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("reading processor time: %q", data)
	}
	var user, system int64
	if _, err := fmt.Sscan(f[11]+" "+f[12], &user, &system); err != nil {
		return 0, fmt.Errorf("reading processor time: %w", err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}
