package cgroups

import "testing"

func TestArithmetic(t *testing.T) {
	for milli, want := range map[int64]uint64{-5: 2, 0: 2, 1: 2, 2: 2, 100: 102, 250: 256, 1000: 1024, 64000: 65536, 10_000_000: 262144} {
		if got := SharesFromMilli(milli); got != want {
			t.Errorf("shares of %dm: got %d, want %d", milli, got, want)
		}
	}
	for milli, want := range map[int64]int64{-1: -1, 0: -1, 1: 1000, 5: 1000, 10: 1000, 11: 1100, 500: 50_000, 2500: 250_000} {
		if got, period := QuotaFromMilli(milli); got != want || period != 100_000 {
			t.Errorf("quota of %dm: got %d of %d, want %d", milli, got, period, want)
		}
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
		if got := Limits(c.request, c.limit, c.memory); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestParseTable(t *testing.T) {
	got := parseTable("anon 4096\nfile 12\nbad line here\nnonsense x\n\noom_kill 3")
	if len(got) != 3 || got["anon"] != 4096 || got["oom_kill"] != 3 {
		t.Fatalf("got %v", got)
	}
}
