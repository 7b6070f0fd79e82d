// Package nodetest gives tests a node of their own: private PID, mount, network, IPC and UTS namespaces, a real containerd, and a tiny image.
//
// A package's TestMain calls Main. What always holds: when the test process ends, in whatever way, every process, mount, link and namespace it made
// ends with its namespaces, and the control groups are removed by the process outside, or by the next run. It imports no room but cgroups,
// so that every room above may use it.
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"pilothouse.dev/kubelet/cgroups"
)

const (
	insideVar   = "PILOT_NODETEST" // holds the name of the run's control group
	groupPrefix = "pilot-nodetest-"
	mountPoint  = "/sys/fs/cgroup"
)

// Main is a TestMain: os.Exit(nodetest.Main(m)). Outside it starts the same test binary again in namespaces of its own; inside it runs the tests.
func Main(m *testing.M) int {
	if os.Getenv(insideVar) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "furnishing the test's namespaces:", err)
			return 1
		}
		return m.Run()
	}
	code, err := enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "running tests in namespaces of their own:", err)
		return 1
	}
	return code
}

// enter runs the tests in a child that is process 1 of its namespace: the kernel ends all others with it.
func enter() (code int, err error) {
	runtime.LockOSThread() // Pdeathsig follows the thread that made the child
	if err := sweep(); err != nil {
		return 0, fmt.Errorf("removing leftovers of an earlier run: %w", err)
	}
	group := groupPrefix + strconv.Itoa(os.Getpid())
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"="+group)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), removeGroup(group)
}

// sweep removes control groups of runs that were killed.
func sweep() error {
	found, err := filepath.Glob(mountPoint + "/*/" + groupPrefix + "*")
	if err != nil {
		return err
	}
	onV2, err := filepath.Glob(mountPoint + "/" + groupPrefix + "*")
	if err != nil {
		return err
	}
	for _, dir := range append(found, onV2...) {
		pid := strings.TrimPrefix(filepath.Base(dir), groupPrefix)
		if _, err := os.Stat("/proc/" + pid); err == nil {
			continue
		}
		if err := removeGroup(filepath.Base(dir)); err != nil {
			return err
		}
	}
	return nil
}

func removeGroup(name string) error {
	return cgroups.New(cgroups.Config{Root: name}, zap.NewNop()).Remove(context.Background())
}

// furnish gives the new namespaces what a machine has: its own /proc, an empty /run, loopback up.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// CgroupRoot is a control group of this test alone, for cgroups.Config.Root; it is removed when the tests have ended.
func CgroupRoot(t testing.TB) string {
	group := os.Getenv(insideVar)
	if group == "" {
		t.Fatal("TestMain must call nodetest.Main")
	}
	return path.Join("/", group, strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
}
