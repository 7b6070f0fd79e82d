package cgroups

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"go.uber.org/zap"
)

// files writes a tree as the kernel would show it.
func files(t *testing.T, root string, all map[string]string) {
	t.Helper()
	for name, text := range all {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDetailV1(t *testing.T) {
	root := t.TempDir()
	for _, c := range []string{"cpu", "cpuacct", "memory", "pids", "blkio"} {
		files(t, root, map[string]string{c + "/cgroup.procs": ""})
	}
	files(t, root, map[string]string{
		"cpuacct/p/cpuacct.usage": "5000000000\n", "cpuacct/p/cpuacct.stat": "user 300\nsystem 150\n",
		"cpu/p/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 2000000000\nwait_sum 7\n", "cpu/p/cpu.shares": "512\n", "cpu/p/cpu.cfs_quota_us": "-1\n", "cpu/p/cpu.cfs_period_us": "100000\n",
		"memory/p/memory.stat":           "cache 1\nrss 2\ntotal_cache 1000\ntotal_rss 2000\ntotal_mapped_file 30\ntotal_swap 4\ntotal_pgfault 50\ntotal_pgmajfault 6\ntotal_inactive_file 700\ntotal_active_file 80\n",
		"memory/p/memory.usage_in_bytes": "3000\n", "memory/p/memory.max_usage_in_bytes": "4000\n", "memory/p/memory.failcnt": "2\n", "memory/p/memory.limit_in_bytes": "8000\n",
		"memory/p/memory.memsw.limit_in_bytes": "9223372036854771712\n", "memory/p/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
		"pids/p/pids.current": "7\n", "pids/p/pids.max": "max\n", "pids/p/cgroup.procs": "11\n12\n",
		"blkio/p/blkio.throttle.io_service_bytes_recursive": "8:0 Read 100\n8:0 Write 200\n8:0 Sync 1\n8:0 Total 300\n8:16 Read 5\nTotal 305\n",
		"blkio/p/blkio.throttle.io_serviced_recursive":      "8:0 Read 3\n8:0 Write 4\nTotal 7\n",
	})
	var got []Detail
	err := New(Config{MountPoint: root}, zap.NewNop()).Details([]string{"/p", "/gone"}, func(i int, d *Detail, err error) {
		if i == 1 && !errors.Is(err, ErrNotFound) {
			t.Errorf("a group that is not there: %v", err)
		}
		if i == 0 && err != nil {
			t.Error(err)
		}
		d.Time = time.Time{}
		if i == 0 {
			d.Disks, d.Processes = append([]DiskIO(nil), d.Disks...), append([]int(nil), d.Processes...)
			got = append(got, *d)
		}
	})
	want := Detail{
		Stats: Stats{CPU: 5 * time.Second, MemoryUsage: 3000, WorkingSet: 2300, RSS: 2000, MemoryLimit: 8000, PageFaults: 50, MajorPageFaults: 6, PIDs: 7, OOMKills: 3},
		User:  3 * time.Second, System: 1500 * time.Millisecond, Periods: 10, Throttled: 4, ThrottledFor: 2 * time.Second, Shares: 512, Period: 100000,
		Cache: 1000, Mapped: 30, Swap: 4, ActiveFile: 80, InactiveFile: 700, MaxUsage: 4000, FailCount: 2, Processes: []int{11, 12},
		Disks: []DiskIO{{Major: 8, Minor: 0, ReadBytes: 100, WriteBytes: 200, Reads: 3, Writes: 4}, {Major: 8, Minor: 16, ReadBytes: 5}},
	}
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestDetailV2(t *testing.T) {
	root := t.TempDir()
	files(t, root, map[string]string{
		"p/cpu.stat": "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 500000\n", "p/cpu.max": "50000 100000\n", "p/cpu.weight": "100\n",
		"p/memory.stat": "anon 2000\nfile 1000\nkernel 9\nfile_mapped 30\ninactive_file 700\nactive_file 80\npgfault 50\npgmajfault 6\n", "p/memory.current": "3000\n", "p/memory.peak": "4000\n",
		"p/memory.max": "max\n", "p/memory.low": "0\n", "p/memory.swap.current": "4\n", "p/memory.swap.max": "0\n", "p/memory.events": "low 0\nhigh 0\nmax 2\noom 1\noom_kill 3\n",
		"p/pids.current": "7\n", "p/pids.max": "100\n", "p/cgroup.procs": "11\n", "p/io.stat": "8:0 rbytes=100 wbytes=200 rios=3 wios=4 dbytes=0 dios=0\n",
		"p/cpu.pressure": "some avg10=1.50 avg60=0.20 avg300=0.00 total=3000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n",
	})
	var d Detail
	if err := (v2{root: root}).detail("/p", &d, &glass{buf: make([]byte, 4096)}); err != nil {
		t.Fatal(err)
	}
	want := Detail{
		Stats: Stats{CPU: 5 * time.Second, MemoryUsage: 3000, WorkingSet: 2300, RSS: 2000, PageFaults: 50, MajorPageFaults: 6, PIDs: 7, OOMKills: 3},
		User:  3 * time.Second, System: 2 * time.Second, Periods: 10, Throttled: 4, ThrottledFor: 500 * time.Millisecond, Shares: sharesFromWeight(100), Quota: 50000, Period: 100000,
		Cache: 1000, Mapped: 30, Swap: 4, Kernel: 9, ActiveFile: 80, InactiveFile: 700, MaxUsage: 4000, FailCount: 2, PIDLimit: 100, Processes: []int{11},
		Disks:       []DiskIO{{Major: 8, ReadBytes: 100, WriteBytes: 200, Reads: 3, Writes: 4}},
		CPUPressure: &Pressure{Some: Stall{Total: 3 * time.Second, Avg10: 1.5, Avg60: .2}, Full: Stall{Total: time.Second}},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v, want %+v", d, want)
	}
	if err := (v2{root: root}).detail("/none", &d, &glass{buf: make([]byte, 64)}); !errors.Is(gone(err), ErrNotFound) {
		t.Errorf("a group that is not there: %v", err)
	}
}
