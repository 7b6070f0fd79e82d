package cgroups

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestArithmetic(t *testing.T) {
	for milli, want := range map[int64]uint64{-5: 2, 0: 2, 1: 2, 2: 2, 100: 102, 250: 256, 1000: 1024, 64000: 65536, 10_000_000: 262144, math.MaxInt64: 262144, math.MaxInt64/1024 + 2: 262144} {
		if got := SharesFromMilli(milli); got != want {
			t.Errorf("shares of %dm: got %d, want %d", milli, got, want)
		}
	}
	for milli, want := range map[int64]int64{-1: -1, 0: -1, 1: 1000, 5: 1000, 10: 1000, 11: 1100, 500: 50_000, 2500: 250_000, 1e15: 1<<44 - 1, math.MaxInt64: 1<<44 - 1} {
		if got, period := QuotaFromMilli(milli); got != want || period != 100_000 {
			t.Errorf("quota of %dm: got %d of %d, want %d", milli, got, period, want)
		}
	}
	if got := Limits(0, math.MaxInt64, 0).WithPeriod(1_000_000); got.CPUQuota != 1<<44-1 {
		t.Errorf("a huge limit over another period is %d", got.CPUQuota)
	}
	for shares, want := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 1024: 39, 262144: 10000, 999999: 10000} {
		if got := weightFromShares(shares); got != want {
			t.Errorf("weight of %d: got %d, want %d", shares, got, want)
		}
	}
	for name, c := range map[string]struct {
		request, limit, memory int64
		want                   Resources
	}{
		"nothing":         {0, 0, 0, Resources{CPUShares: 2, CPUQuota: -1, CPUPeriod: 100_000}},
		"request":         {500, 0, 0, Resources{CPUShares: 512, CPUQuota: -1, CPUPeriod: 100_000}},
		"limit only":      {0, 500, 1 << 20, Resources{CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000, Memory: 1 << 20}},
		"both":            {100, 200, 0, Resources{CPUShares: 102, CPUQuota: 20_000, CPUPeriod: 100_000}},
		"memory only":     {0, 0, 7, Resources{CPUShares: 2, CPUQuota: -1, CPUPeriod: 100_000, Memory: 7}},
		"memory negative": {0, 0, -7, Resources{CPUShares: 2, CPUQuota: -1, CPUPeriod: 100_000}},
	} {
		if got := Limits(c.request, c.limit, c.memory); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// TestHugeMemory: a limit that the kernel writes as none is still the limit that was told.
func TestHugeMemory(t *testing.T) {
	for told, want := range map[int64]int64{0: 0, 1 << 30: 0, math.MaxInt64: math.MaxInt64} {
		if got := (Actual{Memory: -1}).MemoryLimit(told); got != want {
			t.Errorf("a limit of %d reads as %d, want %d", told, got, want)
		}
	}
}

func TestParseTable(t *testing.T) {
	got := parseTable("anon 4096\nfile 12\nbad line here\nnonsense x\n\noom_kill 3")
	if len(got) != 3 || got["anon"] != 4096 || got["oom_kill"] != 3 {
		t.Fatalf("got %v", got)
	}
}

// TestBack: what is written for a request or limit reads as that request or limit again.
func TestBack(t *testing.T) {
	for milli := int64(2); milli < 5000; milli++ {
		shares := SharesFromMilli(milli)
		if got := milliFromShares(shares); got != milli {
			t.Fatalf("%dm are %d shares, which are %dm", milli, shares, got)
		}
	}
	for weight := uint64(1); weight <= 10000; weight++ {
		if got := weightFromShares(sharesFromWeight(weight)); got != weight && got+1 != weight {
			t.Fatalf("weight %d is %d shares, which are weight %d", weight, sharesFromWeight(weight), got)
		}
	}
	for shares, want := range map[uint64]uint64{2: 1, 1024: 100, 262144: 10000, 102: 17} {
		if got := bentWeight(shares); got != want {
			t.Errorf("%d shares: weight %d, want %d", shares, got, want)
		}
	}
	for name, c := range map[string]struct {
		have    Actual
		request [2]int64 // told, want
		limit   [2]int64
		memory  [2]int64
	}{
		"as told":            {Actual{Shares: 102, CPUQuota: 20_000, CPUPeriod: 100_000, Memory: 4096}, [2]int64{100, 100}, [2]int64{200, 200}, [2]int64{5000, 5000}},
		"other":              {Actual{Shares: 512, CPUQuota: 20_000, CPUPeriod: 100_000, Memory: 8192}, [2]int64{100, 500}, [2]int64{300, 200}, [2]int64{5000, 8192}},
		"none":               {Actual{Shares: 2, CPUQuota: -1, CPUPeriod: 100_000, Memory: -1}, [2]int64{0, 0}, [2]int64{300, 0}, [2]int64{5000, 0}},
		"below the least":    {Actual{Shares: 2, CPUQuota: 1000, CPUPeriod: 100_000, Memory: -1}, [2]int64{1, 1}, [2]int64{5, 5}, [2]int64{0, 0}},
		"another period":     {Actual{Shares: 2, CPUQuota: 2500, CPUPeriod: 5_000, Memory: -1}, [2]int64{1, 1}, [2]int64{500, 500}, [2]int64{0, 0}},
		"weight, straight":   {Actual{Weight: 39, CPUQuota: -1, CPUPeriod: 100_000, Memory: -1}, [2]int64{1000, 1000}, [2]int64{0, 0}, [2]int64{0, 0}},
		"weight, bent":       {Actual{Weight: 100, CPUQuota: -1, CPUPeriod: 100_000, Memory: -1}, [2]int64{1000, 1000}, [2]int64{0, 0}, [2]int64{0, 0}},
		"weight, of another": {Actual{Weight: 200, CPUQuota: -1, CPUPeriod: 100_000, Memory: -1}, [2]int64{1000, 5097}, [2]int64{0, 0}, [2]int64{0, 0}},
	} {
		if got := c.have.CPURequest(c.request[0]); got != c.request[1] {
			t.Errorf("%s: request %d, want %d", name, got, c.request[1])
		}
		if got := c.have.CPULimit(c.limit[0]); got != c.limit[1] {
			t.Errorf("%s: limit %d, want %d", name, got, c.limit[1])
		}
		if got := c.have.MemoryLimit(c.memory[0]); got != c.memory[1] {
			t.Errorf("%s: memory %d, want %d", name, got, c.memory[1])
		}
	}
}

func TestMemoryHigh(t *testing.T) {
	const page = 4096
	for name, c := range map[string]struct {
		request, limit, allocatable int64
		factor                      float64
		want                        int64
	}{
		"off":               {page, 10 * page, 100 * page, 0, 0},
		"between":           {10 * page, 110 * page, 1000 * page, 0.9, 100 * page},
		"whole pages":       {10*page + 7, 110 * page, 1000 * page, 0.5, 60 * page},
		"guaranteed":        {10 * page, 10 * page, 1000 * page, 0.9, 0},
		"no limit":          {10 * page, 0, 110 * page, 0.9, 100 * page},
		"nothing asked for": {0, 0, 100 * page, 0.5, 50 * page},
		"too close":         {10 * page, 10*page + 100, 1000 * page, 0.9, 0},
		"node not known":    {10 * page, 0, 0, 0.9, 0},
	} {
		if got := MemoryHigh(c.request, c.limit, c.allocatable, c.factor, page); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	for micros, want := range map[uint64]int64{0: 50_000, 100_000: 50_000, 10_000: 5_000, 1_000: 1_000} {
		if got := Limits(0, 500, 0).WithPeriod(micros); got.CPUQuota != want {
			t.Errorf("500m over %d: %+v", micros, got)
		}
	}
	if got := Limits(5, 0, 0).WithPeriod(10_000); got.CPUQuota != -1 || got.CPUPeriod != 10_000 {
		t.Errorf("no limit over another period: %+v", got)
	}
}

func TestHugePages(t *testing.T) {
	root := t.TempDir()
	for dir, count := range map[string]string{"hugepages-2048kB": "5\n", "hugepages-1048576kB": "0\n", "other": "9\n"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "nr_hugepages"), []byte(count), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := hugePages(root)
	if err != nil || !maps.Equal(got, map[int64]int64{2 << 20: 5, 1 << 30: 0}) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := hugePages(filepath.Join(root, "none")); err != nil || len(got) != 0 {
		t.Errorf("a machine without: %v, %v", got, err)
	}
	for size, want := range map[int64]string{64 << 10: "64KB", 2 << 20: "2MB", 1 << 30: "1GB"} {
		if got := PageName(size); got != want {
			t.Errorf("%d: %s, want %s", size, got, want)
		}
	}
}
