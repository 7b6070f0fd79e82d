package flowcontrol

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pilothouse.dev/apiserver/request"
)

// objects are set by the test.
type objects struct {
	s   *Schemas
	l   *Levels
	err error
}

func (o *objects) FlowSchemas(context.Context) (*Schemas, error)   { return o.s, o.err }
func (o *objects) PriorityLevels(context.Context) (*Levels, error) { return o.l, o.err }

var everybody = rule{users: words{all: true}, resources: []resources{{words{all: true}, words{all: true}, words{all: true}, words{all: true}, true}}}

func twoLevels() *objects {
	return &objects{
		s: Order([]*Schema{
			{Name: "all", Level: "low", precedence: 100, by: "ByUser", rules: []rule{everybody}, header: []string{"all-uid"}},
			{Name: "lost", Level: "none", precedence: 50, rules: []rule{everybody}},
		}),
		l: Gather([]*Level{
			{Name: "low", shares: 10, lendable: 50, borrows: -1, queues: 8, hand: 2, length: 2, header: []string{"low-uid"}},
			{Name: "high", shares: 30, lendable: 50, borrows: -1, queues: 8, hand: 2, length: 2, header: []string{"high-uid"}},
		}),
	}
}

var (
	alice   = &request.User{Name: "alice", Groups: []string{"system:authenticated"}}
	master  = &request.User{Name: "root", Groups: []string{"system:masters"}}
	getPods = &request.Info{IsResource: true, Verb: "get", Version: "v1", Resource: "pods", Namespace: "a", Name: "x", Path: "/api/v1/namespaces/a/pods/x"}
)

func (g *Gate) ask(ctx context.Context, u *request.User, i *request.Info) (*Ticket, error) {
	t := &Ticket{}
	return t, g.Enter(ctx, t, g.Sort(ctx, u, i), u, i, "")
}

func TestSort(t *testing.T) {
	o := &objects{}
	g := newGate(10, o, size(0))
	name := func(u *request.User) string { return g.Sort(t.Context(), u, getPods).schema.Name }
	if name(alice) != "catch-all" || name(master) != "exempt" || name(&request.User{}) != "catch-all" {
		t.Errorf("before anything is known: %s, %s", name(alice), name(master))
	}
	known := twoLevels()
	*o = *known
	if f := g.Sort(t.Context(), alice, getPods); f.schema.Name != "all" || f.SchemaUID()[0] != "all-uid" || f.LevelUID()[0] != "low-uid" {
		t.Errorf("known: %s", f.schema.Name)
	}
	if name(master) != "exempt" {
		t.Errorf("master: %s", name(master)) // precedence 1, although no such object is there
	}
	o.err = errors.New("away")
	if name(alice) != "all" {
		t.Errorf("away: %s", name(alice))
	}
	o.err, o.s = nil, Order(nil)
	if name(alice) != "catch-all" {
		t.Errorf("schemas gone: %s", name(alice))
	}
}

// A request that waits gets its seat when there is one, its refusal when it has waited for long enough or its client goes.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4, twoLevels(), size(0)) // low has one
		first, err := g.ask(t.Context(), alice, getPods)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		began := time.Now()
		_, err = g.ask(ctx, alice, getPods)
		if err != errTimedOut || time.Since(began) != 10*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		began = time.Now()
		if _, err := g.ask(t.Context(), alice, getPods); err != errTimedOut || time.Since(began) != mostWait {
			t.Errorf("without a deadline, after %s: %v", time.Since(began), err)
		}
		gone, goes := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, goes)
		if _, err := g.ask(gone, alice, getPods); err != errCancelled {
			t.Errorf("gone: %v", err)
		}
		time.AfterFunc(time.Second, first.Leave)
		next, err := g.ask(t.Context(), alice, getPods)
		if err != nil {
			t.Fatalf("after the first has left: %v", err)
		}
		// Two queues of two places each, and no more; masters need none.
		ctx, cancel = context.WithCancel(t.Context())
		for range 4 {
			go func() { _, _ = g.ask(ctx, alice, getPods) }()
		}
		synctest.Wait()
		if _, err := g.ask(t.Context(), alice, getPods); err != errQueueFull {
			t.Errorf("full: %v", err)
		}
		if _, err := g.ask(t.Context(), master, getPods); err != nil {
			t.Errorf("master: %v", err)
		}
		out := dumped(g, "dump_requests?includeRequestDetails=1")
		if strings.Count(out, "\n") != 7 || !strings.Contains(out, "alice") || !strings.Contains(out, "/api/v1/namespaces/a/pods/x") ||
			!strings.Contains(out, "0001-01-01T00:00:00Z") {
			t.Errorf("requests:\n%s", out)
		}
		if out := dumped(g, "dump_requests"); strings.Contains(out, "/api/v1") || !strings.Contains(out, "FlowDistingsher") {
			t.Errorf("requests:\n%s", out)
		}
		if out := dumped(g, "dump_queues"); strings.Count(out, "\n") != 17 || !strings.Contains(out, "NextDispatchR") {
			t.Errorf("queues:\n%s", out)
		}
		out = strings.Join(strings.Fields(dumped(g, "dump_priority_levels")), "")
		if !strings.Contains(out, "low,2,false,false,4,1,2,1,2,1") || !strings.Contains(out, "exempt,0,false,false,0,1,1,0,0,0") {
			t.Errorf("levels:\n%s", out)
		}
		if err := testutil.CollectAndCompare(g, strings.NewReader(`
# HELP apiserver_flowcontrol_rejected_requests_total Requests refused, by level, schema and reason.
# TYPE apiserver_flowcontrol_rejected_requests_total counter
apiserver_flowcontrol_rejected_requests_total{flow_schema="all",priority_level="low",reason="cancelled"} 1
apiserver_flowcontrol_rejected_requests_total{flow_schema="all",priority_level="low",reason="queue-full"} 1
apiserver_flowcontrol_rejected_requests_total{flow_schema="all",priority_level="low",reason="time-out"} 2
# HELP apiserver_flowcontrol_current_inqueue_requests Requests that wait for seats.
# TYPE apiserver_flowcontrol_current_inqueue_requests gauge
apiserver_flowcontrol_current_inqueue_requests{flow_schema="all",priority_level="low"} 4
apiserver_flowcontrol_current_inqueue_requests{flow_schema="exempt",priority_level="exempt"} 0
`), prefix+"rejected_requests_total", prefix+"current_inqueue_requests"); err != nil {
			t.Error(err)
		}
		if problems, err := testutil.CollectAndLint(g); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
		cancel()
		synctest.Wait()
		next.Leave()
	})
}

