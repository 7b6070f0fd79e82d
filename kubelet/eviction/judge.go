package eviction

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// level is how much is left of something, and how much there is.
type level struct{ left, all uint64 }

// sight is what was seen of the machine; a signal that is missing could not be read, or has no meaning here.
type sight map[Signal]level

// shortage is a threshold that was crossed, as far as to do something.
type shortage struct {
	threshold Threshold
	want      int64 // at least so much should be left
	left      int64
}

// judge remembers what was short and since when. Pure but for that: time and sights are given.
type judge struct {
	thresholds []Threshold
	lasts      time.Duration                          // how long pressure is told after it is over
	since      map[int]time.Time                      // by place in thresholds: when it was first crossed; those that are not, are missing
	told       map[corev1.NodeConditionType]time.Time // when pressure was seen last
}

func newJudge(thresholds []Threshold, lasts time.Duration) *judge {
	return &judge{thresholds: thresholds, lasts: lasts, since: map[int]time.Time{}, told: map[corev1.NodeConditionType]time.Time{}}
}

// look takes in a sight. It says what is under pressure, and which shortages have lasted long enough to end pods for, the most urgent first. A
// threshold that was crossed is over when its minimum reclaim is free too.
func (j *judge) look(now time.Time, s sight) (pressure map[corev1.NodeConditionType]bool, due []shortage) {
	pressure = map[corev1.NodeConditionType]bool{}
	for i, t := range j.thresholds {
		l, seen := s[t.Signal]
		if !seen {
			delete(j.since, i)
			continue
		}
		want := t.Value.of(l.all)
		enough := want
		if _, was := j.since[i]; was {
			enough += t.Reclaim.of(l.all)
		}
		if int64(l.left) >= enough {
			delete(j.since, i)
			continue
		}
		if _, was := j.since[i]; !was {
			j.since[i] = now
		}
		j.told[t.Signal.condition()] = now
		pressure[t.Signal.condition()] = true
		if now.Sub(j.since[i]) >= t.Grace {
			due = append(due, shortage{t, want, int64(l.left)})
		}
	}
	for kind, at := range j.told {
		if !pressure[kind] && now.Sub(at) < j.lasts {
			pressure[kind] = true
		}
	}
	slices.SortStableFunc(due, func(a, b shortage) int {
		if a.threshold.Signal.resource() != b.threshold.Signal.resource() {
			return cmp.Compare(place(a.threshold.Signal), place(b.threshold.Signal))
		}
		if a.threshold.Hard != b.threshold.Hard { // the hard ones of a resource come first
			if a.threshold.Hard {
				return -1
			}
			return 1
		}
		return cmp.Compare(place(a.threshold.Signal), place(b.threshold.Signal))
	})
	return pressure, due
}
