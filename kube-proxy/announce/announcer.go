package announce

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
)

// Config is what the flags say.
type Config struct {
	Node   string         // this one's name
	Ranges []netip.Prefix // what may be announced; none: nothing is
	NetNS  int            // whose addresses are kept, a descriptor; 0: the process's own
}

// Parts is what an Announcer works with.
type Parts struct {
	Kube   kubernetes.Interface // nodes and their Leases are read
	Events record.EventRecorder // hears who answers
	// Homes tells on which nodes a Service's endpoints of a family answer. It is asked after SetSlice has returned, at any time.
	Homes func(namespace, service string, v6 bool) map[string]bool
}

const (
	answerWithin = 100 * time.Millisecond // how long an answer of another node may take
	askFor       = 500 * time.Millisecond // how long the API server may take to tell of a Lease
	askAgain     = 250 * time.Millisecond // when it did not
	againFirst   = 50 * time.Millisecond  // pauses between two questions of one kind
	againWorst   = time.Second
	retryWorst   = 30 * time.Second // after the kernel refused
)

// repeats are when an announcement is said again, from the first time on: a packet may be lost, and some switches and hosts are
// deaf for a moment after a change.
var repeats = []time.Duration{200 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}

// Announcer decides and does. Safe for concurrent use, but for Run, which is called once.
type Announcer struct {
	cfg    Config
	parts  Parts
	log    *zap.Logger
	kernel kernel
	woken  chan struct{}

	begun chan struct{} // closed once rules of some family are written

	mu        sync.Mutex
	services  map[types.NamespacedName]balanced
	nodes     map[string]node
	complete  bool                    // all nodes were heard of
	owned     map[string][]netip.Addr // what is a node's own, by node; only in our ranges
	addresses []netip.Addr            // this node's own
	pulses    *pulses
	recheck   bool    // the machine lost an address
	written   [2]bool // the rules of IPv4, of IPv6

	// Owned by Run.
	held   map[netip.Addr]*holding
	failed map[netip.Addr]*failure
}

// New makes an Announcer that announces nothing yet.
func New(cfg Config, parts Parts, log *zap.Logger) *Announcer {
	return &Announcer{
		cfg: cfg, parts: parts, log: log, kernel: kernel{cfg.NetNS},
		woken: make(chan struct{}, 1), begun: make(chan struct{}),
		services: map[types.NamespacedName]balanced{}, nodes: map[string]node{}, owned: map[string][]netip.Addr{},
		pulses: newPulses(cfg.Node), held: map[netip.Addr]*holding{}, failed: map[netip.Addr]*failure{},
	}
}

// Written tells that rules of a family are written: only from then on may this node answer for its addresses. It may be told again
// and again.
func (a *Announcer) Written(v6 bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.written[at(v6)] {
		return
	}
	if !a.written[at(!v6)] {
		close(a.begun)
	}
	a.written[at(v6)] = true
	a.wake()
}

// at is a family's place in a pair.
func at(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

func (a *Announcer) wake() {
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. What this node answers for then, it goes on answering for, and the next Run finds it.
func (a *Announcer) Run(ctx context.Context) error {
	if len(a.cfg.Ranges) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-a.begun:
		}
	}
	if err := a.find(); err != nil {
		return err
	}
	var s *session
	defer func() {
		if s != nil {
			a.end(s)
		}
	}()
	for {
		wishes := a.wishes()
		var next time.Time
		switch {
		case len(wishes) == 0:
			for _, addr := range slices.SortedFunc(maps.Keys(a.held), netip.Addr.Compare) {
				a.drop(addr, "removed", "no service has it")
			}
			next = a.retries()
			if s != nil && len(a.held) == 0 {
				a.end(s)
				s = nil
			}
		case s == nil:
			var err error
			if s, err = a.begin(ctx); err != nil {
				return err
			}
		default:
			next = a.turn(ctx, s, wishes)
		}
		if !a.pause(ctx, next) {
			return nil
		}
	}
}

// pause waits until something is heard or it is time; false: ctx has ended.
func (a *Announcer) pause(ctx context.Context, until time.Time) bool {
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-a.woken:
	case <-timer:
	}
	return ctx.Err() == nil
}

// find learns which addresses the machine has of an older run.
func (a *Announcer) find() error {
	all, err := a.kernel.addresses()
	if err != nil {
		return err
	}
	for _, have := range all {
		if have.ours {
			a.held[have.prefix.Addr()] = &holding{link: have.link}
			announced.WithLabelValues(have.prefix.Addr().String()).Set(1)
			a.log.Info("found a load balancer address of an older run", zap.Stringer("address", have.prefix.Addr()))
		}
	}
	return nil
}

// wish is an address that some node is to answer for.
type wish struct {
	services []balanced
	here     map[string]bool // which nodes may; nil: all
}

