package flowcontrol

import (
	"math"
	"time"
)

// demand is how many seats a level would have used if it had had them, over a period. Not safe for concurrent use.
type demand struct {
	since, last time.Duration
	now, most   float64
	area, sq    float64 // integrals of the demand and of its square, in seconds
}

// set notes that from now on it is seats.
func (d *demand) set(now time.Duration, seats int) {
	d.pass(now)
	d.now = float64(seats)
	d.most = max(d.most, d.now)
}

func (d *demand) pass(now time.Duration) {
	if dt := (now - d.last).Seconds(); dt > 0 {
		d.area += d.now * dt
		d.sq += d.now * d.now * dt
		d.last = now
	}
}

// seen is what a period was like.
type seen struct{ most, mean, deviation float64 }

// end ends the period and begins the next.
func (d *demand) end(now time.Duration) seen {
	d.pass(now)
	s := seen{most: d.most, mean: d.now}
	if dt := (now - d.since).Seconds(); dt > 0 {
		s.mean = d.area / dt
		s.deviation = math.Sqrt(max(d.sq/dt-s.mean*s.mean, 0))
	}
	*d = demand{since: now, last: now, now: d.now, most: d.now}
	return s
}

// calming is how much of a demand that has gone is still believed a period later: half of it after five minutes.
const calming = 0.977

// smooth takes a new period into account: what goes up is believed at once, what goes down slowly
// (KEP-1040, «seat borrowing»).
func (s seen) smooth(before float64) float64 {
	envelope := min(s.mean+s.deviation, s.most)
	return max(envelope, calming*before+(1-calming)*envelope)
}
