package objects

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// rest is how long an object is followed after its last pod: where pods come and go, the next that wants it is near, and starts without asking
	// the API.
	rest = 2 * time.Minute
	// mostIdle is how many are followed so, at most.
	mostIdle = 256
)

// retireLocked ends the following of what no pod wants any more: after a rest, and at once of what is secret or cannot be told any more. It
// says when to call it again; the zero time is never.
func (s *Store) retireLocked(now time.Time) (next time.Time) {
	wanted := map[Key]bool{}
	for _, refs := range s.pods {
		for key := range refs {
			wanted[key] = true
		}
	}
	for key, sl := range s.slots {
		if wanted[key] {
			continue
		}
		if _, rests := s.idle[key]; !rests {
			s.idle[key] = now
		}
		if key.Kind == Secret || now.Sub(s.idle[key]) >= s.rest || !sl.tells() {
			s.endLocked(key)
		}
	}
	oldest := slices.SortedFunc(maps.Keys(s.idle), func(a, b Key) int {
		return cmp.Or(s.idle[a].Compare(s.idle[b]), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Signer, b.Signer))
	})
	for len(oldest) > mostIdle {
		s.endLocked(oldest[0])
		oldest = oldest[1:]
	}
	if len(oldest) == 0 {
		return time.Time{}
	}
	return s.idle[oldest[0]].Add(s.rest)
}

func (s *Store) endLocked(key Key) {
	s.slots[key].end()
	delete(s.slots, key)
	delete(s.idle, key)
}