// wishes are all such addresses. Services that share an address must all be served where it is.
func (a *Announcer) wishes() map[netip.Addr]*wish {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[netip.Addr]*wish{}
	for _, b := range a.services {
		for _, addr := range b.addresses {
			w := out[addr]
			if w == nil {
				w = &wish{}
				out[addr] = w
			}
			w.services = append(w.services, b)
			if b.local {
				w.narrow(a.parts.Homes(b.name.Namespace, b.name.Name, addr.Is6()))
			}
		}
	}
	return out
}

func (w *wish) narrow(to map[string]bool) {
	if w.here == nil {
		w.here = map[string]bool{}
		maps.Copy(w.here, to)
		return
	}
	maps.DeleteFunc(w.here, func(name string, _ bool) bool { return !to[name] })
}

// turn brings what this node answers for in line with what is known now, and says when to look again.
func (a *Announcer) turn(ctx context.Context, s *session, wishes map[netip.Addr]*wish) time.Time {
	a.mu.Lock()
	complete, recheck, written := a.complete, a.recheck, a.written
	if complete {
		a.recheck = false
		for _, own := range a.owned { // that node answers for it as it does anyway
			for _, addr := range own {
				delete(wishes, addr)
			}
		}
	}
	a.mu.Unlock()
	if !complete {
		return time.Time{} // it wakes us
	}
	if recheck {
		a.look()
	}
	roles, deaf, next := a.decide(ctx, s, wishes)
	deafness.Set(map[bool]float64{true: 1}[deaf])

	for _, addr := range slices.SortedFunc(maps.Keys(a.held), netip.Addr.Compare) {
		if w := wishes[addr]; w == nil {
			a.drop(addr, "removed", "no service has it, or it is a node's own")
		} else if roles[addr].part == nobody {
			a.drop(addr, "removed", "no node may answer for it")
		}
	}
	for addr, h := range a.held {
		h.leaveTo(deaf || roles[addr].part != first)
	}
	var taken []netip.Addr
	for _, addr := range slices.SortedFunc(maps.Keys(wishes), netip.Addr.Compare) {
		if roles[addr].part == first && !deaf && a.held[addr] == nil && written[at(addr.Is6())] {
			if a.take(addr) {
				taken = append(taken, addr)
			}
		}
	}
	a.say()
	for _, addr := range taken { // the packet first, then the words
		a.tell(addr, wishes[addr], roles[addr])
	}
	a.leave(deaf)
	return earliest(earliest(next, a.retries()), a.due())
}

// decision is what this node does about one address, and why.
type decision struct {
	part      part
	inherited bool // the node that comes first was silent
}

// decide finds this node's part in each address, and listens to the nodes that matters to. It believes a node silent
// if the API server, asked, knows no more of it either; sooner, if nobody answers for its address: then to take it can harm nobody. It says also whether this node is deaf, and when it would decide anew if nothing were heard.
func (a *Announcer) decide(ctx context.Context, s *session, wishes map[netip.Addr]*wish) (map[netip.Addr]decision, bool, time.Time) {
	unsure := map[string]bool{}  // who could not be asked about
	answers := map[string]bool{} // whose address is answered, though its Lease is overdue
	for {
		a.mu.Lock()
		now := time.Now()
		deaf := a.pulses.listen(now)
		may, many := candidates(a.nodes), 2+a.pulses.losses() // the first two of those who are not silent matter
		roles, listen, doubted, overdue := map[netip.Addr]decision{}, map[string]bool{}, "", netip.Addr{}
		for addr, w := range wishes {
			order := rank(addr, may, w.here, many)
			p, whom := role(order, a.cfg.Node, a.pulses.silent)
			roles[addr] = decision{p, p == first && order[0] != a.cfg.Node}
			if p != first && p != second {
				continue
			}
			listen[a.cfg.Node], listen[whom] = true, true
			for _, name := range order {
				if a.pulses.silent(name) {
					listen[name] = true // it may come back
				}
			}
			switch {
			case p != second:
			case !unsure[whom] && a.pulses.suspect(whom, now):
				doubted, overdue = whom, netip.Addr{}
			case doubted == "" && !answers[whom] && a.pulses.overdue(whom, now):
				doubted, overdue = whom, addr
			}
		}
		next := a.pulses.next(now)
		a.mu.Unlock()
		if doubted == "" || ctx.Err() != nil {
			a.listenTo(ctx, s, listen)
			if len(unsure)+len(answers) > 0 {
				next = earliest(next, time.Now().Add(askAgain))
			}
			return roles, deaf, next
		}
		still := a.pulses.suspect
		if overdue.IsValid() {
			if still = a.pulses.overdue; !a.unanswered(overdue) {
				answers[doubted] = true
				continue
			}
		} else if err := a.askLease(ctx, doubted); err != nil {
			a.log.Debug("asking for the lease of a silent node", zap.String("node", doubted), zap.Error(err))
			unsure[doubted] = true
			continue
		}
		a.mu.Lock()
		if still(doubted, time.Now()) {
			a.pulses.lose(doubted)
		}
		a.mu.Unlock()
	}
}

// earliest is the earlier of two times of which zero is never.
func earliest(x, y time.Time) time.Time {
	if x.IsZero() || !y.IsZero() && y.Before(x) {
		return y
	}
	return x
}
