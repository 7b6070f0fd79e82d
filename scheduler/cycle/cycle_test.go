package cycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/pkg/pod"
	"pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/plugins"
	"pilothouse.dev/scheduler/queue"
)

var podResource = schema.GroupResource{Resource: "pods"}

// fakeAPI is pods by name, strict as the real one: UIDs and versions must match, a bound pod is not bound again.
type fakeAPI struct {
	mu    sync.Mutex
	pods  map[string]*corev1.Pod
	binds int
	// before, if set, is called with each request and may answer it with an error, before or (after true) after it is done.
	before func(verb string, p *corev1.Pod) error
	after  func(verb string, p *corev1.Pod) error
	seen   func(*corev1.Pod) // told of each change, as an informer would be
}

func (f *fakeAPI) call(verb string, p *corev1.Pod, do func(now *corev1.Pod) error) error {
	if f.before != nil {
		if err := f.before(verb, p); err != nil {
			return err
		}
	}
	f.mu.Lock()
	now, ok := f.pods[p.Name]
	var err error
	if !ok {
		err = apierrors.NewNotFound(podResource, p.Name)
	} else {
		err = do(now)
	}
	f.mu.Unlock()
	if err == nil && f.after != nil {
		return f.after(verb, p)
	}
	return err
}

// change replaces a pod with a new version and tells of it.
func (f *fakeAPI) change(now *corev1.Pod, edit func(*corev1.Pod)) {
	next := now.DeepCopy()
	edit(next)
	next.ResourceVersion += "."
	f.pods[next.Name] = next
	if f.seen != nil {
		f.seen(next)
	}
}

func (f *fakeAPI) Bind(_ context.Context, p *nodeinfo.Pod, node string) error {
	return f.call("bind", p.Pod, func(now *corev1.Pod) error {
		f.binds++
		if now.UID != p.UID || now.Spec.NodeName != "" {
			return apierrors.NewConflict(podResource, p.Name, fmt.Errorf("pod %s is already assigned to node %q", p.Name, now.Spec.NodeName))
		}
		f.change(now, func(next *corev1.Pod) { next.Spec.NodeName = node })
		return nil
	})
}

func (f *fakeAPI) Get(_ context.Context, p *nodeinfo.Pod) (got *corev1.Pod, err error) {
	err = f.call("get", p.Pod, func(now *corev1.Pod) error { got = now; return nil })
	return got, err
}

func (f *fakeAPI) SetCondition(_ context.Context, p *corev1.Pod, c corev1.PodCondition, nominated string) error {
	return f.call("condition", p, func(now *corev1.Pod) error {
		if now.UID != p.UID || now.ResourceVersion != p.ResourceVersion {
			return apierrors.NewConflict(podResource, p.Name, errors.New("the object has been modified"))
		}
		f.change(now, func(next *corev1.Pod) {
			pod.SetCondition(&next.Status, c, time.Now())
			next.Status.NominatedNodeName = nominated
		})
		return nil
	})
}

func (f *fakeAPI) MarkDisrupted(_ context.Context, p *corev1.Pod, c corev1.PodCondition) error {
	return f.call("disrupt", p, func(now *corev1.Pod) error {
		f.change(now, func(next *corev1.Pod) { pod.SetCondition(&next.Status, c, time.Now()) })
		return nil
	})
}

// Delete begins a graceful end; end finishes it.
func (f *fakeAPI) Delete(_ context.Context, p *corev1.Pod) error {
	return f.call("delete", p, func(now *corev1.Pod) error {
		f.change(now, func(next *corev1.Pod) { next.DeletionTimestamp = &metav1.Time{Time: time.Now()} })
		return nil
	})
}

// stage is a cycle with everything around it but the API server.
type stage struct {
	api    *fakeAPI
	queue  *queue.Queue
	cache  *cache.Cache
	events *record.FakeRecorder
}

