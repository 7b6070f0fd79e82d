package daemonset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
)

// burst bounds how many pods one look at a DaemonSet creates, and how many it deletes; the rest follows when it is looked at again.
const burst = 250

// scene is what one look at a DaemonSet shows.
type scene struct {
	ds     *appsv1.DaemonSet
	hash   string        // of the present template's revision
	places []place       // every node, by name
	lost   []*corev1.Pod // pinned to nodes that are gone, and not bound

	now   time.Time
	gone  map[types.UID]bool              // pods that we deleted, though the cache does not show it yet
	pause func(node string) time.Duration // how long a failed pod on a node is left alone
}

// place is a node and the DaemonSet's pods on it or pinned to it: the bound before the others, then the oldest first. Finished pods
// that are going are in nobody's way, and left out.
type place struct {
	node string
	verdict
	pods []*corev1.Pod
}

// plan is what one look decides.
type plan struct {
	create []string      // names of nodes
	remove []*corev1.Pod // those that have ended by themselves among them
	again  time.Duration
}

// look sorts nodes and pods. Pods bound to nodes that are gone are podgc's.
func look(ds *appsv1.DaemonSet, now *appsv1.ControllerRevision, nodes []*corev1.Node, pods []*corev1.Pod) scene {
	s := scene{ds: ds, hash: hashOf(now), places: make([]place, 0, len(nodes))}
	on := make(map[string][]*corev1.Pod, len(nodes))
	for _, p := range pods {
		if n := target(p); n != "" && !(pod.Terminal(p) && pod.Terminating(p)) {
			on[n] = append(on[n], p)
		}
	}
	f := newFit(ds)
	for _, n := range nodes {
		here := on[n.Name]
		delete(on, n.Name)
		slices.SortFunc(here, older)
		s.places = append(s.places, place{node: n.Name, verdict: f.judge(n), pods: here})
	}
	slices.SortFunc(s.places, func(a, b place) int { return cmp.Compare(a.node, b.node) })
	for _, here := range on {
		for _, p := range here {
			if !pod.Assigned(p) {
				s.lost = append(s.lost, p)
			}
		}
	}
	slices.SortFunc(s.lost, older)
	return s
}

// older sorts as a place wants it. Times are whole seconds; of pods made in the same one, those that are ready come first.
func older(a, b *corev1.Pod) int {
	not := func(yes bool) int {
		if yes {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(not(pod.Assigned(a)), not(pod.Assigned(b))),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(not(pod.Ready(a)), not(pod.Ready(b))),
		cmp.Compare(a.Name, b.Name),
	)
}

// decide says what to make and what to end: first on each node by itself, then, between nodes, for the sake of the template.
func decide(s scene) plan {
	var p plan
	for _, o := range s.lost {
		if !s.going(o) {
			p.remove = append(p.remove, o)
		}
	}
	tidied := make([]spot, 0, len(s.places))
	for _, pl := range s.places {
		tidied = append(tidied, s.tidy(&p, pl))
	}
	if s.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		s.roll(&p, tidied)
	}
	p.create = p.create[:min(len(p.create), burst)]
	p.remove = p.remove[:min(len(p.remove), burst)]
	return p
}

// spot is a place after tidying: at most one pod of the present template lives there, and at most one of an older.
type spot struct {
	place
	fresh, stale *corev1.Pod
	ended        bool // one of the present template has ended, and is still there
}

// tidy makes a pod where there is none and should be, and ends those that should not be: on a node that does not fit any more, those
// that ended, and all but one. In a surge two may be: an old one that is ready, and a new one that is not available yet.
func (s scene) tidy(p *plan, pl place) spot {
	t := spot{place: pl}
	if len(pl.pods) == 0 {
		if pl.run {
			p.create = append(p.create, pl.node)
		}
		return t
	}
	surges := surge(s.ds, 1) > 0
	for _, o := range pl.pods {
		slot := &t.stale
		if s.updated(o) {
			slot = &t.fresh
		}
		switch {
		case s.going(o):
		case !pl.stay:
			p.remove = append(p.remove, o)
		case pod.Terminal(o):
			t.ended = t.ended || s.updated(o)
			s.ended(p, pl.node, o)
		case *slot != nil, !surges && (t.fresh != nil || t.stale != nil):
			p.remove = append(p.remove, o)
		default:
			*slot = o
		}
	}
	if t.fresh != nil && t.stale != nil && (!pod.Ready(t.stale) || s.available(t.fresh)) {
		p.remove = append(p.remove, t.stale)
		t.stale = nil
	}
	return t
}

// ended gives up a pod that has ended; one that failed only when its node's pause is over.
func (s scene) ended(p *plan, node string, o *corev1.Pod) {
	if o.Status.Phase == corev1.PodSucceeded {
		p.remove = append(p.remove, o)
		return
	}
	if wait := s.pause(node); wait > 0 {
		p.again = sooner(p.again, wait)
		return
	}
	p.remove = append(p.remove, o)
}

func (s scene) going(p *corev1.Pod) bool { return pod.Terminating(p) || s.gone[p.UID] }

func (s scene) available(p *corev1.Pod) bool {
	ok, _ := pod.Available(p, s.ds.Spec.MinReadySeconds, s.now)
	return ok
}

// updated says whether a pod is of the present template: by the hash of its revision, or by the number of the template.
func (s scene) updated(p *corev1.Pod) bool {
	if p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == s.hash {
		return true
	}
	g := s.ds.Annotations[appsv1.DeprecatedTemplateGeneration]
	return g != "" && p.Labels[generationLabel] == g
}

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
