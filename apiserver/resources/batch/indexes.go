package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// indexes is a set of indexes of a job as its text says it: "1,3-5,7", in growing order.
type indexes []span

type span struct{ first, last int32 }

// parseIndexes reads the text of a set of indexes below limit. What it returns beside an error is what it could read.
func parseIndexes(text string, limit int32) (indexes, error) {
	if text == "" {
		return nil, nil
	}
	var all indexes
	for part := range strings.SplitSeq(text, ",") {
		s, err := parseSpan(part, limit)
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && all[n-1].last >= s.first {
			return nil, fmt.Errorf("non-increasing order, previous: %d, current: %d", all[n-1].last, s.first)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseSpan(text string, limit int32) (span, error) {
	parts := strings.Split(text, "-")
	if len(parts) > 2 {
		return span{}, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	var ends [2]int32
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil {
			return span{}, fmt.Errorf("cannot convert string to integer for index: %q", p)
		}
		if n >= int(limit) {
			return span{}, fmt.Errorf("too large index: %q", p)
		}
		ends[i] = int32(n)
	}
	if len(parts) == 1 {
		return span{ends[0], ends[0]}, nil
	}
	if ends[0] >= ends[1] {
		return span{}, fmt.Errorf("non-increasing order, previous: %d, current: %d", ends[0], ends[1])
	}
	return span{ends[0], ends[1]}, nil
}

func (x indexes) count() int32 {
	var n int32
	for _, s := range x {
		n += s.last - s.first + 1
	}
	return n
}

// shared finds the first index that is in both sets.
func (x indexes) shared(y indexes) (int32, bool) {
	for len(x) > 0 && len(y) > 0 {
		a, b := x[0], y[0]
		switch {
		case a.last < b.first:
			x = x[1:]
		case b.last < a.first:
			y = y[1:]
		default:
			return max(a.first, b.first), true
		}
	}
	return 0, false
}