// onStage runs a test with a running cycle, in virtual time. Unless told otherwise the feed is instant.
func onStage(t *testing.T, table []framework.Entry, test func(t *testing.T, s *stage)) {
	synctest.Test(t, func(t *testing.T) {
		set := framework.NewSet(table, framework.Parts{})
		s := &stage{api: &fakeAPI{pods: map[string]*corev1.Pod{}}, queue: queue.New(set), cache: cache.New(), events: record.NewFakeRecorder(1000)}
		s.api.seen = s.feed
		c := New(Parts{Queue: s.queue, Cache: s.cache, Plugins: set, API: s.api, Events: s.events,
			Metrics: NewMetrics(prometheus.NewRegistry(), "test", s.queue, s.cache),
			Ready:   func(context.Context) error { return nil }}, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		test(t, s)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the cycle ended with %v", err)
		}
	})
}

func (s *stage) feed(p *corev1.Pod) {
	if p.Spec.NodeName == "" {
		s.queue.Set(nodeinfo.NewPod(p))
		return
	}
	s.cache.Set(nodeinfo.NewPod(p))
	s.queue.Delete(p.UID)
}

func (s *stage) addNode(name, cpu string) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("10")}
	s.cache.SetNode(n)
	s.queue.Event(framework.Event{Kind: framework.NodeAdded, Node: n})
}

// end makes a pod disappear.
func (s *stage) end(name string) {
	s.api.mu.Lock()
	p := s.api.pods[name]
	delete(s.api.pods, name)
	s.api.mu.Unlock()
	before := s.cache.Remove(p.UID)
	s.queue.Delete(p.UID)
	if before != nil {
		s.queue.Event(framework.Event{Kind: framework.PodGone, Pod: before})
	}
}

func (s *stage) addPod(name, cpu string, priority ...int32) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name + "-uid"), ResourceVersion: "1"}}
	p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu)}}}}
	if len(priority) > 0 {
		p.Spec.Priority = &priority[0]
	}
	s.api.mu.Lock()
	s.api.pods[name] = p
	s.api.mu.Unlock()
	s.feed(p)
}

func (s *stage) pod(name string) *corev1.Pod {
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	return s.api.pods[name]
}

func (s *stage) told() (events []string) {
	for {
		select {
		case e := <-s.events.Events:
			events = append(events, e)
		default:
			return events
		}
	}
}

// check compares where pods are: on nodes, assumed, in the queue.
func (s *stage) check(t *testing.T, placed, assumed int, want queue.Counts) {
	t.Helper()
	synctest.Wait()
	_, p, a := s.cache.Size()
	if got := s.queue.Counts(); p != placed || a != assumed || got != want {
		t.Errorf("%d placed, of these %d assumed, queue %+v; want %d, %d, %+v", p, a, got, placed, assumed, want)
	}
}

func TestSchedules(t *testing.T) {
	onStage(t, plugins.Table, func(t *testing.T, s *stage) {
		s.addNode("n1", "2")
		s.addPod("p", "1")
		s.check(t, 1, 0, queue.Counts{})
		if got := s.pod("p").Spec.NodeName; got != "n1" {
			t.Errorf("on %q", got)
		}
		if got := s.told(); len(got) != 1 || got[0] != "Normal Scheduled Successfully assigned default/p to n1" {
			t.Errorf("events %q", got)
		}
	})
}

func TestFillsNodesAndNoMore(t *testing.T) {
	onStage(t, plugins.Table, func(t *testing.T, s *stage) {
		s.api.seen = func(*corev1.Pod) {} // the feed is slow: what was assumed must count all the same
		for i := range 3 {
			s.addNode(fmt.Sprintf("n%d", i), "2")
		}
		for i := range 7 {
			s.addPod(fmt.Sprintf("p%d", i), "1")
		}
		s.check(t, 6, 6, queue.Counts{Waiting: 1})
	})
}

