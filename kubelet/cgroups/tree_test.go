package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
)

// newTree makes a tree under a root of its own on the real machine, whatever it mounts.
func newTree(t *testing.T) *Tree {
	t.Helper()
	tree := New(Config{Root: fmt.Sprintf("pilot-test-%d/%s", os.Getpid(), t.Name())}, zaptest.NewLogger(t))
	t.Cleanup(func() {
		outer := New(Config{Root: fmt.Sprintf("pilot-test-%d", os.Getpid())}, zaptest.NewLogger(t))
		if err := outer.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if dirs, err := outer.dirs("/" + outer.cfg.Root); err != nil || len(dirs) != 0 {
			t.Errorf("groups remain: %v, %v", dirs, err)
		}
	})
	if err := tree.Open(); err != nil {
		t.Fatal(err)
	}
	return tree
}

// sleeper is a process, reaped as soon as it ends and ended with the test at the latest.
func sleeper(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		cmd.Wait() // it was killed: an error is what is expected
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-reaped
	})
	return cmd.Process.Pid
}

func (t *Tree) join(path string, pid int) error {
	dirs, err := t.dirs(path)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := write(dir, procsFile, fmt.Sprint(pid)); err != nil {
			return err
		}
	}
	return nil
}

// TestBound: what all pods may use together is set at the start, and later if they use more at first.
func TestBound(t *testing.T) {
	tree := newTree(t)
	tree.cfg.Pods = Resources{CPUShares: 1536, Memory: 1 << 30, PIDs: 500}
	if err := tree.Open(); err != nil {
		t.Fatal(err)
	}
	if have, err := tree.Actual(tree.KubepodsPath()); err != nil || !have.Has(tree.cfg.Pods) {
		t.Errorf("all pods have %+v, %v", have, err)
	}
	tree.cfg.Pods = Resources{PIDs: 400}
	why := errors.New("in use")
	tree.late.Store(&why) // as if it could not be done
	if err := tree.SetQoS(QoS{BurstableMilli: 700}); err != nil {
		t.Fatal(err)
	}
	if tree.Bound() != nil {
		t.Error("the limits of all pods were not tried again")
	}
	if have, err := tree.Actual(tree.qosPath(corev1.PodQOSBurstable)); err != nil || have.CPURequest(0) != 700 {
		t.Errorf("burstable pods weigh %+v, %v", have, err)
	}
}

