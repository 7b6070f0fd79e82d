package job

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestIndexes(t *testing.T) {
	for name, tc := range map[string]struct {
		text    string
		limit   int
		want    string
		missing []int // of the first that are
	}{
		"none":                 {"", 3, "", []int{0, 1, 2}},
		"one":                  {"1", 3, "1", []int{0, 2}},
		"neighbours":           {"0,1", 4, "0,1", []int{2, 3}},
		"two as a range":       {"0-1", 4, "0,1", []int{2, 3}},
		"three":                {"1-3", 5, "1-3", []int{0, 4}},
		"touching ranges join": {"0-2,3,4-5", 8, "0-5", []int{6, 7}},
		"all":                  {"0-4", 5, "0-4", nil},
		"mixed":                {"0,2-5,9", 11, "0,2-5,9", []int{1, 6, 7, 8, 10}},
		"beyond the limit":     {"0,2-5,9", 4, "0,2,3", []int{1}},
		"all beyond the limit": {"5-9", 2, "", []int{0, 1}},
		"nobody wrote this":    {"0,x,2-y,4", 5, "0,4", []int{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			x := parseIndexes(tc.text, tc.limit)
			if x.String() != tc.want {
				t.Errorf("%q, want %q", x, tc.want)
			}
			if got := slices.Collect(x.missing(tc.limit)); !slices.Equal(got, tc.missing) {
				t.Errorf("missing %v, want %v", got, tc.missing)
			}
		})
	}
}

// TestIndexesAgainstLists holds sets against lists of what is in them.
func TestIndexesAgainstLists(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		limit := 1 + rnd.IntN(30)
		var a, b []int
		in := map[int]int{}
		for i := range limit {
			if rnd.IntN(2) == 0 {
				a = append(a, i)
				in[i]++
			}
			if rnd.IntN(3) == 0 {
				b = append(b, i)
				in[i]++
			}
		}
		x, y := indexesOf(a), indexesOf(b)
		u := x.union(y)
		both := 0
		for i := range limit {
			if u.has(i) != (in[i] > 0) {
				t.Fatalf("%v and %v: union %q", a, b, u)
			}
			if in[i] == 2 {
				both++
			}
		}
		if u.count() != len(in) || x.common(y) != both || y.common(x) != both || parseIndexes(u.String(), limit).String() != u.String() || u.has(-1) || u.has(limit) {
			t.Fatalf("%v and %v: union %q of %d, %d in common", a, b, u, u.count(), x.common(y))
		}
	}
}
