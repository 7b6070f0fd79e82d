package announce

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// holding is an address that this node answers for.
type holding struct {
	link  int
	since time.Time
	said  int       // how many of repeats were sent
	asks  bool      // whether it is to be left to others
	ask   time.Time // when they are asked next
	pause time.Duration
	doubt bool // others answered once while we were deaf
}

// failure is an address that the kernel would not take or give back.
type failure struct {
	until time.Time
	pause time.Duration
}

// look finds out which of the addresses that this node answers for the machine has no more.
func (a *Announcer) look() {
	all, err := a.kernel.addresses()
	if err != nil {
		a.log.Error("looking after load balancer addresses", zap.Error(err))
		return
	}
	for addr, h := range a.held {
		if !slices.ContainsFunc(all, func(o own) bool { return o.ours && o.prefix.Addr() == addr && o.link == h.link }) {
			a.log.Warn("somebody took a load balancer address from this machine", zap.Stringer("address", addr))
			delete(a.held, addr)
			announced.DeleteLabelValues(addr.String())
		}
	}
}

// unanswered says whether nobody answers for an address that is not ours, asked twice.
func (a *Announcer) unanswered(addr netip.Addr) bool {
	all, err := a.kernel.addresses()
	if err != nil {
		return false
	}
	a.mu.Lock()
	own := a.addresses
	a.mu.Unlock()
	link, err := linkFor(addr, all, own)
	if err != nil {
		return false
	}
	for range 2 {
		if found, err := a.kernel.elsewhere([]place{{addr, link}}, answerWithin); err != nil || found[addr] {
			return false
		}
	}
	return true
}

// errOwn is why the kernel is not asked for an address: to take and give it back would change the machine's own one.
var errOwn = errors.New("it is one of this machine's own addresses, which it answers for anyway")

// take begins to answer for an address.
func (a *Announcer) take(addr netip.Addr) bool {
	if f := a.failed[addr]; f != nil && time.Now().Before(f.until) {
		return false
	}
	err := func() error {
		all, err := a.kernel.addresses()
		if err != nil {
			return err
		}
		a.mu.Lock()
		mine := a.addresses
		a.mu.Unlock()
		if slices.ContainsFunc(all, func(have own) bool { return !have.ours && have.prefix.Addr() == addr }) {
			return errOwn
		}
		link, err := linkFor(addr, all, mine)
		if err != nil {
			return err
		}
		if err := a.kernel.add(addr, link); err != nil {
			return err
		}
		a.held[addr] = &holding{link: link}
		return nil
	}()
	a.note(addr, "answering for a load balancer address", err)
	return err == nil
}

// tell says who answers now, to whoever looks at the Services, the metrics or the log.
func (a *Announcer) tell(addr netip.Addr, w *wish, d decision) {
	announced.WithLabelValues(addr.String()).Set(1)
	changed.WithLabelValues(map[bool]string{false: "taken", true: "inherited"}[d.inherited]).Inc()
	for _, b := range w.services {
		a.log.Info("answering for a load balancer address", zap.Stringer("address", addr), zap.String("namespace", b.name.Namespace),
			zap.String("name", b.name.Name), zap.String("link", a.kernel.nameOf(a.held[addr].link)), zap.Bool("inherited", d.inherited))
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: b.name.Namespace, Name: b.name.Name, UID: b.uid}}
		a.parts.Events.Eventf(svc, corev1.EventTypeNormal, "nodeAssigned", "announcing from node %q with protocol %q", a.cfg.Node, "layer2")
	}
}

// drop ceases to answer for an address.
func (a *Announcer) drop(addr netip.Addr, how, why string) {
	if f := a.failed[addr]; f != nil && time.Now().Before(f.until) {
		return
	}
	err := a.kernel.remove(addr, a.held[addr].link)
	a.note(addr, "ceasing to answer for a load balancer address", err)
	if err != nil {
		return
	}
	delete(a.held, addr)
	announced.DeleteLabelValues(addr.String())
	changed.WithLabelValues(how).Inc()
	a.log.Info("no longer answering for a load balancer address", zap.Stringer("address", addr), zap.String("why", why))
}

// note keeps count of what the kernel refuses, so that it is asked ever more seldom.
func (a *Announcer) note(addr netip.Addr, what string, err error) {
	if err == nil {
		delete(a.failed, addr)
		return
	}
	f := a.failed[addr]
	if f == nil {
		f = &failure{pause: againWorst / 2}
		a.failed[addr] = f
	}
	f.pause = min(2*f.pause, retryWorst)
	f.until = time.Now().Add(f.pause)
	a.log.Error(what, zap.Stringer("address", addr), zap.Duration("retryAfter", f.pause), zap.Error(err))
}

// retries is when what the kernel refused is tried again.
func (a *Announcer) retries() time.Time {
	var next time.Time
	for addr, f := range a.failed {
		if f.until.After(time.Now()) {
			next = earliest(next, f.until)
		} else if a.held[addr] == nil {
			delete(a.failed, addr) // it is no longer wanted, or its time came after it was asked about
			next = earliest(next, time.Now())
		}
	}
	return next
}

// due is when an announcement or a question to others is.
func (a *Announcer) due() time.Time {
	var next time.Time
	for _, h := range a.held {
		if h.said <= len(repeats) {
			next = earliest(next, h.due())
		}
		if h.asks {
			next = earliest(next, h.ask)
		}
	}
	return next
}

// leaveTo notes whether an address is to be left to others. Where it no longer is, that is announced again: they may have.
func (h *holding) leaveTo(others bool) {
	if others && !h.asks {
		h.ask, h.pause = time.Now(), againFirst
	}
	if !others && h.asks {
		h.doubt, h.said, h.since = false, 0, time.Time{}
	}
	h.asks = others
}

// due is when the next announcement is to be sent; the first is at once.
func (h *holding) due() time.Time {
	if h.said == 0 {
		return h.since
	}
	return h.since.Add(repeats[h.said-1])
}

// say sends the announcements that are due: not of addresses that are to be left to others.
func (a *Announcer) say() {
	now := time.Now()
	var places []place
	for addr, h := range a.held {
		if h.said == 0 && h.since.IsZero() {
			h.since = now
		}
		if h.said > len(repeats) || h.due().After(now) {
			continue
		}
		h.said++
		if !h.asks {
			places = append(places, place{addr, h.link})
		}
	}
	if err := a.kernel.announce(places); err != nil { // it is said again, and whoever asks is answered
		a.log.Warn("announcing load balancer addresses", zap.Error(err))
	}
}

// leave asks whether others answer for the addresses that they should, and leaves those to them. Until they do, this node goes on:
// the packets are as well served here. A deaf node does the same, for it cannot hear that others took over; but it asks twice
// with a pause of chance between, for of two that are deaf one must stay.
func (a *Announcer) leave(deaf bool) {
	now := time.Now()
	var places []place
	for addr, h := range a.held {
		if h.asks && !h.ask.After(now) {
			places = append(places, place{addr, h.link})
		}
	}
	if len(places) == 0 {
		return
	}
	others, err := a.kernel.elsewhere(places, answerWithin)
	if err != nil {
		a.log.Warn("asking who else answers for load balancer addresses", zap.Error(err))
	}
	for _, p := range places {
		h := a.held[p.addr]
		h.ask = time.Now().Add(h.pause)
		h.pause = min(2*h.pause, againWorst)
		switch {
		case !others[p.addr]:
			h.doubt = false
		case deaf && !h.doubt:
			h.doubt, h.ask = true, time.Now().Add(rand.N(againWorst/2))
		default:
			a.drop(p.addr, "left", "another node answers for it")
		}
	}
}
