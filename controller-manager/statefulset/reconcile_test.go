package statefulset

import (
	"math"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// decision is one case: revisions are the current and the new one.
type decision struct {
	name   string
	set    *appsv1.StatefulSet
	revs   string // "a b"; "a a" when empty
	pods   string
	claims string
	taken  string
	held   string // pods that lie for another second
	want   string
}

func run(t *testing.T, tc decision) plan {
	t.Helper()
	s := state{set: tc.set, deleted: map[types.UID]bool{}, taken: map[string]bool{}, claims: map[string]*corev1.PersistentVolumeClaim{}, now: now}
	current, next, _ := strings.Cut(tc.revs, " ")
	if tc.revs == "" {
		current, next = "a", "a"
	}
	old := tc.set.Spec.Template.DeepCopy()
	old.Spec.Containers[0].Image = current
	s.current, s.update = revision{current, old}, revision{next, &tc.set.Spec.Template}
	for _, text := range strings.Fields(tc.pods) {
		p, deleted := madePod(t, tc.set, text)
		s.pods = append(s.pods, p)
		s.deleted[p.UID] = deleted
	}
	for _, text := range strings.Fields(tc.claims) {
		c := madeClaim(t, text)
		s.claims[c.Name] = c
	}
	s.held = map[string]time.Duration{}
	for _, n := range strings.Fields(tc.held) {
		s.held[n] = time.Second
	}
	for _, n := range strings.Fields(tc.taken) {
		s.taken[n] = true
	}
	return decide(s)
}

func decided(t *testing.T, cases []decision) {
	t.Helper()
	seen := map[string]bool{}
	for _, tc := range cases {
		if seen[tc.name] {
			t.Errorf("two cases are called %q", tc.name)
		}
		seen[tc.name] = true
		t.Run(tc.name, func(t *testing.T) {
			p := run(t, tc)
			if got := told(p); got != tc.want {
				t.Errorf("decided %q\n   want %q", got, tc.want)
			}
			if waits := p.again > 0; waits != (tc.held != "" && tc.want == "") || waits && p.again != time.Second {
				t.Errorf("again after %v", p.again)
			}
		})
	}
}

func TestScalingInOrder(t *testing.T) {
	decided(t, []decision{
		{name: "a new set begins with the first", set: web(), want: "create web-0@a"},
		{name: "none wished, none made", set: web(size(0))},
		{name: "all well", set: web(), pods: "web-0@a web-1@a web-2@a"},
		{name: "the next when the first is ready", set: web(), pods: "web-0@a", want: "create web-1@a"},
		{name: "not while the first is not ready", set: web(), pods: "web-0@a:unready"},
		{name: "nor while it is pending", set: web(), pods: "web-0@a:pending"},
		{name: "nor ready for too short a time", set: web(minReady(10)), pods: "web-0@a:young"},
		{name: "ready for long enough", set: web(minReady(10)), pods: "web-0@a", want: "create web-1@a"},
		{name: "a gap is filled first", set: web(), pods: "web-1@a web-2@a", want: "create web-0@a"},
		{name: "a gap above a broken one waits", set: web(), pods: "web-0@a:unready web-2@a"},
		{name: "one that is leaving is waited for", set: web(), pods: "web-0@a web-1@a:leaving"},
		{name: "one that we deleted is leaving, though it does not look so", set: web(), pods: "web-0@a web-1@a:deleted"},
		{name: "a failed one is removed", set: web(), pods: "web-0@a:failed web-1@a", want: "remove web-0"},
		{name: "and one that has finished", set: web(), pods: "web-0@a web-1@a:succeeded", want: "remove web-1"},
		{name: "a failed one that is leaving is waited for", set: web(), pods: "web-0@a:failed,leaving"},
		{name: "one that fails time and again lies for a while", set: web(), pods: "web-0@a:failed web-1@a", held: "web-0"},
		{name: "but not when the next is of another template", set: web(), revs: "a b", pods: "web-0@a:failed web-1@a", held: "web-0", want: "remove web-0"},
		{name: "nor when none is to follow", set: web(size(0)), pods: "web-0@a:failed", held: "web-0", want: "remove web-0"},
		{name: "a failed one above a broken one waits", set: web(), pods: "web-0@a:unready web-1@a:failed"},
		{name: "the highest goes first", set: web(size(1)), pods: "web-0@a web-1@a web-2@a", want: "remove web-2"},
		{name: "ten is higher than nine", set: web(size(1)), pods: "web-0@a web-9@a web-10@a", want: "remove web-10"},
		{name: "the next only when it is gone", set: web(size(1)), pods: "web-0@a web-1@a web-2@a:leaving"},
		{name: "none while one that stays is not ready", set: web(size(1)), pods: "web-0@a:unready web-1@a web-2@a"},
		{name: "none while one that stays is missing", set: web(size(1)), pods: "web-1@a web-2@a", want: "create web-0@a"},
		{name: "a broken one goes when all below are well", set: web(size(1)), pods: "web-0@a web-1@a web-2@a:unready", want: "remove web-2"},
		{name: "but not while one below it is broken too", set: web(size(0)), pods: "web-0@a:unready web-1@a:unready web-2@a:unready"},
		{name: "the lowest broken one goes", set: web(size(0)), pods: "web-0@a:unready", want: "remove web-0"},
		{name: "a failed one too many goes", set: web(size(2)), pods: "web-0@a web-1@a web-2@a:failed", want: "remove web-2"},
		{name: "to nothing", set: web(size(0)), pods: "web-0@a", want: "remove web-0"},
		{name: "a higher start makes the new ones first", set: web(from(2)), pods: "web-0@a web-1@a web-2@a", want: "create web-3@a"},
		{name: "and then removes the old ones from above", set: web(from(2)), pods: "web-0@a web-1@a web-2@a web-3@a web-4@a", want: "remove web-1"},
		{name: "a lower start", set: web(from(0)), pods: "web-2@a web-3@a web-4@a", want: "create web-0@a"},
		{name: "a set that begins elsewhere", set: web(from(5)), want: "create web-5@a"},
		{name: "a name that is taken is waited for", set: web(), pods: "web-0@a", taken: "web-1", want: `web-1: pods "web-1" already exists`},
		{name: "labels of its identity are put back", set: web(), pods: "web-0@a:nameless web-1@a:unindexed web-2@a", want: "update web-0; update web-1"},
	})
}

func TestScalingAtOnce(t *testing.T) {
	decided(t, []decision{
		{name: "all are made", set: web(parallel), want: "create web-0@a; create web-1@a; create web-2@a"},
		{name: "whatever the others are like", set: web(parallel), pods: "web-0@a:unready web-2@a:leaving", want: "create web-1@a"},
		{name: "all too many go", set: web(parallel, size(1)), pods: "web-0@a:unready web-1@a web-2@a:unready", want: "remove web-2; remove web-1"},
		{name: "one that is leaving is not asked again", set: web(parallel, size(1)), pods: "web-0@a web-1@a:deleted web-2@a:leaving"},
		{name: "failed ones are removed together", set: web(parallel), pods: "web-0@a:failed web-1@a:succeeded web-2@a", want: "remove web-0; remove web-1"},
		{name: "those that fail time and again lie", set: web(parallel), pods: "web-0@a:failed web-1@a:succeeded web-2@a", held: "web-0 web-1"},
		{name: "a start that moves", set: web(parallel, from(1)), pods: "web-0@a web-1@a web-2@a", want: "create web-3@a; remove web-0"},
		{name: "a taken name hinders no other", set: web(parallel), taken: "web-1", want: `web-1: pods "web-1" already exists; create web-0@a; create web-2@a`},
		{name: "labels", set: web(parallel), pods: "web-0@a:nameless web-1@a:leaving,nameless web-2@a", want: "update web-0"},
	})
}

func TestBurst(t *testing.T) {
	p := run(t, decision{set: web(parallel, size(2000))})
	if len(p.steps) != burst {
		t.Errorf("%d steps in one look, want %d", len(p.steps), burst)
	}
}

func TestAnyNumberIsLookedAtInPart(t *testing.T) {
	decided(t, []decision{
		{name: "in order", set: web(size(math.MaxInt32)), want: "create web-0@a"},
		{name: "a pod far above", set: web(size(math.MaxInt32)), pods: "web-0@a web-2147483640@a:unready", want: "create web-1@a"},
		{name: "labels far above", set: web(size(math.MaxInt32), parallel, onDelete), pods: "web-2147483640@a:nameless", want: told(run(t, decision{set: web(size(burst), parallel)})) + "; update web-2147483640"},
		{name: "from far above", set: web(from(math.MaxInt32), size(1)), want: "create web-2147483647@a"},
	})
	p := run(t, decision{set: web(size(math.MaxInt32), parallel), pods: "web-0@a web-2147483640@a"})
	if len(p.steps) != burst || p.unavailable != math.MaxInt32-2 {
		t.Errorf("%d steps with %d unavailable, want %d with %d", len(p.steps), p.unavailable, burst, math.MaxInt32-2)
	}
}

func TestRollout(t *testing.T) {
	decided(t, []decision{
		{name: "the highest first", set: web(), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2"},
		{name: "made anew of the new template", set: web(), revs: "a b", pods: "web-0@a web-1@a", want: "create web-2@b"},
		{name: "the next waits until it is ready", set: web(), revs: "a b", pods: "web-0@a web-1@a web-2@b:unready"},
		{name: "and has been for long enough", set: web(minReady(10)), revs: "a b", pods: "web-0@a web-1@a web-2@b:young"},
		{name: "then the next", set: web(), revs: "a b", pods: "web-0@a web-1@a web-2@b", want: "remove web-1"},
		{name: "the lowest last", set: web(), revs: "a b", pods: "web-0@a web-1@b web-2@b", want: "remove web-0"},
		{name: "done", set: web(), revs: "a b", pods: "web-0@b web-1@b web-2@b"},
		{name: "scaling goes before updating", set: web(size(2)), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2"},
		{name: "growing while updating makes new ones of the new template", set: web(size(4)), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "create web-3@b"},
		{name: "without particulars one at a time", set: web(plainRolling), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2"},

		{name: "only from the partition on", set: web(parted(2)), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2"},
		{name: "and no further", set: web(parted(2)), revs: "a b", pods: "web-0@a web-1@a web-2@b"},
		{name: "a partition above all", set: web(parted(9)), revs: "a b", pods: "web-0@a web-1@a web-2@a"},
		{name: "below it the current template is used", set: web(parted(2)), revs: "a b", pods: "web-0@a web-2@b", want: "create web-1@a"},
		{name: "from it on the new one", set: web(parted(2)), revs: "a b", pods: "web-0@a web-1@a", want: "create web-2@b"},
		{name: "it counts from the start", set: web(parted(1), from(5)), revs: "a b", pods: "web-5@a web-6@a web-7@a", want: "remove web-7"},
		{name: "it counts from the start, below", set: web(parted(1), from(5)), revs: "a b", pods: "web-6@a web-7@a", want: "create web-5@a"},
		{name: "raised over updated ones, it leaves them", set: web(parted(3)), revs: "a b", pods: "web-0@a web-1@b web-2@b:unready"},

		{name: "two at a time", set: web(atMost("2")), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2; remove web-1"},
		{name: "in order they are made one by one", set: web(atMost("2")), revs: "a b", pods: "web-0@a", want: "create web-1@b"},
		{name: "a part of them, rounded up", set: web(atMost("34%")), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2; remove web-1"},
		{name: "a small part is one", set: web(atMost("1%")), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2"},
		{name: "all", set: web(atMost("100%")), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2; remove web-1; remove web-0"},
		{name: "all from the partition on", set: web(atMost("100%"), parted(1)), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2; remove web-1"},

		{name: "at once, one at a time", set: web(parallel), revs: "a b", pods: "web-0@a web-1@a web-2@a", want: "remove web-2"},
		{name: "at once, what is not available counts", set: web(parallel), revs: "a b", pods: "web-0@a web-1@a web-2@b:unready"},
		{name: "at once, what is missing counts", set: web(parallel, atMost("2")), revs: "a b", pods: "web-0@a web-1@a", want: "create web-2@b; remove web-1"},
		{name: "at once, what is leaving counts", set: web(parallel, atMost("2")), revs: "a b", pods: "web-0@a web-1@a web-2@a:leaving", want: "remove web-1"},
		{name: "at once, young ones count", set: web(parallel, minReady(10)), revs: "a b", pods: "web-0@a web-1@a web-2@b:young"},
		{name: "at once, a young old one costs nothing in its turn", set: web(parallel, minReady(10)), revs: "a b", pods: "web-0@a web-1@a web-2@a:young", want: "remove web-2"},
		{name: "at once, but a young one does not go before its turn", set: web(parallel, minReady(10)), revs: "a b", pods: "web-0@a:young web-1@a web-2@a"},

		{name: "on delete, none is ended", set: web(onDelete), revs: "a b", pods: "web-0@a web-1@a:unready web-2@a"},
		{name: "on delete, the new template is used", set: web(onDelete), revs: "a b", pods: "web-0@a web-2@a", want: "create web-1@b"},
		{name: "on delete, at once", set: web(onDelete, parallel), revs: "a b", pods: "web-0@a web-1@a:unready", want: "create web-2@b"},
	})
}

func TestHealing(t *testing.T) {
	decided(t, []decision{
		{name: "a broken first template", set: web(), revs: "a b", pods: "web-0@a:unready", want: "remove web-0"},
		{name: "which cannot even be placed", set: web(), revs: "a b", pods: "web-0@a:pending", want: "remove web-0"},
		{name: "a broken update is followed by a good one", set: web(), revs: "a c", pods: "web-0@a web-1@a web-2@b:unready", want: "remove web-2"},
		{name: "or taken back", set: web(), revs: "a a", pods: "web-0@a web-1@a web-2@b:unready", want: "remove web-2"},
		{name: "no healthy one goes out of order", set: web(), revs: "a c", pods: "web-0@a web-1@a web-2@b:leaving"},
		{name: "one that is ready but young is waited for", set: web(minReady(10)), revs: "a c", pods: "web-0@a web-1@a web-2@b:young"},
		{name: "one of the newest template is waited for", set: web(), revs: "a c", pods: "web-0@a web-1@a web-2@c:unready"},
		{name: "one at a time", set: web(), revs: "a c", pods: "web-0@a web-1@b:unready web-2@b:unready", want: "remove web-1"},
		{name: "one on a lost node is respected", set: web(), revs: "a c", pods: "web-0@a web-1@a web-2@b:unready,leaving"},
		{name: "below the partition what nobody wants goes", set: web(parted(3)), revs: "a c", pods: "web-0@a web-1@a web-2@b:unready", want: "remove web-2"},
		{name: "below the partition the current one is waited for", set: web(parted(3)), revs: "a c", pods: "web-0@a web-1@a:unready web-2@a"},
		{name: "too many and broken", set: web(size(1)), revs: "a c", pods: "web-0@a web-1@b:unready web-2@b:unready", want: "remove web-2"},
		{name: "at once, all that are broken", set: web(parallel), revs: "a c", pods: "web-0@a web-1@b:unready web-2@b:unready", want: "remove web-2; remove web-1"},
		{name: "at once, wherever they stand", set: web(parallel), revs: "a c", pods: "web-0@b:unready web-1@a web-2@a", want: "remove web-0"},
		{name: "at once, below the partition", set: web(parallel, parted(3)), revs: "a c", pods: "web-0@a:unready web-1@b:unready web-2@b", want: "remove web-1"},
		{name: "at once, a broken one costs nothing and counts", set: web(parallel, atMost("2")), revs: "a b", pods: "web-0@a web-1@a:unready web-2@a", want: "remove web-2; remove web-1"},
		{name: "on delete nothing heals by itself", set: web(onDelete), revs: "a b", pods: "web-0@a:unready"},
		{name: "a failed one of a broken template", set: web(), revs: "a c", pods: "web-0@a web-1@a web-2@b:failed", want: "remove web-2"},
	})
}

func TestHolds(t *testing.T) {
	h := newHolds()
	at := now
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if i == 0 && h.left("a", at) != 0 {
			t.Error("the first failure is held")
		}
		h.fell("a", at)
		if got := h.left("a", at); got != want*time.Second {
			t.Errorf("held for %v after %d failures, want %v", got, i+1, want*time.Second)
		}
		at = at.Add(want * time.Second)
		if got := h.left("a", at); got != 0 {
			t.Errorf("held for %v more", got)
		}
	}
	h.fell("b", at.Add(2*worstHold+time.Second))
	if len(h.falls) != 1 {
		t.Errorf("%d remembered, want the last", len(h.falls))
	}
}

func TestMaxUnavailable(t *testing.T) {
	for name, tc := range map[string]struct {
		set  *appsv1.StatefulSet
		want int
	}{
		"by default":              {web(plainRolling), 1},
		"a number":                {web(atMost("2")), 2},
		"a part, rounded up":      {web(atMost("34%")), 2},
		"at least one, of none":   {web(atMost("50%"), size(0)), 1},
		"on delete there is none": {web(onDelete), 0},
	} {
		if got := maxUnavailable(tc.set); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}
