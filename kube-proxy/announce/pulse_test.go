package announce

import (
	"testing"
	"time"
)

// story plays renewals as node r sees them, in seconds: its own and those of o. Leases last four seconds.
type story struct {
	p     *pulses
	zero  time.Time
	count int
}

func newStory() *story { return &story{p: newPulses("r"), zero: time.Unix(1000, 0)} }

func (s *story) at(seconds float64) time.Time {
	return s.zero.Add(time.Duration(seconds * float64(time.Second)))
}

func (s *story) renew(seconds float64, names ...string) {
	for _, n := range names {
		s.count++
		s.p.heard(n, time.Unix(int64(s.count), 0), 4*time.Second, s.at(seconds))
	}
}

func (s *story) want(t *testing.T, seconds float64, deaf, suspect bool) {
	t.Helper()
	now := s.at(seconds)
	if got := s.p.listen(now); got != deaf {
		t.Errorf("at %v: deaf %v, want %v", seconds, got, deaf)
	}
	if got := s.p.suspect("o", now); got != suspect {
		t.Errorf("at %v: suspects %v, want %v", seconds, got, suspect)
	}
}

func TestSilence(t *testing.T) {
	s := newStory()
	s.want(t, 0, false, false) // nothing known
	s.renew(0, "o")
	s.want(t, 9, false, false) // without an own lease nobody is judged
	s = newStory()
	s.renew(0, "o", "r")
	s.renew(1, "o", "r")
	s.renew(2, "r")
	s.want(t, 2.2, false, false)
	if s.p.overdue("o", s.at(2.2)) || !s.p.overdue("o", s.at(2.25)) || s.p.overdue("r", s.at(2.25)) {
		t.Error("a second and a quarter after its last renewal o is overdue, and not before")
	}
	if got := s.p.next(s.at(2.2)); !got.Equal(s.at(2.25)) {
		t.Errorf("looks first at %v", got.Sub(s.zero))
	}
	s.want(t, 2.9, false, false)
	if got := s.p.next(s.at(2.9)); !got.Equal(s.at(3)) {
		t.Errorf("looks again at %v", got.Sub(s.zero))
	}
	s.want(t, 3, false, true)
	s.p.lose("o")
	s.want(t, 3.1, false, false) // it is known now
	if !s.p.silent("o") || s.p.silent("r") {
		t.Error("o is silent, r is not")
	}
	s.renew(3, "r")
	s.renew(4.5, "r", "o")
	if s.p.silent("o") {
		t.Error("o is back")
	}
	s.want(t, 6.4, false, false)
}

// A renewal seen twice (a watch that began anew) is none.
func TestTheSameRenewalIsNoNews(t *testing.T) {
	p, now := newPulses("r"), time.Unix(0, 0)
	if !p.heard("o", time.Unix(1, 0), 4*time.Second, now) {
		t.Error("the first word of a node is news")
	}
	if p.heard("o", time.Unix(1, 0), 4*time.Second, now.Add(time.Second)) || !p.seen["o"].at.Equal(now) {
		t.Error("the same renewal counts as another")
	}
	p.lose("o")
	if !p.heard("o", time.Unix(2, 0), 4*time.Second, now.Add(5*time.Second)) {
		t.Error("the return of a silent node is no news")
	}
}

// While the API server is away nobody is judged; and when it is back, nobody for the whole time of a lease, in whatever order the
// kubelets find back.
func TestDeafness(t *testing.T) {
	s := newStory()
	s.renew(0, "o", "r")
	s.want(t, 1.9, false, false)
	s.want(t, 2, true, false)
	s.want(t, 60, true, false)
	s.renew(60.5, "r")
	for at := 60.5; at < 64.4; at += 0.5 {
		s.renew(at, "r")
		s.want(t, at, false, false)
	}
	s.renew(64.5, "r")
	s.want(t, 64.5, false, true)

	// Who was silent before stays so, until it is heard.
	s = newStory()
	s.renew(0, "o", "r")
	s.renew(2, "r")
	s.want(t, 2, false, true)
	s.p.lose("o")
	s.want(t, 10, true, false)
	s.renew(11, "r")
	s.want(t, 11, false, false)
	if !s.p.silent("o") {
		t.Error("o came back without a word")
	}
}
