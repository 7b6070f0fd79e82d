package shutdown

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/logging"
)

func newPod(name string, priority int32, grace int64) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{Priority: &priority, TerminationGracePeriodSeconds: &grace}}
}

func TestGroups(t *testing.T) {
	for _, tc := range []struct {
		name          string
		all, critical time.Duration
		list          string
		want, wrong   string
	}{
		{name: "off"},
		{name: "two", all: 30 * time.Second, critical: 10 * time.Second, want: "[{0 20s} {2000000000 10s}]"},
		{name: "all the same", all: 30 * time.Second, want: "[{0 30s} {2000000000 0s}]"},
		{name: "by priority", list: `[{"priority": 100, "shutdownGracePeriodSeconds": 5}, {"priority": 0, "shutdownGracePeriodSeconds": 60}]`, want: "[{0 1m0s} {100 5s}]"},
		{name: "more than there is", all: time.Second, critical: 2 * time.Second, wrong: "must be <= shutdownGracePeriod"},
		{name: "too short", all: time.Millisecond, wrong: "must be either zero or otherwise >= 1 sec"},
		{name: "both", all: time.Second, list: "[]", wrong: "must not be set together"},
		{name: "no list", list: "{", wrong: "decoding"},
		{name: "twice", list: `[{"priority": 1}, {"priority": 1}]`, wrong: "twice"},
		{name: "negative", list: `[{"priority": 1, "shutdownGracePeriodSeconds": -1}]`, wrong: "must not be negative"},
	} {
		groups, err := Groups(tc.all, tc.critical, tc.list)
		if tc.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.wrong)
			}
			continue
		}
		if got := fmt.Sprint(groups); err != nil || got != tc.want && !(tc.want == "" && len(groups) == 0) {
			t.Errorf("%s: %s, %v", tc.name, got, err)
		}
	}
}

// played is a machine whose shutdown is announced by the test, and its pods: some end a while after they were told, one never does.
type played struct {
	t        *testing.T
	announce chan bool
	under    bool // a shutdown was announced before
	delay    time.Duration
	pods     []*corev1.Pod
	takes    map[types.UID]time.Duration

	mu    sync.Mutex
	began time.Time
	told  map[types.UID]time.Time
	story []string
}

func (p *played) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.story = append(p.story, fmt.Sprintf("%s ", time.Since(p.began))+fmt.Sprintf(format, args...))
}

func (p *played) Delay() (time.Duration, error) { return p.delay, nil }
func (p *played) Extend(d time.Duration) error  { p.say("extended to %s", d); return nil }
func (p *played) Inhibit() (func() error, error) {
	p.say("held")
	return func() error { p.say("released"); return nil }, nil
}
func (p *played) Preparing() (bool, error) { return p.under, nil }
func (p *played) Announcements() (<-chan bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.announce, nil
}

func (p *played) Close() error        { return nil }
func (p *played) Pods() []*corev1.Pod { return p.pods }
func (p *played) Evict(uid types.UID, reason, message string, grace time.Duration, disruption string) {
	if reason != "Terminated" || message != "Pod was terminated in response to imminent node shutdown." || disruption != message {
		p.t.Errorf("%s: %s (%s)", reason, message, disruption)
	}
	p.say("%s within %s", uid, grace)
	p.mu.Lock()
	p.told[uid] = time.Now()
	p.mu.Unlock()
}

func (p *played) Ended(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, told := p.told[uid]
	return told && time.Since(at) >= p.takes[uid]
}
func (p *played) Eventf(_ runtime.Object, _, reason, _ string, _ ...any) { p.say("event %s", reason) }

