package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"go.uber.org/zap"
)

// runner starts plugins for libcni. Unlike its own it never waits longer than the context allows: a plugin is killed with all that it started.
type runner struct {
	version.PluginDecoder
	log *zap.Logger
}

var _ invoke.Exec = (*runner)(nil)

// A program that is just being written cannot be started; it is tried again so often, and after such a time.
const (
	busyTries = 5
	busyWait  = 200 * time.Millisecond
)

// ExecPlugin runs a plugin and gives what it printed; an error is what it printed of its failure.
func (r *runner) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	for try := 1; ; try++ {
		out, err := r.once(ctx, path, stdin, environ)
		if try == busyTries || !errors.Is(err, syscall.ETXTBSY) {
			return out, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(busyWait):
		}
	}
}

func (r *runner) once(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for whoever left its group and holds the pipes
	begun := time.Now()
	err := cmd.Run()
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("plugin %s gave no answer within %s: %w", filepath.Base(path), time.Since(begun).Round(10*time.Millisecond), ctx.Err())
	case errors.Is(err, syscall.ETXTBSY):
		return nil, err
	case err != nil:
		return nil, failure(err, stdout.Bytes(), stderr.String())
	}
	if stderr.Len() > 0 {
		r.log.Debug("plugin wrote to stderr", zap.String("plugin", filepath.Base(path)), zap.String("text", strings.TrimSpace(stderr.String())))
	}
	return stdout.Bytes(), nil
}

// failure is how a plugin explains itself: as the protocol wants it, or in any way.
func failure(err error, stdout []byte, stderr string) error {
	told := types.Error{}
	switch stderr = strings.TrimSpace(stderr); {
	case len(stdout) > 0:
		if json.Unmarshal(stdout, &told) != nil {
			told.Msg = fmt.Sprintf("netplugin failed but error parsing its diagnostic message %q: %v", stdout, err)
		}
	case stderr != "":
		told.Msg = fmt.Sprintf("netplugin failed: %q: %v", stderr, err)
	default:
		told.Msg = fmt.Sprintf("netplugin failed with no error message: %v", err)
	}
	return &told
}

// FindInPath is that of libcni.
func (r *runner) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}