func TestTree(t *testing.T) {
	tree := newTree(t)
	ctx := context.Background()
	res := Limits(250, 500, 64<<20)
	res.PIDs = 100
	for range 2 {
		if _, err := tree.CreatePod(corev1.PodQOSBurstable, "one", res); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tree.CreatePod(corev1.PodQOSGuaranteed, "two", Resources{}); err != nil {
		t.Fatal(err)
	}
	path, err := tree.CreatePod(corev1.PodQOSBestEffort, "three", Resources{})
	if err != nil || path != tree.PodPath("", "three") || !strings.HasSuffix(path, "/kubepods/besteffort/podthree") {
		t.Fatalf("path %s, %v", path, err)
	}
	uids, err := tree.PodUIDs()
	slices.Sort(uids)
	if err != nil || !slices.Equal(uids, []string{"one", "three", "two"}) {
		t.Fatalf("pods %v, %v", uids, err)
	}
	one := tree.PodPath(corev1.PodQOSBurstable, "one")
	stats, err := tree.Stats(one)
	if err != nil || stats.MemoryLimit != 64<<20 || stats.PIDs != 0 {
		t.Fatalf("stats %+v, %v", stats, err)
	}
	if have, err := tree.Actual(one); err != nil || !have.Has(res) || have.CPURequest(250) != 250 || have.CPURequest(1) != 250 || have.CPULimit(0) != 500 ||
		have.MemoryLimit(64<<20+1) != 64<<20+1 || have.Has(Resources{Memory: -1}) || have.Has(Limits(260, 0, 0)) {
		t.Fatalf("the group has %+v, %v", have, err)
	}
	if have, err := tree.Actual(tree.PodPath(corev1.PodQOSGuaranteed, "two")); err != nil || have.Memory != -1 || have.CPULimit(500) != 0 {
		t.Fatalf("the group without limits has %+v, %v", have, err)
	}
	// Up and down again: on v1 the limit with swap must move in step.
	for _, memory := range []int64{128 << 20, 32 << 20, -1} {
		if err := tree.Update(one, Resources{Memory: memory}); err != nil {
			t.Fatal(err)
		}
		stats, err := tree.Stats(one)
		if err != nil || int64(stats.MemoryLimit) != max(memory, 0) {
			t.Fatalf("after update to %d: %+v, %v", memory, stats, err)
		}
	}
	if err := tree.SetQoS(QoS{BurstableMilli: 2000}); err != nil {
		t.Fatal(err)
	}

	// A process that nobody stopped, in a group below the pod's, ends with it.
	left := sleeper(t)
	l, err := tree.layout()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.create(one + "/container"); err != nil {
		t.Fatal(err)
	}
	if err := tree.join(one+"/container", left); err != nil {
		t.Fatal(err)
	}
	if pids, err := tree.PIDs(one); err != nil || !slices.Equal(pids, []int{left}) {
		t.Fatalf("processes %v, %v", pids, err)
	}
	for range 2 {
		if err := tree.RemovePod(ctx, "one"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tree.Stats(one); !errors.Is(err, ErrNotFound) {
		t.Errorf("stats of a removed group: %v", err)
	}
	if _, err := tree.Actual(one); !errors.Is(err, ErrNotFound) {
		t.Errorf("limits of a removed group: %v", err)
	}
	if _, err := tree.PIDs(one); !errors.Is(err, ErrNotFound) {
		t.Errorf("processes of a removed group: %v", err)
	}
	if err := tree.Update(one, res); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of a removed group: %v", err)
	}
	if err := tree.Remove(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestV2Files checks what is written on a v2 machine, in a folder that only looks like one: the machine at hand may be v1.
func TestV2Files(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{
		"cgroup.controllers": "cpuset cpu io memory pids", "cgroup.subtree_control": "", "cpu.weight": "", "cpu.max": "", "memory.max": "max", "pids.max": "",
		"memory.min": "0", "memory.low": "0", "memory.high": "max", "memory.swap.max": "max", "hugetlb.2MB.max": "max", "hugetlb.2MB.rsvd.max": "max",
		"cpu.stat": "usage_usec 5\nuser_usec 3\n", "memory.current": "1000", "memory.stat": "anon 10\ninactive_file 400\npgfault 3\npgmajfault 1\n",
		"memory.events": "oom 2\noom_kill 1\n", "pids.current": "4",
	}
	dir := filepath.Join(root, "a", "b")
	for _, d := range []string{root, filepath.Join(root, "a"), dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	l := v2{root: root}
	if err := l.create("/a/b"); err != nil {
		t.Fatal(err)
	}
	if err := l.set("/a/b", Resources{CPUShares: 1024, CPUQuota: -1, CPUPeriod: 100_000, Memory: 4096, PIDs: -1,
		MemoryMin: 8192, MemoryLow: -1, MemoryHigh: 12288, NoSwap: true, HugePages: map[int64]int64{2 << 20: 4 << 20, 1 << 30: 0}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"cpu.weight": "39", "cpu.max": "max 100000", "memory.max": "4096", "pids.max": "max", "memory.min": "8192",
		"memory.low": "0", "memory.high": "12288", "memory.swap.max": "0", "hugetlb.2MB.max": "4194304", "hugetlb.2MB.rsvd.max": "4194304"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	have, err := l.actual("/a/b")
	if err != nil || !have.Has(Resources{CPUShares: 1024, CPUQuota: -1, CPUPeriod: 100_000, Memory: 4096}) || have.CPURequest(1000) != 1000 ||
		have.CPULimit(0) != 0 || have.MemoryLimit(0) != 4096 {
		t.Errorf("the group has %+v, %v", have, err)
	}
	if err := l.set("/a/b", Resources{CPUQuota: 25_000, CPUPeriod: 50_000}); err != nil {
		t.Fatal(err)
	}
	if have, err := l.actual("/a/b"); err != nil || have.CPULimit(500) != 500 || have.CPULimit(7) != 500 {
		t.Errorf("with a quota the group has %+v, %v", have, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte("max\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := l.stats("/a/b")
	if err != nil || s.MemoryUsage != 1000 || s.WorkingSet != 600 || s.OOMKills != 1 || s.MemoryLimit != 0 || s.CPU != 5000 || s.RSS != 10 {
		t.Errorf("stats %+v, %v", s, err)
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu pids"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.create("/a/b"); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("without a memory controller: %v", err)
	}
}
