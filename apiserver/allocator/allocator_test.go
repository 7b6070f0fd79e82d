package allocator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

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

// cluster is what there is, said by hand; several processes may share it.
type cluster struct {
	mu      sync.Mutex
	uses    []Use
	err     error
	ranges  []netip.Prefix
	objects map[netip.Addr]Taken
	made    int
}

func (c *cluster) ServiceAddresses(context.Context) ([]Use, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uses, c.err
}

func (c *cluster) ServiceRanges(context.Context) ([]netip.Prefix, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ranges, nil
}

func (c *cluster) TakenAddresses(context.Context) ([]Taken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.objects)), nil
}

func (c *cluster) make(_ context.Context, ip netip.Addr, owner Owner) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.objects[ip]; there {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "ipaddresses"}, ip.String())
	}
	if c.objects == nil {
		c.objects = map[netip.Addr]Taken{}
	}
	c.made++
	c.objects[ip] = Taken{ip, fmt.Sprint(c.made), true, owner}
	return nil
}

func (c *cluster) drop(_ context.Context, ip netip.Addr, owner Owner) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.objects[ip]; t.Ours && t.Owner == owner {
		delete(c.objects, ip)
	}
	return nil
}

// taken are the addresses that have objects, with their owners' names.
func (c *cluster) taken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for ip, t := range c.objects {
		all = append(all, ip.String()+"="+t.Owner.Name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// process is one API server of the cluster.
func process(t *testing.T, db storage.Backend, cidr string, c *cluster) *Allocator {
	t.Helper()
	a, err := New(Config{CIDRs: []netip.Prefix{netip.MustParsePrefix(cidr)}, Ports: PortRange{30000, 32767}},
		Parts{Ports: db, Cluster: c, Make: c.make, Drop: c.drop, Log: logging.ForTest(t)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var me = Owner{"ns", "me"}

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
		{"10.0.0.0/8", maxIPs - 1, 256, "10.0.0.1", "10.15.255.255", "10.0.0.0", "10.255.255.255"},
		{"fd00::/112", 65535, 256, "fd00::1", "fd00::ffff", "fd00::", "fd00::1:0"},
		{"fd00::/64", maxIPs - 1, 256, "fd00::1", "fd00::f:ffff", "fd00::", "fd00:0:0:1::"},
	} {
		t.Run(c.cidr, func(t *testing.T) {
			p, err := newBlock(netip.MustParsePrefix(c.cidr))
			if err != nil {
				t.Fatal(err)
			}
			if p.size != c.size || p.static != c.static {
				t.Errorf("size %d, static %d; want %d, %d", p.size, p.static, c.size, c.static)
			}
			for ip, want := range map[string]bool{c.first: true, c.last: true, c.without: false, c.over: false, "192.0.2.1": false} {
				if got := p.has(netip.MustParseAddr(ip)); got != want {
					t.Errorf("%s contained: %v", ip, got)
				}
			}
			if a, b := p.addr(0).String(), p.addr(c.size-1).String(); a != c.first || b != c.last {
				t.Errorf("gives %s to %s, want %s to %s", a, b, c.first, c.last)
			}
		})
	}
	for _, bad := range []string{"10.0.0.0/31", "10.0.0.0/32", "fd00::/127"} {
		if _, err := newBlock(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s was taken for a range", bad)
		}
	}
	if got := newPorts(nil, PortRange{30000, 32767}).pool.static; got != 86 {
		t.Errorf("%d node ports are kept for requests, want 86", got)
	}
}

func TestAllocate(t *testing.T) {
	ctx, db, c := t.Context(), open(t), &cluster{}
	a := process(t, db, "10.96.0.0/24", c)
	ip := netip.MustParseAddr("10.96.0.10")
	if err := a.IPs[0].Allocate(ctx, ip, me); err != nil {
		t.Fatal(err)
	}
	b := process(t, db, "10.96.0.0/24", c)
	for _, p := range []*Allocator{a, b} {
		if err := p.IPs[0].Allocate(ctx, ip, me); !errors.Is(err, ErrAllocated) {
			t.Errorf("second allocation: %v", err)
		}
	}
	if err := b.IPs[0].Release(ctx, ip, Owner{"ns", "another"}); err != nil {
		t.Fatal(err)
	}
	if err := b.IPs[0].Allocate(ctx, ip, me); !errors.Is(err, ErrAllocated) {
		t.Errorf("released by who did not have it: %v", err)
	}
	for range 2 { // what is free already is no error
		if err := b.IPs[0].Release(ctx, ip, me); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.IPs[0].Allocate(ctx, ip, me); err != nil { // a remembers it as taken
		t.Errorf("released by another process: %v", err)
	}
	if err := b.IPs[0].Allocate(ctx, ip, me); !errors.Is(err, ErrAllocated) { // b remembers it as free
		t.Errorf("taken by another process: %v", err)
	}
	var out *NotInRange
	if err := a.IPs[0].Allocate(ctx, netip.MustParseAddr("10.97.0.1"), me); !errors.As(err, &out) || out.Range != "10.96.0.0/24" {
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
	ctx, db, c := t.Context(), open(t), &cluster{}
	ips := process(t, db, "10.96.0.0/24", c).IPs[0]
	seen := map[netip.Addr]bool{}
	low := netip.MustParseAddr("10.96.0.16") // the last of those kept for requests
	for i := range 254 {
		ip, err := ips.AllocateNext(ctx, me)
		if err != nil {
			t.Fatal(err)
		}
		if seen[ip] || !ips.own.has(ip) {
			t.Fatalf("%s given twice or out of range", ip)
		}
		if kept := ip.Compare(low) <= 0; kept != (i >= 254-16) {
			t.Fatalf("number %d is %s", i, ip)
		}
		seen[ip] = true
	}
	if _, err := ips.AllocateNext(ctx, me); !errors.Is(err, ErrFull) {
		t.Fatalf("full: %v", err)
	}
	free := netip.MustParseAddr("10.96.0.99")
	if err := process(t, db, "10.96.0.0/24", c).IPs[0].Release(ctx, free, me); err != nil {
		t.Fatal(err)
	}
	if ip, err := ips.AllocateNext(ctx, me); err != nil || ip != free {
		t.Fatalf("after a release elsewhere: %s, %v", ip, err)
	}
}

// TestMoreRanges has ServiceCIDRs come and go while a process runs.
func TestMoreRanges(t *testing.T) {
	ctx, c := t.Context(), &cluster{}
	ips := process(t, open(t), "10.96.0.0/30", c).IPs[0] // of two addresses
	for range 2 {
		if _, err := ips.AllocateNext(ctx, me); err != nil {
			t.Fatal(err)
		}
	}
	other := netip.MustParseAddr("10.97.0.9")
	if err := ips.Allocate(ctx, other, me); err == nil {
		t.Error("gave an address of no range")
	}
	c.ranges = []netip.Prefix{netip.MustParsePrefix("fd00::/112"), netip.MustParsePrefix("10.96.0.0/30"), netip.MustParsePrefix("10.97.0.0/28")}
	if err := ips.Allocate(ctx, other, me); err != nil {
		t.Error(err)
	}
	for range 13 {
		if ip, err := ips.AllocateNext(ctx, me); err != nil || !c.ranges[2].Contains(ip) {
			t.Errorf("%s %v", ip, err)
		}
	}
	if ip, err := ips.AllocateNext(ctx, me); !errors.Is(err, ErrFull) {
		t.Errorf("%s %v", ip, err)
	}
	c.ranges = nil
	if err := ips.Release(ctx, other, me); err != nil { // also what is of no range any more
		t.Error(err)
	}
	if ip, err := ips.AllocateNext(ctx, me); !errors.Is(err, ErrFull) {
		t.Errorf("of a range that is gone: %s %v", ip, err)
	}
}

// TestOthersAddresses gives nothing that something else has, and nothing that a Service has whose object was lost.
func TestOthersAddresses(t *testing.T) {
	ctx := t.Context()
	one, two := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("10.96.0.2")
	c := &cluster{objects: map[netip.Addr]Taken{one: {IP: one, UID: "x"}}, uses: []Use{{"ns", "lost", []netip.Addr{two}, nil}}}
	ips := process(t, open(t), "10.96.0.0/30", c).IPs[0]
	if err := ips.Allocate(ctx, two, me); !errors.Is(err, ErrAllocated) {
		t.Errorf("an address in use: %v", err)
	}
	if ip, err := ips.AllocateNext(ctx, me); !errors.Is(err, ErrFull) {
		t.Errorf("%s %v", ip, err)
	}
	if err := ips.Release(ctx, one, me); err != nil {
		t.Error(err)
	}
	if got := c.taken(); got != "10.96.0.1= 10.96.0.2=lost" {
		t.Errorf("taken are %s", got)
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
		c := &cluster{}
		both := []*Allocator{process(t, db, cidr, c), process(t, db, cidr, c)}
		for i := range 200 {
			wg.Go(func() {
				ip, err := both[i%2].IPs[0].AllocateNext(t.Context(), me)
				take(ip.String(), err)
				port, err := both[i%2].Ports.AllocateNext(t.Context())
				take(fmt.Sprint(port), err)
			})
		}
		wg.Wait()
		if len(given) != 400 {
			t.Errorf("%s: %d given", cidr, len(given))
		}
	}
}

func TestMend(t *testing.T) {
	addr := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 96, 0, byte(n)}) }
	ours := func(n int, uid, name string) Taken { return Taken{addr(n), uid, true, Owner{"ns", name}} }
	have := []Taken{ours(1, "u1", "a"), ours(2, "u2", "gone"), {IP: addr(3), UID: "u3"}, {IP: addr(4), UID: "u4"}, ours(5, "u5", "before"), ours(8, "u8", "new")}
	uses := []Use{
		{"ns", "a", []netip.Addr{addr(1)}, nil},
		{"ns", "b", []netip.Addr{addr(3), addr(6)}, nil}, // of something else, and without object
		{"ns", "c", []netip.Addr{addr(1), addr(5)}, nil}, // another's, and in another's name
	}
	leaks := map[leak]int{}
	for round := 1; round <= leakRounds; round++ {
		if round == leakRounds {
			have[5].UID = "u9" // was given anew
		}
		r := mend(have, uses, leaks)
		var drop, add, wrong []string
		for _, d := range r.drop {
			drop = append(drop, d.IP.String())
		}
		for _, a := range r.add {
			add = append(add, a.ip.String()+"="+a.owner.Name)
		}
		for _, w := range r.wrong {
			wrong = append(wrong, w.owner.Name+" "+w.ip.String())
		}
		wantDrop, wantAdd := "[]", "[10.96.0.6=b]"
		if round == leakRounds {
			wantDrop, wantAdd = "[10.96.0.2 10.96.0.5]", "[10.96.0.6=b 10.96.0.5=c]"
		}
		if fmt.Sprint(drop) != wantDrop || fmt.Sprint(add) != wantAdd || fmt.Sprint(wrong) != "[c 10.96.0.1 b 10.96.0.3]" {
			t.Errorf("round %d: drops %v, want %s; adds %v, want %s; complains of %v", round, drop, wantDrop, add, wantAdd, wrong)
		}
		leaks = r.leaks
	}
	if len(leaks) != 1 || leaks[leak{addr(8), "u9"}] != 1 {
		t.Errorf("remembers %v", leaks)
	}
}

func TestRepair(t *testing.T) {
	ctx, db := t.Context(), open(t)
	c := &cluster{}
	a := process(t, db, "10.96.0.0/24", c)
	leaked, used, lost := netip.MustParseAddr("10.96.0.50"), netip.MustParseAddr("10.96.0.51"), netip.MustParseAddr("10.96.0.52")
	for ip, owner := range map[netip.Addr]Owner{leaked: {"ns", "gone"}, used: {"ns", "a"}} {
		if err := a.IPs[0].Allocate(ctx, ip, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Ports.Allocate(ctx, 30050); err != nil {
		t.Fatal(err)
	}
	c.uses = []Use{
		{"ns", "a", []netip.Addr{used}, []int{31000, 31000}},
		{"ns", "b", []netip.Addr{lost}, []int{80}}, // without object, and of no range
		{"ns", "c", []netip.Addr{used}, nil},       // twice
	}
	for round := 1; round <= leakRounds; round++ {
		if err := a.repair(ctx); err != nil {
			t.Fatal(err)
		}
		want := "10.96.0.51=a 10.96.0.52=b"
		if round < leakRounds {
			want = "10.96.0.50=gone " + want
		}
		if got := c.taken(); got != want {
			t.Errorf("round %d: taken are %s, want %s", round, got, want)
		}
		// Only the next process tells what is in etcd, not what a remembers.
		ports, err := process(t, db, "10.96.0.0/24", c).Ports.pool.marked(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !ports[1000] || ports[50] != (round < leakRounds) {
			t.Errorf("round %d: ports %v", round, ports)
		}
	}
}

// TestRepairSparesTheNew frees nothing that was unused for less than the rounds in a row.
func TestRepairSparesTheNew(t *testing.T) {
	ctx, db := t.Context(), open(t)
	c := &cluster{}
	a := process(t, db, "10.96.0.0/24", c)
	ip, owner := netip.MustParseAddr("10.96.0.50"), Owner{"ns", "a"}
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
	must(a.IPs[0].Allocate(ctx, ip, owner))
	must(a.Ports.Allocate(ctx, 30050))
	rounds(leakRounds - 1)
	c.uses = []Use{{"ns", "a", []netip.Addr{ip}, []int{30050}}} // its Service came at last
	rounds(1)
	c.uses = nil
	rounds(leakRounds - 1)
	must(a.IPs[0].Release(ctx, ip, owner)) // and was deleted, and another is being created
	must(a.IPs[0].Allocate(ctx, ip, owner))
	must(a.Ports.Release(ctx, 30050))
	must(a.Ports.Allocate(ctx, 30050))
	rounds(leakRounds - 1)
	if err := a.IPs[0].Allocate(ctx, ip, owner); !errors.Is(err, ErrAllocated) {
		t.Fatalf("freed too soon: %v", err)
	}
	if err := a.Ports.Allocate(ctx, 30050); !errors.Is(err, ErrAllocated) {
		t.Fatalf("freed too soon: %v", err)
	}
	c.err = errors.New("cannot list")
	if err := a.repair(ctx); !errors.Is(err, c.err) {
		t.Fatalf("repair without the Services: %v", err)
	}
	c.err = nil
	rounds(1)
	must(a.IPs[0].Allocate(ctx, ip, owner))
	must(a.Ports.Allocate(ctx, 30050))
}

func TestRunEndsWithItsContext(t *testing.T) {
	db := open(t)
	used := netip.MustParseAddr("10.96.0.7")
	c := &cluster{uses: []Use{{Namespace: "ns", Name: "a", IPs: []netip.Addr{used}}}}
	a := process(t, db, "10.96.0.0/24", c)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	for { // the first round is at once
		if c.taken() == "10.96.0.7=a" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
