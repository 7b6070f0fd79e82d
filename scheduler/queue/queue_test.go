package queue

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// TestTranscripts plays the scripts in testdata: each command is followed by ---- and what the queue answers. Time is virtual.
//
//	add NAME [priority=N] [gate] [label=V]   the feed tells of a pod, new or changed
//	status NAME                               the feed tells of it again, with only its status changed
//	delete NAME                               the feed tells that it is gone
//	pop                                       the cycle takes a pod
//	park NAME PLUGIN…   retry NAME   done NAME   the cycle ends its trip
//	event KIND                                something happened
//	advance DURATION
//
// The plugins of these scripts are "gone", helped by PodGone; "node", helped by NodeAdded; "label", helped by a change of the
// waiting pod; and "deaf", helped by nothing.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			synctest.Test(t, func(t *testing.T) { got = play(t, script) })
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, script) {
				t.Errorf("the queue did something else (run with -update and look at the difference):\n%s", got)
			}
		})
	}
}

type rules struct{}

func (rules) PreEnqueue(p *nodeinfo.Pod) *framework.Status {
	if len(p.Spec.SchedulingGates) > 0 {
		return framework.RefuseForGood("gates", "gated")
	}
	return nil
}

func (rules) Helps(plugin string, _ *nodeinfo.Pod, e framework.Event) bool {
	return map[string]framework.EventKind{"gone": framework.PodGone, "node": framework.NodeAdded, "label": framework.WaiterUpdated, "deaf": -1}[plugin] == e.Kind
}

// play runs a script and returns it with the answers as they were.
func play(t *testing.T, script []byte) []byte {
	q := New(rules{})
	flying := map[string]*Item{}
	var out bytes.Buffer
	skip := false
	for line := range strings.Lines(string(script)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "----":
			skip = true // the answer that follows was written already
			continue
		case line == "":
			skip = false
			out.WriteString("\n")
			continue
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
			continue
		case skip:
			continue
		}
		fmt.Fprintf(&out, "%s\n----\n", line)
		answer := command(t, q, flying, strings.Fields(line))
		fmt.Fprintf(&out, "%s%s\n", answer, state(q))
		verify(t, q)
	}
	return out.Bytes()
}

func command(t *testing.T, q *Queue, flying map[string]*Item, words []string) string {
	switch verb, args := words[0], words[1:]; verb {
	case "add":
		q.Set(testPod(args[0], "", args[1:]...))
	case "status":
		q.mu.Lock()
		p := q.pods[types.UID(args[0])].Pod.DeepCopy()
		q.mu.Unlock()
		p.ResourceVersion += "1"
		p.Status.Reason = "changed"
		q.Set(nodeinfo.NewPod(p))
	case "delete":
		q.Delete(types.UID(args[0]))
	case "pop":
		it, wait := q.next()
		if it == nil {
			return fmt.Sprintf("none for %s\n", wait)
		}
		flying[it.Pod.Name] = it
		return fmt.Sprintf("got %s, attempt %d\n", it.Pod.Name, it.Attempts)
	case "park":
		q.Park(flying[args[0]], args[1:])
	case "retry":
		q.Retry(flying[args[0]])
	case "done":
		q.Done(flying[args[0]])
	case "event":
		i := slices.IndexFunc([]framework.EventKind{0, 1, 2, 3, 4}, func(k framework.EventKind) bool { return k.String() == args[0] })
		if i < 0 {
			t.Fatalf("no event %s", args[0])
		}
		q.Event(framework.Event{Kind: framework.EventKind(i)})
	case "advance":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(d)
	default:
		t.Fatalf("no command %q", verb)
	}
	return ""
}

func testPod(name, uid string, options ...string) *nodeinfo.Pod {
	if uid == "" {
		uid = name
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "priority":
			n, _ := strconv.ParseInt(value, 10, 32)
			n32 := int32(n)
			p.Spec.Priority = &n32
		case "gate":
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}}
		case "label":
			p.Labels = map[string]string{"l": value}
		}
	}
	return nodeinfo.NewPod(p)
}

