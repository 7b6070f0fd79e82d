package bootstrap

import (
	"testing"
	"time"
)

func TestTracked(t *testing.T) {
	now := time.Date(2030, 5, 6, 23, 0, 0, 0, time.FixedZone("west", -4*3600))
	if got := tracked(map[string]string{trackingSince: "2029-01-02"}, now); got != nil {
		t.Errorf("a day is replaced by %v", got)
	}
	for _, have := range []map[string]string{nil, {}, {trackingSince: "odd"}} {
		if got := tracked(have, now); len(got) != 1 || got[trackingSince] != "2030-05-07" {
			t.Errorf("%v becomes %v", have, got)
		}
	}
}
