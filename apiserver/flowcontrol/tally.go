package flowcontrol

// tally counts the requests of one schema in one level. Guarded by the level's mu: counting costs nothing beside the seat itself,
// and the collector reads it when somebody scrapes.
type tally struct {
	dispatched                          int
	refused                             map[string]int // by reason
	inQueue, inQueueSeats               int
	running, runningSeats               int
	waitedToRun, waitedForNothing, took histogram
}

func (l *level) tally(schema string) *tally {
	y := l.tallies[schema]
	if y == nil {
		y = &tally{}
		l.tallies[schema] = y
	}
	return y
}

func (y *tally) run(seats int, waited float64) {
	y.dispatched++
	y.running++
	y.runningSeats += seats
	y.waitedToRun.add(waited)
}

func (y *tally) refuse(reason string, waited float64) {
	if y.refused == nil {
		y.refused = map[string]int{}
	}
	y.refused[reason]++
	y.waitedForNothing.add(waited)
}

// steps are the upper bounds of a histogram's buckets, in seconds.
var steps = [...]float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}

type histogram struct {
	counts [len(steps)]uint64 // not cumulated; what is above the last step is in all only
	all    uint64
	sum    float64
}

func (h *histogram) add(v float64) {
	h.all++
	h.sum += v
	for i, step := range steps {
		if v <= step {
			h.counts[i]++
			return
		}
	}
}

// buckets are the cumulated counts.
func (h *histogram) buckets() map[float64]uint64 {
	out := make(map[float64]uint64, len(steps))
	var sum uint64
	for i, step := range steps {
		sum += h.counts[i]
		out[step] = sum
	}
	return out
}