func TestShutdown(t *testing.T) {
	const second = time.Second
	for _, tc := range []struct {
		name   string
		takes  map[types.UID]time.Duration
		cancel time.Duration // 0: the shutdown goes on
		want   []string
	}{
		{"all end", map[types.UID]time.Duration{"web": 2 * second, "late": 3 * second, "dns": second, "ghost": second}, 0,
			[]string{"0s extended to 30s", "0s held", "0s changed", "0s event NodeShutdown", "0s web within 5s", "0s late within 20s", "3s dns within 10s", "4s released"}},
		{"one does not", map[types.UID]time.Duration{"web": 2 * second, "late": time.Hour, "dns": time.Hour}, 0,
			[]string{"0s extended to 30s", "0s held", "0s changed", "0s event NodeShutdown", "0s web within 5s", "0s late within 20s", "20s dns within 10s", "30s released"}},
		{"called off", map[types.UID]time.Duration{"web": 2 * second, "late": time.Hour}, 7 * second,
			[]string{"0s extended to 30s", "0s held", "0s changed", "0s event NodeShutdown", "0s web within 5s", "0s late within 20s", "7s changed", "40s released"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				done := newPod("ghost", 0, 30)
				done.Status.Phase = corev1.PodFailed
				p := &played{t: t, announce: make(chan bool), delay: 5 * second, takes: tc.takes, began: time.Now(), told: map[types.UID]time.Time{},
					pods: []*corev1.Pod{newPod("web", 0, 5), newPod("late", -10, 60), newPod("dns", 2_000_000_000, 30), done}}
				groups, err := Groups(30*second, 10*second, "")
				if err != nil {
					t.Fatal(err)
				}
				m := New(Config{Node: "n1", Groups: groups}, Parts{Dial: func() (Watcher, error) { return p, nil }, Events: p}, logging.ForTest(t))
				ctx, stop := context.WithCancel(t.Context())
				ran := make(chan error, 1)
				go func() { ran <- m.Run(ctx, p, func() { p.say("changed") }) }()
				n := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
				if m.Contribute(n); n.Status.Conditions[0].Status != corev1.ConditionTrue {
					t.Error("not ready without a shutdown")
				}
				p.announce <- true
				synctest.Wait()
				m.Contribute(n)
				if c := n.Status.Conditions[0]; c.Status != corev1.ConditionFalse || c.Reason != "KubeletNotReady" || c.Message != "node is shutting down" {
					t.Errorf("the node says %+v", c)
				}
				if reason, text := m.Admit(nil); reason != "NodeShutdown" || text != "Pod was rejected as the node is shutting down." {
					t.Errorf("a new pod: %s %s", reason, text)
				}
				if tc.cancel > 0 {
					time.Sleep(tc.cancel)
					p.announce <- false
					synctest.Wait()
					if reason, _ := m.Admit(nil); reason != "" || m.ShuttingDown() {
						t.Error("still going down")
					}
				}
				time.Sleep(40*second - time.Since(p.began))
				stop()
				if err := <-ran; err != nil {
					t.Error(err)
				}
				if !slices.Equal(p.story, tc.want) {
					t.Errorf("got  %q\nwant %q", p.story, tc.want)
				}
			})
		})
	}
}

// Where nobody announces shutdowns nothing happens, and one who comes later is heard.
func TestNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		m := New(Config{Groups: []Group{{0, time.Second}}}, Parts{Dial: func() (Watcher, error) { tries++; return nil, errors.New("no bus") }}, logging.ForTest(t))
		ctx, stop := context.WithTimeout(t.Context(), 65*time.Second)
		defer stop()
		if err := m.Run(ctx, nil, nil); err != nil || tries != 3 || m.ShuttingDown() {
			t.Errorf("%d tries, %v", tries, err)
		}
		off := New(Config{}, Parts{Dial: func() (Watcher, error) { t.Error("dialed"); return nil, nil }}, logging.ForTest(t))
		ctx, stop = context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := off.Run(ctx, nil, nil); err != nil {
			t.Error(err)
		}
	})
}

// machine is a manager over a played machine with one pod, and the times at which it said things.
func machine(t *testing.T, p *played) *Manager {
	p.t, p.announce, p.delay, p.began, p.told = t, make(chan bool), time.Minute, time.Now(), map[types.UID]time.Time{}
	p.pods = []*corev1.Pod{newPod("web", 0, 5)}
	return New(Config{Node: "n1", Groups: []Group{{0, 20 * time.Second}}}, Parts{Dial: func() (Watcher, error) {
		p.say("dialed")
		return p, nil
	}, Events: p}, logging.ForTest(t))
}

// A connection that is lost amid a shutdown does not stop the pods' ending, nor give up the lock before; who connects again asks how things are.
func TestLostAmidShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &played{takes: map[types.UID]time.Duration{"web": 4 * time.Second}}
		m := machine(t, p)
		ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
		defer stop()
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx, p, func() { p.say("changed") }) }()
		p.announce <- true
		close(p.announce)
		time.Sleep(10 * time.Second)
		p.mu.Lock()
		p.announce = make(chan bool)
		p.mu.Unlock()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if want := []string{"0s dialed", "0s held", "0s changed", "0s event NodeShutdown", "0s web within 5s", "4s released", "34s dialed", "34s held", "34s changed",
			"40s released"}; !slices.Equal(p.story, want) {
			t.Errorf("got  %q\nwant %q", p.story, want)
		}
	})
}

// A shutdown that is announced twice, or before the kubelet came, is one shutdown.
func TestAnnouncedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &played{under: true, takes: map[types.UID]time.Duration{"web": 4 * time.Second}}
		m := machine(t, p)
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx, p, func() { p.say("changed") }) }()
		time.Sleep(10 * time.Second)
		p.announce <- true
		synctest.Wait()
		if !m.ShuttingDown() {
			t.Error("the machine does not go down")
		}
		p.announce <- false
		if err := <-ran; err != nil || m.ShuttingDown() {
			t.Errorf("%v; going down: %t", err, m.ShuttingDown())
		}
		if want := []string{"0s dialed", "0s held", "0s changed", "0s event NodeShutdown", "0s web within 5s", "4s released", "10s changed", "10s held",
			"20s released"}; !slices.Equal(p.story, want) {
			t.Errorf("got  %q\nwant %q", p.story, want)
		}
	})
}
