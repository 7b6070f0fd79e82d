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
