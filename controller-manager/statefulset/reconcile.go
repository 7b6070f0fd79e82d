package statefulset

import (
	"cmp"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
)

// state is all that a decision goes by.
type state struct {
	set     *appsv1.StatefulSet
	pods    []*corev1.Pod                            // the set's
	deleted map[types.UID]bool                       // of these, by us, though they do not look so yet
	taken   map[string]bool                          // names of pods to be made that are those of pods of others
	claims  map[string]*corev1.PersistentVolumeClaim // by name: of the pods that are there or to be made
	held    map[string]time.Duration                 // by pod: how long one that has failed again and again is left lying
	current revision                                 // of the template that all pods last had
	update  revision                                 // of the template that is in the set
	now     time.Time
}

type revision struct {
	name     string
	template *corev1.PodTemplateSpec
}

type verb int

const (
	settle verb = iota // nothing but the claims
	create
	update
	remove
)

// step is what to do about one pod: first its claims, then it.
type step struct {
	do     verb
	have   *corev1.Pod // to be updated
	pod    *corev1.Pod // as it is to be, or is to be removed
	claims []claimWrite
}

// plan is what to do now. What must wait for something is not in it: the pod or claim waited for wakes the set when it changes.
type plan struct {
	steps     []step // one a pod at most
	hindered  []hindrance
	contested []string      // claims of pods to be made that somebody else controls, though the set would
	atOnce    bool          // steps do not wait for each other
	again     time.Duration // after which a pod need no longer lie; 0: none does

	unavailable    int // of the wished pods
	maxUnavailable int // 0: the strategy has none
}

// hindrance is why a pod cannot be made though it is its turn.
type hindrance struct{ pod, why string }

// burst bounds what one look at a set creates or removes; the rest follows when it is looked at again.
const burst = 500

// health orders what a pod may be like.
type health int

const (
	missing health = iota
	finished
	leaving
	unready
	young // ready, but not yet for minReadySeconds
	available
)

// round is one decision on its way.
type round struct {
	state
	plan   plan
	slots  []slot        // those wished for, by ordinal
	beyond []*corev1.Pod // those not wished for, the highest ordinal first

	planned map[*corev1.Pod]int // which step is about a pod that is there
	moves   int                 // steps that create or remove
}

// decide compares the pods with the wish.
func decide(s state) plan {
	r := round{state: s, planned: map[*corev1.Pod]int{}}
	r.slots, r.beyond = sorted(s.set, s.pods)
	r.plan.unavailable = replicas(s.set)
	for _, s := range r.slots {
		if r.health(s.pod) == available {
			r.plan.unavailable--
		}
	}
	r.plan.maxUnavailable = maxUnavailable(s.set)
	r.plan.atOnce = s.set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement
	if r.plan.atOnce {
		r.decideAtOnce()
	} else {
		r.decideInOrder()
	}
	return r.plan
}

// slot is a wished ordinal, by its place in the set, and its pod, nil where there is none.
type slot struct {
	index int
	pod   *corev1.Pod
}

// gaps is how many missing pods one look goes by, more than it makes: nobody is kept from wishing for more pods than memory holds.
const gaps = 4 * burst

// sorted are the slots that have a pod and, of those that have none, the lowest, in order; and the pods that are in none, the highest
// ordinal first.
func sorted(set *appsv1.StatefulSet, pods []*corev1.Pod) (slots []slot, beyond []*corev1.Pod) {
	ordinal := func(p *corev1.Pod) int { n, _ := ordinalOf(set, p); return n }
	in := map[int]*corev1.Pod{}
	for _, p := range pods {
		n, ok := ordinalOf(set, p)
		switch i := n - start(set); {
		case !ok:
		case i >= 0 && i < replicas(set):
			in[i] = p
		default:
			beyond = append(beyond, p)
		}
	}
	slices.SortFunc(beyond, func(a, b *corev1.Pod) int { return cmp.Compare(ordinal(b), ordinal(a)) })
	for i, left := 0, gaps; i < replicas(set) && left > 0; i++ {
		p := in[i]
		if slots = append(slots, slot{i, p}); p == nil {
			left--
		}
		delete(in, i)
	}
	for _, i := range slices.Sorted(maps.Keys(in)) {
		slots = append(slots, slot{i, in[i]})
	}
	return slots, beyond
}

func (r *round) ordinal(p *corev1.Pod) int {
	n, _ := ordinalOf(r.set, p)
	return n
}

func (r *round) leaving(p *corev1.Pod) bool { return pod.Terminating(p) || r.deleted[p.UID] }

