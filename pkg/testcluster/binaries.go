package testcluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// root is the checkout.
func root() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(self), "..", "..")
}

// etcdBinary finds etcd: ETCD_BIN, bin/etcd of the checkout, or one built once into the user's cache.
var etcdBinary = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("ETCD_BIN"); b != "" {
		return b, nil
	}
	if b := filepath.Join(root(), "bin", "etcd"); isFile(b) {
		return b, nil
	}
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "etcd")
	return out, build(out, filepath.Join(root(), "hack", "tools", "etcd"), "GOWORK=off")
})

// apiserverBinary builds the API server of the checkout, with the race detector when the test has it. The build is go's own
// affair: when nothing changed it takes no time.
var apiserverBinary = sync.OnceValues(func() (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "apiserver")
	if raceEnabled {
		return out + "-race", build(out+"-race", filepath.Join(root(), "apiserver"), "", "-race")
	}
	return out, build(out, filepath.Join(root(), "apiserver"), "")
})

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// cacheDir is where built binaries are kept, one folder a checkout.
func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(root())
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "pilothouse", filepath.Base(abs)+"-"+fmt.Sprintf("%x", fnv(abs)))
	return dir, os.MkdirAll(dir, 0o755)
}

func fnv(s string) (h uint32) {
	h = 2166136261
	for _, b := range []byte(s) {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}

// build runs go build while holding a lock, since several test processes may want the same binary.
func build(out, dir, env string, flags ...string) error {
	lock, err := os.OpenFile(out+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	// go build leaves an up to date file alone, and replaces an old one whole.
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build"}, flags...), "-o", out, ".")...)
	cmd.Dir = dir
	cgo := "CGO_ENABLED=0" // as make builds it
	if slices.Contains(flags, "-race") {
		cgo = "CGO_ENABLED=1" // the race detector is C
	}
	cmd.Env = append(os.Environ(), cgo)
	if env != "" {
		cmd.Env = append(cmd.Env, env)
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", filepath.Base(out), err, text)
	}
	return nil
}
