package pods

import "time"

// moments are points in time that others wrote down by the wall clock (containerd, the API), held by this process's own clock from when they were first
// seen: whoever sets the machine's clock afterwards, forward or back, neither hastens nor delays a back-off or a deadline. A moment reads as the wall time
// it was; only one that would lie in the future, since the clock was set back before it was seen, is taken for now.
type moments map[string]time.Time

// hold gives the moment of that name the process's clock. now is time.Now(), with its monotonic reading.
func (m moments) hold(name string, wall, now time.Time) time.Time {
	if wall.IsZero() {
		return wall
	}
	if held, ok := m[name]; ok {
		return held
	}
	age := max(now.Round(0).Sub(wall.Round(0)), 0) // Round(0) leaves the wall clock alone
	m[name] = now.Add(-age)
	return m[name]
}
