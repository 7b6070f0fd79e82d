package allocator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/etcd"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

var shared *testcluster.Etcd // set once by TestMain

func TestMain(m *testing.M) {
	os.Exit(testcluster.MainEtcd(m, func(e *testcluster.Etcd) { shared = e }))
}

func open(t *testing.T) *etcd.DB {
	db, err := etcd.Open(etcd.Config{Endpoints: []string{shared.Endpoint}, Prefix: fmt.Sprintf("/%s-%d", t.Name(), time.Now().UnixNano())}, logging.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// services is what Services have, said by hand.
type services struct {
	mu   sync.Mutex
	uses []Use
	err  error
}

func (s *services) ServiceAddresses(context.Context) ([]Use, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses, s.err
}

func make1(t *testing.T, db storage.Backend, cidr string, s *services) *Allocator {
	t.Helper()
	a, err := New(db, Config{CIDRs: []netip.Prefix{netip.MustParsePrefix(cidr)}, Ports: PortRange{30000, 32767}}, s, logging.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		cidr          string
		size, static  int
		first, last   string // that may be given
		without, over string // that may not
	}{
		{"10.96.0.0/16", 65534, 256, "10.96.0.1", "10.96.255.254", "10.96.0.0", "10.96.255.255"},
		{"10.96.0.0/20", 4094, 256, "10.96.0.1", "10.96.15.254", "10.96.0.0", "10.96.15.255"},
		{"10.96.0.0/24", 254, 16, "10.96.0.1", "10.96.0.254", "10.96.0.0", "10.96.0.255"},
		{"10.96.0.0/28", 14, 14, "10.96.0.1", "10.96.0.14", "10.96.0.0", "10.96.0.15"},
		{"10.0.0.0/8", maxIPs - 1, 256, "10.0.0.1", "10.15.255.255", "10.0.0.0", "10.16.0.0"},
		{"fd00::/112", 65535, 256, "fd00::1", "fd00::ffff", "fd00::", "fd00::1:0"},
		{"fd00::/64", maxIPs - 1, 256, "fd00::1", "fd00::f:ffff", "fd00::", "fd00::10:0"},
	} {
		t.Run(c.cidr, func(t *testing.T) {
			p, err := newIPs(nil, netip.MustParsePrefix(c.cidr))
			if err != nil {
				t.Fatal(err)
			}
			if p.pool.size != c.size || p.pool.static != c.static {
				t.Errorf("size %d, static %d; want %d, %d", p.pool.size, p.pool.static, c.size, c.static)
			}
			for ip, want := range map[string]bool{c.first: true, c.last: true, c.without: false, c.over: false, "192.0.2.1": false} {
				if got := p.Contains(netip.MustParseAddr(ip)); got != want {
					t.Errorf("%s contained: %v", ip, got)
				}
			}
			if a, b := p.addr(0).String(), p.addr(c.size-1).String(); a != c.first || b != c.last {
				t.Errorf("gives %s to %s, want %s to %s", a, b, c.first, c.last)
			}
		})
	}
	for _, bad := range []string{"10.0.0.0/31", "10.0.0.0/32", "fd00::/127"} {
		if _, err := newIPs(nil, netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s was taken for a range", bad)
		}
	}
	if got := newPorts(nil, PortRange{30000, 32767}).pool.static; got != 86 {
		t.Errorf("%d node ports are kept for requests, want 86", got)
	}
}

func TestAllocate(t *testing.T) {
	ctx, db := t.Context(), open(t)
	a := make1(t, db, "10.96.0.0/24", &services{})
	ip := netip.MustParseAddr("10.96.0.10")
	if err := a.IPs[0].Allocate(ctx, ip); err != nil {
		t.Fatal(err)
	}
	b := make1(t, db, "10.96.0.0/24", &services{}) // another process
	for _, p := range []*Allocator{a, b} {
		if err := p.IPs[0].Allocate(ctx, ip); !errors.Is(err, ErrAllocated) {
			t.Errorf("second allocation: %v", err)
		}
	}
	if err := b.IPs[0].Release(ctx, ip); err != nil {
		t.Fatal(err)
	}
	if err := b.IPs[0].Release(ctx, ip); err != nil {
		t.Errorf("releasing what is free: %v", err)
	}
	if err := a.IPs[0].Allocate(ctx, ip); err != nil { // a remembers it as taken
		t.Errorf("released by another process: %v", err)
	}
	if err := b.IPs[0].Allocate(ctx, ip); !errors.Is(err, ErrAllocated) { // b remembers it as free
		t.Errorf("taken by another process: %v", err)
	}
	var out *NotInRange
	if err := a.IPs[0].Allocate(ctx, netip.MustParseAddr("10.97.0.1")); !errors.As(err, &out) || out.Range != "10.96.0.0/24" {
		t.Errorf("address outside: %v", err)
	}
	if err := a.Ports.Allocate(ctx, 80); !errors.As(err, &out) || out.Range != "30000-32767" {
		t.Errorf("port outside: %v", err)
	}
	if err := a.Ports.Allocate(ctx, 32767); err != nil {
		t.Error(err)
	}
	if err := b.Ports.Allocate(ctx, 32767); !errors.Is(err, ErrAllocated) {
		t.Errorf("second allocation of a port: %v", err)
	}
}

func TestAllocateNextUntilFull(t *testing.T) {
	ctx, db := t.Context(), open(t)
	ips := make1(t, db, "10.96.0.0/24", &services{}).IPs[0]
	seen := map[netip.Addr]bool{}
	low := netip.MustParseAddr("10.96.0.16") // the last of those kept for requests
	for i := range 254 {
		ip, err := ips.AllocateNext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if seen[ip] || !ips.Contains(ip) {
			t.Fatalf("%s given twice or out of range", ip)
		}
		if kept := ip.Compare(low) <= 0; kept != (i >= 254-16) {
			t.Fatalf("number %d is %s", i, ip)
		}
		seen[ip] = true
	}
	if _, err := ips.AllocateNext(ctx); !errors.Is(err, ErrFull) {
		t.Fatalf("full: %v", err)
	}
	other := make1(t, db, "10.96.0.0/24", &services{}).IPs[0]
	free := netip.MustParseAddr("10.96.0.99")
	if err := other.Release(ctx, free); err != nil {
		t.Fatal(err)
	}
	if ip, err := ips.AllocateNext(ctx); err != nil || ip != free {
		t.Fatalf("after a release elsewhere: %s, %v", ip, err)
	}
}

// TestParallel has two processes give 200 addresses and ports at once: no double.
func TestParallel(t *testing.T) {
	db := open(t)
	for _, cidr := range []string{"10.96.0.0/16", "10.97.0.0/24"} {
		var wg sync.WaitGroup
		var mu sync.Mutex
		given := map[string]bool{}
		take := func(what string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if given[what] {
				t.Errorf("%s given twice", what)
			}
			given[what] = true
		}
		both := []*Allocator{make1(t, db, cidr, &services{}), make1(t, db, cidr, &services{})}
		for i := range 200 {
			wg.Go(func() {
				ip, err := both[i%2].IPs[0].AllocateNext(t.Context())
				take(ip.String(), err)
				port, err := both[i%2].Ports.AllocateNext(t.Context())
				take(fmt.Sprint(port), err)
			})
		}
		wg.Wait()
		if len(given) != 400 {
			t.Errorf("%s: %d given", cidr, len(given))
		}
		for _, a := range both { // what one gave the other knows
			for what := range given {
				if ip, err := netip.ParseAddr(what); err == nil {
					if err := a.IPs[0].Allocate(t.Context(), ip); !errors.Is(err, ErrAllocated) {
						t.Fatalf("%s: %v", ip, err)
					}
				}
			}
		}
	}
}

func TestRepair(t *testing.T) {
	ctx, db := t.Context(), open(t)
	s := &services{}
	a := make1(t, db, "10.96.0.0/24", s)
	leaked, used, lost := netip.MustParseAddr("10.96.0.50"), netip.MustParseAddr("10.96.0.51"), netip.MustParseAddr("10.96.0.52")
	for _, ip := range []netip.Addr{leaked, used} {
		if err := a.IPs[0].Allocate(ctx, ip); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Ports.Allocate(ctx, 30050); err != nil {
		t.Fatal(err)
	}
	s.uses = []Use{
		{"ns", "a", []netip.Addr{used}, []int{31000, 31000}},
		{"ns", "b", []netip.Addr{lost, netip.MustParseAddr("192.0.2.1")}, []int{80}}, // unmarked, and of no range
		{"ns", "c", []netip.Addr{used}, nil},                                         // twice
	}
	for round := 1; round <= leakRounds; round++ {
		if err := a.repair(ctx); err != nil {
			t.Fatal(err)
		}
		// Only the next process tells what is in etcd, not what a remembers.
		b := make1(t, db, "10.96.0.0/24", s)
		marks, err := b.IPs[0].pool.marked(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ports, err := b.Ports.pool.marked(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]bool{50: true, 51: true}
		if round < leakRounds {
			want[49] = true
		}
		if fmt.Sprint(marks) != fmt.Sprint(want) {
			t.Errorf("round %d: marked are %v, want %v", round, marks, want)
		}
		if !ports[1000] || ports[50] != (round < leakRounds) {
			t.Errorf("round %d: ports %v", round, ports)
		}
	}
}

// TestRepairSparesTheNew frees nothing that was unused for less than the rounds in a row.
func TestRepairSparesTheNew(t *testing.T) {
	ctx, db := t.Context(), open(t)
	s := &services{}
	a := make1(t, db, "10.96.0.0/24", s)
	ip := netip.MustParseAddr("10.96.0.50")
	rounds := func(n int) {
		t.Helper()
		for range n {
			if err := a.repair(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.IPs[0].Allocate(ctx, ip))
	rounds(leakRounds - 1)
	s.uses = []Use{{Namespace: "ns", Name: "a", IPs: []netip.Addr{ip}}} // its Service came at last
	rounds(1)
	s.uses = nil
	rounds(leakRounds - 1)
	must(a.IPs[0].Release(ctx, ip)) // and was deleted, and another is being created
	must(a.IPs[0].Allocate(ctx, ip))
	rounds(leakRounds - 1)
	if err := a.IPs[0].Allocate(ctx, ip); !errors.Is(err, ErrAllocated) {
		t.Fatalf("freed too soon: %v", err)
	}
	s.err = errors.New("cannot list")
	if err := a.repair(ctx); !errors.Is(err, s.err) {
		t.Fatalf("repair without the Services: %v", err)
	}
	s.err = nil
	rounds(1)
	must(a.IPs[0].Allocate(ctx, ip))
}

func TestRunEndsWithItsContext(t *testing.T) {
	db := open(t)
	used := netip.MustParseAddr("10.96.0.7")
	a := make1(t, db, "10.96.0.0/24", &services{uses: []Use{{Namespace: "ns", Name: "a", IPs: []netip.Addr{used}}}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	for { // the first round is at once
		marks, err := a.IPs[0].pool.marked(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if marks[6] {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
