package cycle

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/plugins"
	"pilothouse.dev/scheduler/queue"
)

// keeper keeps something for every pod that is not called plain, and prepares as the test says.
type keeper struct {
	prepare func(ctx context.Context) error

	mu       sync.Mutex
	kept     map[string]bool // guarded by mu
	reserved int             // guarded by mu
}

func (*keeper) Name() string { return "Keeper" }

func (k *keeper) Reserve(_ *framework.Notebook, p *nodeinfo.Pod, _ *nodeinfo.Node) *framework.Status {
	if p.Name == "plain" {
		return framework.Skipped
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept[p.Name] = true
	k.reserved++
	return nil
}

func (k *keeper) Unreserve(p *nodeinfo.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, p.Name)
}

func (k *keeper) PreBind(ctx context.Context, _ *nodeinfo.Pod, _ string) *framework.Status {
	if err := k.prepare(ctx); err != nil {
		return framework.Fail("Keeper", err)
	}
	return nil
}

func (k *keeper) keeps(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept[name]
}

func withKeeper(k *keeper) []framework.Entry {
	k.kept = map[string]bool{}
	return append(plugins.Table[:len(plugins.Table):len(plugins.Table)], framework.Entry{Name: "Keeper", New: func(framework.Parts) framework.Plugin { return k }})
}

func TestPreparingHoldsNobodyUp(t *testing.T) {
	k := &keeper{prepare: func(ctx context.Context) error {
		select {
		case <-time.After(5 * time.Minute):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	onStage(t, withKeeper(k), func(t *testing.T, s *stage) {
		s.addNode("n1", "2")
		s.addPod("slow", "1")
		s.check(t, 1, 1, queue.Counts{InFlight: 1})
		s.addPod("plain", "1")
		s.check(t, 2, 1, queue.Counts{InFlight: 1})
		if !k.keeps("slow") || k.keeps("plain") {
			t.Errorf("kept: %v", k.kept)
		}
		time.Sleep(5 * time.Minute)
		s.check(t, 2, 0, queue.Counts{})
		if s.pod("slow").Spec.NodeName != "n1" {
			t.Error("it was not bound when all was prepared")
		}
	})
}

func TestPreparingFails(t *testing.T) {
	fails := 2
	k := &keeper{prepare: func(context.Context) error {
		if fails--; fails >= 0 {
			return errors.New("the volume was taken")
		}
		return nil
	}}
	onStage(t, withKeeper(k), func(t *testing.T, s *stage) {
		s.addNode("n1", "2")
		s.addPod("p", "1")
		s.check(t, 0, 0, queue.Counts{Backing: 1})
		if k.keeps("p") {
			t.Error("what was kept was not given back")
		}
		time.Sleep(5 * time.Second)
		s.check(t, 1, 0, queue.Counts{})
		if k.reserved != 3 {
			t.Errorf("reserved %d times", k.reserved)
		}
		told := s.told()
		if len(told) == 0 || told[0] != "Warning FailedScheduling binding to node n1: preparing with Keeper: the volume was taken" {
			t.Errorf("events %q", told)
		}
	})
}

// TestPodGoesWhilePreparing ends the preparation with the pod, not minutes later.
func TestPodGoesWhilePreparing(t *testing.T) {
	k := &keeper{prepare: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	onStage(t, withKeeper(k), func(t *testing.T, s *stage) {
		s.addNode("n1", "1")
		s.addPod("p", "1")
		s.check(t, 1, 1, queue.Counts{InFlight: 1})
		s.end("p")
		s.check(t, 0, 0, queue.Counts{})
		if k.keeps("p") {
			t.Error("what was kept for it was not given back")
		}
		s.addPod("plain", "1")
		s.check(t, 1, 0, queue.Counts{})
	})
}

// TestGivenBackAfterPodIsGone wakes who waits for what was kept when it is given back, not only when the pod went: between the two
// the API server may be asked for seconds what became of the pod.
func TestGivenBackAfterPodIsGone(t *testing.T) {
	k := &keeper{prepare: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	table := append(withKeeper(k), framework.Entry{Name: "OneAtATime", New: func(framework.Parts) framework.Plugin { return oneAtATime{k} }})
	onStage(t, table, func(t *testing.T, s *stage) {
		asked := make(chan struct{})
		s.api.before = func(verb string, p *corev1.Pod) error {
			if verb == "get" && p.Name == "p" {
				<-asked
			}
			return nil
		}
		s.addNode("n1", "2")
		s.addPod("p", "1")
		s.check(t, 1, 1, queue.Counts{InFlight: 1})
		s.addPod("plain", "1")
		s.check(t, 1, 1, queue.Counts{InFlight: 1, Waiting: 1})
		time.Sleep(5 * time.Second)
		s.end("p")
		s.check(t, 0, 0, queue.Counts{InFlight: 1, Waiting: 1}) // tried in vain
		close(asked)
		time.Sleep(15 * time.Second)
		s.check(t, 1, 0, queue.Counts{})
	})
}

// TestBoundWhilePreparing is a pod that somebody else binds meanwhile, to that node or another, as an answer of the term before may do:
// what was kept is given back.
func TestBoundWhilePreparing(t *testing.T) {
	for _, node := range []string{"n1", "n2"} {
		k := &keeper{prepare: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		onStage(t, withKeeper(k), func(t *testing.T, s *stage) {
			s.addNode("n1", "1")
			s.addPod("p", "1")
			s.check(t, 1, 1, queue.Counts{InFlight: 1})
			s.api.mu.Lock()
			s.api.change(s.api.pods["p"], func(p *corev1.Pod) { p.Spec.NodeName = node })
			s.api.mu.Unlock()
			s.check(t, 1, 0, queue.Counts{})
			if k.keeps("p") {
				t.Errorf("bound to %s: what was kept for it was not given back", node)
			}
		})
	}
}

// oneAtATime refuses pods while something is kept for another.
type oneAtATime struct{ k *keeper }

func (oneAtATime) Name() string { return "OneAtATime" }

func (o oneAtATime) Filter(_ *framework.Notebook, _ *nodeinfo.Pod, _ *nodeinfo.Node) *framework.Status {
	o.k.mu.Lock()
	defer o.k.mu.Unlock()
	if len(o.k.kept) > 0 {
		return framework.RefuseForGood("OneAtATime", "something is kept")
	}
	return nil
}

func (oneAtATime) Helps(_ *nodeinfo.Pod, e framework.Event) bool { return e.Kind == framework.PodGone }

func TestPreparingTakesTooLong(t *testing.T) {
	k := &keeper{prepare: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	onStage(t, withKeeper(k), func(t *testing.T, s *stage) {
		s.addNode("n1", "1")
		s.addPod("p", "1")
		synctest.Wait()
		time.Sleep(prepareTimeout)
		s.check(t, 0, 0, queue.Counts{Backing: 1})
		s.end("p")
	})
}
