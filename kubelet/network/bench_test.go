package network

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// BenchmarkSetup joins a pod after the other, each with a namespace of its own, on a node that has a hundred already; Teardown is told apart.
func BenchmarkSetup(b *testing.B) {
	inNamespace(b, func() {
		n := New(Config{MTU: 1500}, zap.NewNop())
		if err := n.SetPodCIDRs(context.Background(), []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}); err != nil {
			b.Error(err)
			return
		}
		const crowd = 100
		var setup, teardown, cpu time.Duration
		for i := range crowd + b.N {
			p := newPod(b)
			key := fmt.Sprint("pod-", i)
			begun, busy := time.Now(), processorTime(b)
			if _, err := n.Setup(context.Background(), Pod{Key: key, NetNS: p.path}); err != nil {
				b.Error(err)
				return
			}
			if i < crowd {
				continue
			}
			setup += time.Since(begun)
			cpu += processorTime(b) - busy
			begun = time.Now()
			if err := n.Teardown(context.Background(), p.path, key); err != nil {
				b.Error(err)
				return
			}
			teardown += time.Since(begun)
		}
		b.ReportMetric(float64(setup.Microseconds())/float64(b.N), "setup-µs")
		b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "setup-cpu-µs")
		b.ReportMetric(float64(teardown.Microseconds())/float64(b.N), "teardown-µs")
	})
}

// processorTime is what this process has used, the kernel's work for it included.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Error(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSetRoutes looks whether all is still so, as a node does every ten seconds: 30 pods, 1,000 other nodes.
func BenchmarkSetRoutes(b *testing.B) {
	inNamespace(b, func() {
		uplink(b, 1500, "10.7.0.1/16")
		n := New(Config{NodeIPs: []netip.Addr{netip.MustParseAddr("10.7.0.1")}}, zap.NewNop())
		n.Restore(nil)
		if err := n.SetPodCIDRs(context.Background(), prefixes("10.244.0.0/24")); err != nil {
			b.Error(err)
		}
		for i := range 30 {
			if _, err := n.Setup(context.Background(), Pod{Key: fmt.Sprint("pod-", i), NetNS: newPod(b).path}); err != nil {
				b.Error(err)
			}
		}
		var peers []Peer
		for i := range 1000 {
			peers = append(peers, Peer{fmt.Sprint("n", i), prefixes(fmt.Sprintf("10.%d.%d.0/24", 100+i/250, i%250)), addresses(fmt.Sprintf("10.7.%d.%d", 1+i/250, 1+i%250))})
		}
		begun := time.Now()
		var first, busy time.Duration
		for i := range b.N + 1 {
			if err := n.SetRoutes(context.Background(), peers); err != nil {
				b.Error(err)
			}
			if i == 0 {
				first, busy = time.Since(begun), processorTime(b)
				b.ResetTimer()
			}
		}
		b.ReportMetric(float64((processorTime(b)-busy).Microseconds())/float64(b.N), "cpu-µs")
		b.ReportMetric(float64(first.Microseconds())/1000, "first-ms")
	})
}
