package flowcontrol

// Limits bound the requests in flight, with no regard to whose they are: what there is when priority and fairness is turned off. Safe for
// concurrent use.
type Limits struct{ reading, changing chan struct{} }

// newLimits makes Limits of so many reading and changing requests; 0 bounds nothing.
func newLimits(reading, changing int) *Limits {
	room := func(n int) chan struct{} {
		if n <= 0 {
			return nil
		}
		return make(chan struct{}, n)
	}
	return &Limits{room(reading), room(changing)}
}

// Enter says whether there is room for one more; leave is then to be called when it is over.
func (l *Limits) Enter(changes bool) (leave func(), ok bool) {
	room := l.reading
	if changes {
		room = l.changing
	}
	if room == nil {
		return func() {}, true
	}
	select {
	case room <- struct{}{}:
		return func() { <-room }, true
	default:
		return nil, false
	}
}
