package containers_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"pilothouse.dev/kubelet/containers"
)

// BenchmarkPodStart makes a sandbox without network and starts one container in it; stages are reported in ms. hack/bench compares the sum with
// the containerd client alone.
func BenchmarkPodStart(b *testing.B) {
	n := newNode(b)
	ctx := context.Background()
	var stages [4]time.Duration
	first := 0
	for i := range b.N + 1 { // the first reads the image's facts
		begun := time.Now()
		lap := func(stage int) {
			if i > first {
				stages[stage] += time.Since(begun)
			}
			begun = time.Now()
		}
		s := n.sandbox(containers.SandboxSpec{PodUID: fmt.Sprint("uid-", i), Hostname: "web"})
		lap(0)
		id := n.create(s, containers.ContainerSpec{Name: fmt.Sprint("c", i), Args: []string{"sleep", "1000"}})
		lap(1)
		if err := n.rt.StartContainer(ctx, id); err != nil {
			b.Fatal(err)
		}
		lap(2)
		if err := n.rt.RemoveSandbox(ctx, s.ID); err != nil {
			b.Fatal(err)
		}
		lap(3)
	}
	for i, name := range []string{"sandbox-ms", "create-ms", "start-ms", "remove-ms"} {
		b.ReportMetric(float64(stages[i].Microseconds())/1000/float64(b.N), name)
	}
}

// BenchmarkManyAtOnce starts 30 pods at once, as many in flight as the runtime allows.
func BenchmarkManyAtOnce(b *testing.B) {
	n := newNode(b)
	const pods = 30
	for i := range b.N {
		begun := time.Now()
		var g errgroup.Group
		for p := range pods {
			g.Go(func() error {
				s := n.sandbox(containers.SandboxSpec{PodUID: fmt.Sprint("uid-", i, "-", p), Hostname: "web"})
				n.start(s, containers.ContainerSpec{Name: fmt.Sprint("c", i, "-", p), Args: []string{"sleep", "1000"}})
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(pods/time.Since(begun).Seconds(), "pods/s")
		n.removeAll()
	}
}