// state is everything in the queue in one line a place, empty places left out.
func state(q *Queue) string {
	places := map[place][]*Item{}
	for _, it := range q.pods {
		places[it.place] = append(places[it.place], it)
	}
	var b strings.Builder
	for i, title := range []string{"active", "backing off", "waiting", "in flight"} {
		items := places[place(i)]
		if len(items) == 0 {
			continue
		}
		slices.SortFunc(items, func(a, b *Item) int { return int(a.age) - int(b.age) })
		if place(i) == inActive {
			slices.SortFunc(items, func(a, b *Item) int {
				if moreUrgent(a, b) {
					return -1
				}
				return 1
			})
		}
		fmt.Fprintf(&b, "%s:", title)
		for _, it := range items {
			fmt.Fprintf(&b, " %s", it.Pod.Name)
			if it.gated {
				b.WriteString("(gated)")
			}
			if it.place == inBacking {
				fmt.Fprintf(&b, "(%s)", time.Until(it.due))
			}
		}
		b.WriteString("; ")
	}
	if b.Len() == 0 {
		return "empty"
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// verify checks that every pod is in the one place that it says.
func verify(t *testing.T, q *Queue) {
	t.Helper()
	found := map[*Item]int{}
	for _, it := range q.active.items {
		found[it]++
		if it.place != inActive || q.active.items[it.index] != it {
			t.Fatalf("%s is among the active, but says %d", it.Pod.Name, it.place)
		}
	}
	for _, it := range q.backing.items {
		found[it]++
		if it.place != inBacking || q.backing.items[it.index] != it {
			t.Fatalf("%s is backing off, but says %d", it.Pod.Name, it.place)
		}
	}
	for _, it := range q.waiting {
		found[it]++
		if it.place != inWaiting {
			t.Fatalf("%s is waiting, but says %d", it.Pod.Name, it.place)
		}
	}
	for _, it := range q.flight {
		found[it]++
		if it.place != inFlight {
			t.Fatalf("%s is in flight, but says %d", it.Pod.Name, it.place)
		}
	}
	if len(found) != len(q.pods) {
		t.Fatalf("%d pods, %d in places", len(q.pods), len(found))
	}
	for it, n := range found {
		if n != 1 || q.pods[it.Pod.UID] != it {
			t.Fatalf("%s is in %d places", it.Pod.Name, n)
		}
	}
}

func TestPopWaitsForTheClockAndForArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(rules{})
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string)
		go func() {
			defer close(got)
			for {
				it, err := q.Pop(ctx)
				if err != nil {
					return
				}
				got <- it.Pod.Name
				q.Retry(it)
			}
		}()
		begun := time.Now()
		q.Set(testPod("a", ""))
		for i, after := range []time.Duration{0, 1, 3, 7, 15, 25, 35} {
			if name := <-got; name != "a" || time.Since(begun) != after*time.Second {
				t.Errorf("pop %d: %s after %s, want after %ds", i, name, time.Since(begun), after)
			}
		}
		cancel()
		<-got
	})
}

func TestJournalThatOverflowsCountsAsHelp(t *testing.T) {
	q := New(rules{})
	q.Set(testPod("a", ""))
	it, _ := q.next()
	for range maxJournal + 1 {
		q.Event(framework.Event{Kind: framework.NodeUpdated})
	}
	q.Park(it, []string{"deaf"})
	if it.place != inBacking {
		t.Errorf("an event may have been lost, so the pod must back off; it is in place %d", it.place)
	}
	if n := len(q.events.events); n != 0 {
		t.Errorf("nothing is in flight, and %d events are kept", n)
	}
}

// TestLongTripKeepsNoEvents is a pod whose binding waits for minutes, as for a volume: its trip does not end in a refusal, so what
// happens meanwhile is kept for others only.
func TestLongTripKeepsNoEvents(t *testing.T) {
	q := New(rules{})
	q.Set(testPod("long", ""))
	long, _ := q.next()
	q.Event(framework.Event{Kind: framework.NodeUpdated})
	q.Gone(long)
	if n := len(q.events.events); n != 0 {
		t.Errorf("%d events are kept for nobody", n)
	}
	q.Event(framework.Event{Kind: framework.NodeUpdated})
	if n := len(q.events.events); n != 0 {
		t.Errorf("%d events are kept for nobody", n)
	}
	q.Set(testPod("short", ""))
	short, _ := q.next()
	q.Event(framework.Event{Kind: framework.NodeAdded})
	q.Park(short, []string{"node"})
	if short.place != inBacking {
		t.Errorf("what helps a short trip was lost: it is in place %d", short.place)
	}
	if n := len(q.events.events); n != 0 {
		t.Errorf("%d events are kept for nobody", n)
	}
	if c := q.Counts(); c.InFlight != 1 {
		t.Errorf("%d in flight", c.InFlight)
	}
	q.Park(long, []string{"deaf"}) // nobody does, but nothing may be lost
	if long.place != inBacking {
		t.Errorf("a long trip that was refused must back off; it is in place %d", long.place)
	}
}