func dumped(g *Gate, what string) string {
	w := httptest.NewRecorder()
	path := "/debug/api_priority_and_fairness/" + what
	bare, _, _ := strings.Cut(path, "?")
	g.Dumps()[bare](w, httptest.NewRequest("GET", path, nil))
	return w.Body.String()
}

// A busy level borrows from an idle one, and gives back when that is busy.
func TestBorrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := twoLevels()
		g := newGate(40, o, size(0))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = g.Run(ctx) }()
		g.current(ctx)
		limits := func() (low, high int) {
			for _, l := range g.every() {
				l.mu.Lock()
				switch l.name {
				case "low":
					low = l.limit
				case "high":
					high = l.limit
				}
				l.mu.Unlock()
			}
			return low, high
		}
		if low, high := limits(); low != 9 || high != 27 { // of 40, catch-all has 5 of 45 shares
			t.Fatalf("at first: %d, %d", low, high)
		}
		var tickets []*Ticket
		many := func(level string, n int) {
			for i := range n {
				tk := &Ticket{gate: g, work: Work{Seats: 1}, schema: "s", hash: uint64(i)}
				if g.levels[level].enter(tk, g.now()) == "" {
					tickets = append(tickets, tk)
				}
			}
		}
		many("low", 13) // of which four wait
		time.Sleep(11 * time.Second)
		low, high := limits()
		if low < 15 || high < 13 || high > 27 || low+high > 41 {
			t.Errorf("low is busy: %d, %d", low, high)
		}
		many("high", 40)
		time.Sleep(11 * time.Second)
		if low, high = limits(); high < 27 || low < 9 {
			t.Errorf("both are busy: %d, %d", low, high)
		}
		for _, tk := range tickets {
			tk.Leave()
		}
		// A level that is configured no more ends when its last request does.
		gone, err := g.ask(ctx, alice, getPods)
		if err != nil {
			t.Fatal(err)
		}
		o.l = Gather([]*Level{o.l.ByName["high"]})
		g.current(ctx)
		if out := strings.Join(strings.Fields(dumped(g, "dump_priority_levels")), ""); !strings.Contains(out, "low,0,false,true") {
			t.Errorf("going:\n%s", out)
		}
		gone.Leave()
		time.Sleep(11 * time.Second)
		if out := dumped(g, "dump_priority_levels"); strings.Contains(out, "low") {
			t.Errorf("gone:\n%s", out)
		}
		if err := prometheus.NewPedanticRegistry().Register(g); err != nil {
			t.Error(err)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg    Config
		limits bool
		words  string
	}{
		{Config{true, 400, 200}, false, ""}, {Config{true, 0, 1}, false, ""}, {Config{false, 1, 1}, true, ""}, {Config{}, true, ""},
		{Config{true, 0, 0}, false, "must not be 0"},
		{Config{true, -1, 5}, false, "--max-requests-inflight -1: must not be negative"},
		{Config{false, 1, -5}, false, "--max-mutating-requests-inflight -5: must not be negative"},
	} {
		_, limits, err := New(c.cfg, &objects{}, size(0))
		if (limits != nil) != c.limits || c.words == "" && err != nil || c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%+v: %v, %v", c.cfg, limits, err)
		}
	}
}

func TestLimits(t *testing.T) {
	l := newLimits(1, 0)
	leave, ok := l.Enter(false)
	if _, full := l.Enter(false); !ok || full {
		t.Error("one reads, and a second")
	}
	for range 10 {
		if _, ok := l.Enter(true); !ok {
			t.Error("no bound, and refused")
		}
	}
	leave()
	if _, ok := l.Enter(false); !ok {
		t.Error("the first has left")
	}
}

// BenchmarkGate is what a request costs that finds a free seat, the last of the schemas of a new cluster being its own.
func BenchmarkGate(b *testing.B) {
	o := twoLevels()
	others := []*Schema{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		some := everythingOf("system:other", "system:another")
		some.accounts = []string{"system:serviceaccount:a:b"}
		others = append(others, &Schema{Name: name, Level: "high", precedence: 10, rules: []rule{some}})
	}
	o.s = Order(append(o.s.InOrder, others...))
	g := newGate(600, o, size(1000))
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		t := &Ticket{}
		if err := g.Enter(ctx, t, g.Sort(ctx, alice, getPods), alice, getPods, ""); err != nil {
			b.Fatal(err)
		}
		t.Leave()
	}
}
