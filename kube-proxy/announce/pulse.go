package announce

import (
	"time"
)

// pulses are the renewals of nodes' Leases as this node saw them. All times are by its own clock, taken when it saw them, so
// clocks need not agree.
//
// A node is silent when for half the time that its Lease lasts no renewal was seen, while this node's own Lease was; or if one is
// overdue (a Lease lasts four renewals), and nobody answers for the node's address any more. For the Lease's whole time it is
// the controller manager's to say so. While not even the own Lease is seen renewed, this node is deaf:
// the API server is away or out of reach, or takes no writes, or the kubelet here is dead. It then judges nobody, and for a
// moment after it hears again it only listens, for others have to find back as well.
type pulses struct {
	me   string
	seen map[string]*pulse
	deaf bool
}

// pulse is one node's.
type pulse struct {
	renewed time.Time     // as the Lease has it: only whether it changed matters
	at      time.Time     // when that was seen; later after deafness
	span    time.Duration // how long the Lease lasts
	lost    bool          // confirmed to be silent
}

func newPulses(me string) *pulses { return &pulses{me: me, seen: map[string]*pulse{}} }

// patience is how long a node may be silent.
func (p *pulse) patience() time.Duration { return p.span / 2 }

// punctual is how long after one renewal the next is not overdue.
func (p *pulse) punctual() time.Duration { return p.span * 5 / 16 }

// heard notes what a Lease shows, and says whether that may change a judgement: the first of a node, or the first after silence.
func (p *pulses) heard(name string, renewed time.Time, span time.Duration, now time.Time) bool {
	have := p.seen[name]
	if have == nil {
		p.seen[name] = &pulse{renewed: renewed, at: now, span: span}
		return true
	}
	have.span = span
	if have.renewed.Equal(renewed) {
		return false
	}
	was := have.lost
	have.renewed, have.lost = renewed, false
	if now.After(have.at) {
		have.at = now
	}
	return was || name == p.me && p.deaf
}

// forget drops what is known of a node that is not listened to any more.
func (p *pulses) forget(name string) { delete(p.seen, name) }

// listen says whether this node is deaf now. Coming out of it, everybody gets his Lease's whole time from here on.
func (p *pulses) listen(now time.Time) bool {
	own := p.seen[p.me]
	deaf := own != nil && now.Sub(own.at) >= own.patience()
	if p.deaf && !deaf {
		for name, other := range p.seen {
			if later := now.Add(other.span - other.patience()); name != p.me && later.After(other.at) {
				other.at = later
			}
		}
	}
	p.deaf = deaf
	return deaf
}

// suspect says whether a node is silent as far as its Lease was followed; listen was asked before.
func (p *pulses) suspect(name string, now time.Time) bool {
	have := p.judged(name)
	return have != nil && now.Sub(have.at) >= have.patience()
}

// overdue says whether a node should have renewed its Lease by now; listen was asked before.
func (p *pulses) overdue(name string, now time.Time) bool {
	have := p.judged(name)
	return have != nil && now.Sub(have.at) >= have.punctual()
}

// judged is what is known of a node that may be judged now; nil: nothing.
func (p *pulses) judged(name string) *pulse {
	have := p.seen[name]
	if have == nil || have.lost || p.deaf || name == p.me || p.seen[p.me] == nil {
		return nil
	}
	return have
}

// lose notes that a suspicion was confirmed.
func (p *pulses) lose(name string) {
	if have := p.seen[name]; have != nil {
		have.lost = true
	}
}

// silent says whether a node is believed silent. A deaf node goes on believing what it did.
func (p *pulses) silent(name string) bool {
	have := p.seen[name]
	return have != nil && have.lost
}

// losses counts the nodes believed silent.
func (p *pulses) losses() int {
	n := 0
	for _, s := range p.seen {
		if s.lost {
			n++
		}
	}
	return n
}

// next is when somebody's time is over, if nothing is heard before; zero: never.
func (p *pulses) next(now time.Time) time.Time {
	var at time.Time
	for name, s := range p.seen {
		if s.lost || name == p.me && p.deaf {
			continue
		}
		for _, after := range []time.Duration{s.punctual(), s.patience()} {
			if t := s.at.Add(after); t.After(now) && (at.IsZero() || t.Before(at)) {
				at = t
			}
		}
	}
	return at
}