func TestUnschedulable(t *testing.T) {
	onStage(t, plugins.Table, func(t *testing.T, s *stage) {
		s.addPod("p", "3")
		s.check(t, 0, 0, queue.Counts{Waiting: 1})
		s.addNode("n1", "2")
		s.addNode("n2", "2")
		// No plugin refused it the first time, so a node, however small, is worth a try after the backoff.
		s.check(t, 0, 0, queue.Counts{Backing: 1})
		time.Sleep(time.Second)
		s.check(t, 0, 0, queue.Counts{Waiting: 1})
		want := []string{
			"Warning FailedScheduling no nodes available to schedule pods",
			"Warning FailedScheduling 0/2 nodes are available: 2 Insufficient cpu.",
		}
		if got := s.told(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("events %q", got)
		}
		c := pod.Condition(s.pod("p"), corev1.PodScheduled)
		if c == nil || c.Status != corev1.ConditionFalse || c.Reason != "Unschedulable" || c.Message != "0/2 nodes are available: 2 Insufficient cpu." {
			t.Errorf("condition %+v", c)
		}
		time.Sleep(10 * time.Second)
		s.addNode("n3", "3")
		s.check(t, 1, 0, queue.Counts{})
		if got := s.pod("p").Spec.NodeName; got != "n3" {
			t.Errorf("on %q", got)
		}
	})
}

// TestBindingFails is what may go wrong between the choice and its confirmation: nothing may be lost, and nothing kept.
func TestBindingFails(t *testing.T) {
	lost := errors.New("connection reset")
	once := func(s *stage, at *func(string, *corev1.Pod) error, do func(*corev1.Pod) error) {
		var first sync.Once
		*at = func(verb string, p *corev1.Pod) (err error) {
			if verb == "bind" {
				first.Do(func() { err = do(p) })
			}
			return err
		}
	}
	for _, tc := range []struct {
		name  string
		fault func(s *stage)
		node  string // where the pod ends; empty: there is none any more
		binds int
	}{
		{"request lost", func(s *stage) {
			once(s, &s.api.before, func(*corev1.Pod) error { return lost })
		}, "n1", 1},
		{"answer lost", func(s *stage) {
			once(s, &s.api.after, func(*corev1.Pod) error { return lost })
		}, "n1", 1},
		{"answer lost, feed late", func(s *stage) {
			s.api.seen = func(p *corev1.Pod) { time.AfterFunc(time.Minute, func() { s.feed(p) }) }
			once(s, &s.api.after, func(*corev1.Pod) error { return lost })
		}, "n1", 1},
		{"pod deleted", func(s *stage) {
			once(s, &s.api.before, func(p *corev1.Pod) error {
				s.api.mu.Lock()
				delete(s.api.pods, p.Name)
				s.api.mu.Unlock()
				return nil
			})
		}, "", 0},
		{"pod deleted and made anew", func(s *stage) {
			once(s, &s.api.before, func(p *corev1.Pod) error {
				anew := p.DeepCopy()
				anew.UID = "another"
				s.api.mu.Lock()
				s.api.pods[p.Name] = anew
				s.api.mu.Unlock()
				s.cache.Remove(p.UID)
				s.queue.Delete(p.UID)
				s.feed(anew)
				return nil
			})
		}, "n1", 2},
		{"bound elsewhere by another", func(s *stage) {
			once(s, &s.api.before, func(p *corev1.Pod) error {
				s.api.mu.Lock()
				defer s.api.mu.Unlock()
				s.api.change(s.api.pods[p.Name], func(next *corev1.Pod) { next.Spec.NodeName = "n9" })
				return nil
			})
		}, "n9", 1},
		{"API away for a minute", func(s *stage) {
			begun := time.Now()
			s.api.before = func(string, *corev1.Pod) error {
				if time.Since(begun) < time.Minute {
					return lost
				}
				return nil
			}
		}, "n1", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onStage(t, plugins.Table, func(t *testing.T, s *stage) {
				s.addNode("n1", "2")
				tc.fault(s)
				s.addPod("p", "1")
				time.Sleep(2 * time.Minute)
				if tc.node == "" {
					s.check(t, 0, 0, queue.Counts{})
				} else {
					s.check(t, 1, 0, queue.Counts{})
					if got := s.pod("p").Spec.NodeName; got != tc.node {
						t.Errorf("on %q, want %q", got, tc.node)
					}
				}
				if s.api.binds != tc.binds {
					t.Errorf("%d bindings reached the API, want %d", s.api.binds, tc.binds)
				}
			})
		})
	}
}