func (r *round) health(p *corev1.Pod) health {
	switch {
	case p == nil:
		return missing
	case r.leaving(p):
		return leaving
	case pod.Terminal(p):
		return finished
	case !ready(p):
		return unready
	}
	if ok, _ := pod.Available(p, r.set.Spec.MinReadySeconds, r.now); !ok {
		return young
	}
	return available
}

func ready(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && pod.Ready(p) }

// decideInOrder changes one pod at a time: it makes the lowest that is missing once all before it are available, then removes the highest
// that is too many, and only then goes on with an update.
func (r *round) decideInOrder() {
	for _, s := range r.slots {
		i, p := s.index, s.pod
		h := r.health(p)
		switch h {
		case missing:
			r.create(i)
			return
		case finished:
			r.replace(i, p)
			return
		}
		r.keep(p, false)
		if h == unready && r.unwanted(i, p) {
			r.remove(p)
		}
		if h != available {
			return
		}
	}
	for _, p := range r.beyond {
		r.keep(p, true)
	}
	if len(r.beyond) > 0 {
		r.shrinkInOrder()
		return
	}
	r.rollOut()
}

// shrinkInOrder removes the highest pod that is too many. One that is not available is waited for while there is one below it
// that is not either: then something is wrong with all, and each that ends makes it worse.
func (r *round) shrinkInOrder() {
	p := r.beyond[0]
	h := r.health(p)
	if h == leaving {
		return
	}
	broken := slices.ContainsFunc(r.beyond[1:], func(below *corev1.Pod) bool { return r.health(below) != available })
	if (h == unready || h == young) && broken && !(h == unready && r.superseded(replicas(r.set), p)) {
		return
	}
	r.remove(p)
}

// decideAtOnce makes what is missing and removes what is too many without waiting for anything.
func (r *round) decideAtOnce() {
	for _, s := range r.slots {
		i, p := s.index, s.pod
		switch r.health(p) {
		case missing:
			r.create(i)
		case finished:
			r.replace(i, p)
		default:
			r.keep(p, false)
		}
	}
	for _, p := range r.beyond {
		r.keep(p, true)
		if !r.leaving(p) {
			r.remove(p)
		}
	}
	r.rollOut()
}

// create makes the pod with that index, of the revision that belongs there, unless its name or its claims are not free.
func (r *round) create(i int) {
	ordinal := start(r.set) + i
	name := podName(r.set, ordinal)
	if r.taken[name] {
		r.plan.hindered = append(r.plan.hindered, hindrance{name, `pods "` + name + `" already exists`})
		return
	}
	if claim, going := r.goingClaim(ordinal); claim != "" {
		if going {
			r.plan.hindered = append(r.plan.hindered, hindrance{name, "pvc " + claim + " is being deleted"})
		}
		return
	}
	if r.moves == burst {
		return
	}
	r.moves++
	r.plan.contested = append(r.plan.contested, r.contested(ordinal)...)
	r.plan.steps = append(r.plan.steps, step{do: create, pod: newPod(r.set, r.wanted(i), ordinal), claims: r.claimsFor(ordinal, nil, false)})
}

// keep sets right what a pod that stays for now has to have: its labels, its claims, their owners.
func (r *round) keep(p *corev1.Pod, beyond bool) {
	ordinal := r.ordinal(p)
	s := step{do: settle, pod: p, claims: r.claimsFor(ordinal, p, beyond)}
	if want := mended(p, ordinal); want != nil && !beyond && !r.leaving(p) {
		s.do, s.have, s.pod = update, p, want
	}
	if s.do == update || len(s.claims) > 0 {
		r.planned[p] = len(r.plan.steps)
		r.plan.steps = append(r.plan.steps, s)
	}
}

// replace removes a pod that has failed or finished. When that happens to it time and again, it lies for a while, unless the next one will
// be of another template.
func (r *round) replace(i int, p *corev1.Pod) {
	hold := r.held[p.Name]
	if hold <= 0 || rolling(r.set) && revisionOf(p) != r.wanted(i).name {
		r.remove(p)
	} else if r.plan.again == 0 || hold < r.plan.again {
		r.plan.again = hold
	}
}

// remove ends a pod, once its claims are settled.
func (r *round) remove(p *corev1.Pod) {
	if r.moves == burst {
		return
	}
	r.moves++
	if i, there := r.planned[p]; there {
		r.plan.steps[i] = step{do: remove, pod: p, claims: r.plan.steps[i].claims}
		return
	}
	r.plan.steps = append(r.plan.steps, step{do: remove, pod: p})
}
