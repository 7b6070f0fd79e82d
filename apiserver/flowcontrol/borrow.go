package flowcontrol

import "math"

// wish is what a level has and would have, in seats.
type wish struct {
	lower, upper float64
	target       float64
}

// lend divides seats so that every level has a part of its target that is the same for all, as far as its bounds allow
// (KEP-1040, «seat borrowing»): the limits, and that part. When the lower bounds together are more than there is, they are what all get.
func lend(seats int, wishes []wish) ([]int, float64) {
	given := func(part float64) (sum float64) {
		for _, w := range wishes {
			sum += w.at(part)
		}
		return sum
	}
	// The sum grows with the part: look for the part by halves, from one that is surely enough.
	low, high := 0.0, 1.0
	for high < 1<<40 && given(high) < float64(seats) {
		high *= 2
	}
	for range 64 {
		if middle := (low + high) / 2; given(middle) <= float64(seats) {
			low = middle
		} else {
			high = middle
		}
	}
	limits := make([]int, len(wishes))
	for i, w := range wishes {
		limits[i] = int(math.Round(w.at(low)))
	}
	return limits, low
}

func (w wish) at(part float64) float64 { return max(w.lower, min(w.upper, part*w.target)) }