// door is a plugin whose Permit does what the test says.
type door func(ctx context.Context) *framework.Status

func (door) Name() string { return "Door" }
func (d door) Permit(ctx context.Context, _ *nodeinfo.Pod, _ string) *framework.Status {
	return d(ctx)
}

func withDoor(d door) []framework.Entry {
	return append(plugins.Table[:len(plugins.Table):len(plugins.Table)], framework.Entry{Name: "Door", New: func(framework.Parts) framework.Plugin { return d }})
}

func TestNodeGoesBetweenChoiceAndBinding(t *testing.T) {
	open := make(chan struct{})
	wait := func(context.Context) *framework.Status { <-open; return nil }
	onStage(t, withDoor(wait), func(t *testing.T, s *stage) {
		open = make(chan struct{})
		s.addNode("n1", "2")
		s.addPod("p", "1")
		s.check(t, 1, 1, queue.Counts{InFlight: 1})
		s.cache.RemoveNode("n1")
		close(open)
		s.check(t, 0, 0, queue.Counts{Backing: 1})
		if s.api.binds != 0 {
			t.Error("it was bound to a node that is gone")
		}
		s.addNode("n2", "2")
		time.Sleep(2 * time.Second)
		s.check(t, 1, 0, queue.Counts{})
		if got := s.pod("p").Spec.NodeName; got != "n2" {
			t.Errorf("on %q", got)
		}
	})
}

func TestHeldBindingHoldsNobodyUp(t *testing.T) {
	first := true
	hold := func(ctx context.Context) *framework.Status {
		if first {
			first = false
			<-ctx.Done()
			return framework.Fail("Door", ctx.Err())
		}
		return nil
	}
	onStage(t, withDoor(hold), func(t *testing.T, s *stage) {
		s.addNode("n1", "2")
		s.addPod("held", "1")
		synctest.Wait()
		s.addPod("free", "1")
		s.addPod("none", "1") // the held one's share is taken
		s.check(t, 2, 1, queue.Counts{InFlight: 1, Waiting: 1})
		time.Sleep(bindTimeout)
		synctest.Wait()
		// The held one gave its share back, for which both now ask.
		time.Sleep(time.Second)
		s.check(t, 2, 0, queue.Counts{Waiting: 1})
	})
}

func TestConditionIsNotWrittenOverABinding(t *testing.T) {
	onStage(t, plugins.Table, func(t *testing.T, s *stage) {
		var bound bool
		s.api.before = func(verb string, p *corev1.Pod) error {
			if verb == "condition" && !bound {
				bound = true
				s.api.mu.Lock()
				defer s.api.mu.Unlock()
				s.api.change(s.api.pods[p.Name], func(next *corev1.Pod) { next.Spec.NodeName = "by-hand" })
			}
			return nil
		}
		s.addPod("p", "1")
		time.Sleep(time.Minute)
		s.check(t, 1, 0, queue.Counts{})
		if c := pod.Condition(s.pod("p"), corev1.PodScheduled); c != nil {
			t.Errorf("a bound pod was told %+v", c)
		}
	})
}

func TestRefusalText(t *testing.T) {
	for _, tc := range []struct {
		r    refusal
		want string
	}{
		{refusal{}, "no nodes available to schedule pods"},
		{refusal{nodes: 3, reasons: map[string]int{"node(s) had untolerated taint {a: b}": 2, "Insufficient cpu": 1}},
			"0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}."},
		{refusal{nodes: 3, whole: "no such volume"}, "0/3 nodes are available: no such volume."},
	} {
		if got := tc.r.String(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
