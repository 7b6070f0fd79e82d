package pods

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/images"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/probes"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/pod"
)

// worker is one pod's goroutine and what others may reach of it.
type worker struct {
	uid   types.UID // set once, as all in this group
	cfg   *Config
	parts *Parts
	log   *zap.Logger
	wake  chan struct{}
	roomy func() // tells that others' resizes may have room now; nil: nobody asks

	saving sync.Mutex // held while the allocation's file is written

	ended atomic.Bool // it has its last phase, and whoever must know it does

	mu     sync.Mutex
	pod    *corev1.Pod    // the slot: the newest object; guarded by mu, as all below
	given  *allocation    // the resources that it was given; nil for a pod that nobody wishes for
	gone   bool           // it is not wished for any more
	posted []func(*state) // what happened, to be applied by the worker
}

// state is what the worker's goroutine owns. Actions get copies of what they need and post what they found.
type state struct {
	pod               *corev1.Pod               // the newest object, with the status this worker computed last
	raw               *corev1.Pod               // the newest object as it came
	has               map[string]cgroups.Actual // what running containers have, by ID; read again where remeasure says so
	given             *allocation
	remeasure         bool
	pending, progress *corev1.PodCondition // of resizes; nil without
	gone              bool
	seen              Seen

	// starts and ends: when the pod and its containers did, by our own clock.
	starts, ends moments

	odd bool // something about the pod made us panic
	// released: what was granted to its containers is given back, since none will run again.
	released bool
	dirty    bool // containers must be listed again
	evicted  *End
	final    *End // set once the pod has its last phase
	// endBy and endGrace: when the end was first asked for, and how long it may take.
	endBy    time.Time
	endGrace time.Duration
	// ending: its end was asked for. Its containers go on until from, see drained.
	ending bool
	from   time.Time

	group   string
	volumes map[string]volumes.Volume
	images  map[string]images.Image // by container, for its next start
	ready   map[string]bool         // by container ID
	notes   map[string]string       // by container ID
	cancels map[string]context.CancelFunc
	waited  map[string]string // reasons that were told as events, by container
	acked   corev1.PodPhase
	last    *corev1.PodStatus // what was set last
	told    *corev1.Pod       // the object as it came to which that was said
}

func newWorker(p *corev1.Pod, cfg *Config, parts *Parts, log *zap.Logger) *worker {
	return &worker{
		uid: p.UID, cfg: cfg, parts: parts, pod: p, wake: make(chan struct{}, 1),
		log: log.With(zap.String("namespace", p.Namespace), zap.String("name", p.Name)),
	}
}

// wish puts a newer object into the slot.
func (w *worker) wish(p *corev1.Pod, gone bool) {
	w.mu.Lock()
	w.pod, w.gone = p, w.gone || gone
	w.mu.Unlock()
	w.nudge()
}

// post has f applied by the worker's goroutine.
func (w *worker) post(f func(*state)) {
	w.mu.Lock()
	w.posted = append(w.posted, f)
	w.mu.Unlock()
	w.nudge()
}

func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run works until the pod is gone for good or ctx ends. It then waits for its actions.
func (w *worker) run(ctx context.Context) {
	s := newState(w.newest())
	var actions sync.WaitGroup
	defer actions.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		var plan Plan
		if err := calmly(func() error { return w.round(ctx, s, &plan) }); err != nil {
			if w.alarmed(s, err) {
				w.confess(s, err)
				timer.Reset(rest)
				continue
			}
			if ctx.Err() == nil {
				w.log.Warn("looking at a pod's containers", zap.Error(err))
			}
			timer.Reset(time.Second)
			continue
		}
		if plan.Over {
			if err := w.bury(s.pod); err != nil {
				w.log.Warn("removing the logs of a pod that is gone", zap.Error(err))
			}
			return
		}
		for _, key := range plan.Cancel {
			if cancel := s.cancels[key]; cancel != nil {
				cancel()
			}
		}
		for _, a := range plan.Do {
			own, cancel := context.WithCancel(ctx)
			s.seen.Doing[a.key()], s.cancels[a.key()] = a, cancel
			in := w.input(s)
			in.image = s.images[a.Name]
			actions.Go(func() {
				defer cancel()
				var apply func(*state)
				err := calmly(func() (err error) { apply, err = w.perform(own, a, in); return err })
				givenUp := own.Err() != nil
				w.post(func(s *state) { w.finished(s, a, apply, err, givenUp) })
			})
		}
		if !plan.Again.IsZero() {
			timer.Reset(max(time.Until(plan.Again), 0))
		} else {
			timer.Stop()
		}
	}
}

// round takes in what happened, looks at what is there, and asks what to do.
func (w *worker) round(ctx context.Context, s *state, plan *Plan) error {
	w.take(s)
	if err := w.observe(ctx, s); err != nil {
		return err
	}
	*plan = w.turn(s)
	return nil
}

// bury removes the logs of a pod that is gone.
func (w *worker) bury(p *corev1.Pod) error {
	if p.Name == "" {
		return nil // only a folder or a control group was found of it
	}
	return os.RemoveAll(logs.PodDir(w.cfg.Logs, p.Namespace, p.Name, string(w.uid)))
}

func newState(p *corev1.Pod) *state {
	s := &state{
		starts: moments{}, ends: moments{}, dirty: true, cancels: map[string]context.CancelFunc{}, ready: map[string]bool{}, notes: map[string]string{}, waited: map[string]string{},
		images: map[string]images.Image{}, has: map[string]cgroups.Actual{}, pending: pod.Condition(p, corev1.PodResizePending), progress: pod.Condition(p, corev1.PodResizeInProgress),
		seen: Seen{
			Done: map[string]bool{}, Doing: map[string]Action{}, Faults: map[string]Fault{}, Images: map[string]bool{}, Sick: map[string]Sickness{}, Replaced: map[string]bool{},
			Started: map[string]bool{}, Hooked: map[string]bool{}, Sizes: map[string]Size{},
		},
	}
	// A kubelet that was started again believes what it wrote about running containers until it knows better.
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, cs := range list {
			id, ok := containerOf(cs.ContainerID)
			if !ok || cs.State.Running == nil {
				continue
			}
			if cs.Started != nil && *cs.Started { // one that was not may be so by now: its postStart hook was under way, and is not run again
				s.seen.Started[id] = true
			}
			if cs.Ready {
				s.ready[id] = true
			}
		}
	}
	s.evicted = resumed(p)
	if finished(p.Status.Phase) {
		s.final = &End{Phase: p.Status.Phase, Reason: p.Status.Reason, Message: p.Status.Message}
		s.acked = p.Status.Phase
	}
	return s
}

// take empties the slot and applies what was posted.
func (w *worker) take(s *state) {
	w.mu.Lock()
	newest, given, gone, posted := w.pod, w.given, w.gone, w.posted
	w.posted = nil
	w.mu.Unlock()
	if s.raw != newest || s.given != given {
		s.raw, s.given = newest, given
		p := given.onto(newest)
		if p == newest {
			p = newest.DeepCopy()
		}
		if s.odd && (gone || p.DeletionTimestamp != nil) {
			p = bare(p)
		}
		if s.last != nil {
			p.Status = *status.WithOthers(s.last, &newest.Status)
		}
		if other := &newest.Status; finished(other.Phase) && s.final == nil { // somebody else says that it has ended; so it must
			p.Status.Phase, p.Status.Reason, p.Status.Message = other.Phase, other.Reason, other.Message
			if s.evicted == nil {
				s.evicted = &End{Phase: other.Phase, Reason: other.Reason, Message: other.Message, By: time.Now().Add(grace(newest))}
			}
		}
		s.pod = p
	}
	s.gone = s.gone || gone
	for _, f := range posted {
		w.alarmed(s, calmly(func() error { f(s); return nil }))
	}
}

// turn asks the machine and tells status and probes what came out.
func (w *worker) turn(s *state) Plan {
	s.seen.Now = time.Now()
	var again time.Time
	wish := Wish{Pod: s.pod, Sizing: w.cfg.Sizing}
	if wish.End, again = s.goal(s.seen.Now); wish.End != nil {
		if !s.ending {
			s.ending, s.from = true, w.drained(s)
		}
		if half := wish.End.By.Add(-s.endGrace / 2); s.from.After(half) {
			s.from = half // the time was shortened since
		}
		if !s.gone {
			wish.End.From = s.from
		}
	}
	s.seen.Recorded = s.final != nil && s.acked == s.final.Phase
	plan := Decide(wish, s.seen, w.cfg.Backoff)
	if plan.Final && !s.released { // before anybody hears that it has ended, and asks for what it had
		w.parts.release(w.uid)
		s.released = true
	}
	w.ended.Store(plan.Final && (s.seen.Recorded || pod.Static(s.pod)))
	if !again.IsZero() {
		plan.again(again)
	}
	w.tellResize(s, wish, plan)
	w.tellStatus(s, wish, plan)
	w.tellProbes(s, wish, plan)
	if plan.Final && s.final == nil {
		end := End{Phase: plan.Phase}
		if wish.End != nil {
			end.Reason, end.Message, end.Disruption = wish.End.Reason, wish.End.Message, wish.End.Disruption
		}
		s.final = &end
	}
	return plan
}

// goal says whether and how the pod is to end, and when to ask again.
func (s *state) goal(now time.Time) (*End, time.Time) {
	end := End{}
	if s.final != nil {
		end = *s.final
	} else if s.evicted != nil {
		end = *s.evicted
	}
	switch {
	case s.gone, s.pod.DeletionTimestamp != nil:
		end.Orphan, end.Delete = s.gone, !s.gone
		end.By = s.by(now, time.Duration(pod.GracePeriod(s.pod))*time.Second)
		if s.final == nil && s.evicted != nil { // the node cannot wait for so long
			end.By = s.by(now, max(s.evicted.By.Sub(now), 0))
		}
		end.Grace = s.endGrace
		return &end, time.Time{}
	case s.final != nil:
		return &end, time.Time{}
	case s.evicted != nil:
		end.By = s.by(now, max(s.evicted.By.Sub(now), 0))
		end.Grace = s.endGrace
		return &end, time.Time{}
	}
	if limit := s.pod.Spec.ActiveDeadlineSeconds; limit != nil && s.pod.Status.StartTime != nil {
		at := s.starts.hold(s.pod.Status.StartTime.UTC().String(), s.pod.Status.StartTime.Time, now).Add(time.Duration(*limit) * time.Second)
		if now.Before(at) {
			return nil, at
		}
		return &End{Phase: corev1.PodFailed, Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline",
			By: s.by(now, grace(s.pod)), Grace: s.endGrace}, time.Time{}
	}
	return nil, time.Time{}
}

// by is when the end is due: counted from when it was first asked for, and sooner if the time was shortened since.
func (s *state) by(now time.Time, grace time.Duration) time.Time {
	grace = max(grace, time.Second)
	if s.endBy.IsZero() || grace < s.endGrace {
		if by := now.Add(grace); s.endBy.IsZero() || by.Before(s.endBy) {
			s.endBy = by
		}
		s.endGrace = grace
	}
	return s.endBy
}

// tellStatus computes the pod's status and hands it on when it changed. A pod that is torn down keeps its last one: its records are gone.
func (w *worker) tellStatus(s *state, wish Wish, plan Plan) {
	if s.seen.Torn || s.gone {
		return
	}
	f := status.Facts{
		Pod: s.pod, Now: s.seen.Now, Phase: plan.Phase, HostIPs: w.cfg.NodeIPs, Initialized: plan.Initialized,
		Containers: s.seen.Records, Started: s.seen.Started, Ready: s.ready, Notes: s.notes, Waiting: map[string]corev1.ContainerStateWaiting{},
	}
	if f.Anew = plan.Anew; wish.End != nil && !wish.End.Delete {
		f.Ready = nil // nobody is to send it anything more; of a pod that is being deleted the endpoints know by its deletion
	}
	if wish.End != nil && (finished(plan.Phase) || wish.End.Reason != "") {
		f.Reason, f.Message = wish.End.Reason, wish.End.Message
	}
	if box := s.seen.Sandbox; box != nil && box.Ready {
		f.PodIPs, f.Networked, f.RecursiveReadOnly = box.IPs, true, box.Features.RecursiveReadOnly
	}
	f.ImageVolumes = imageRefs(s.pod, s.volumes)
	for name, wait := range plan.Waiting {
		f.Waiting[name] = corev1.ContainerStateWaiting{Reason: wait.Reason, Message: wait.Message}
		w.tellWaiting(s, name, wait)
	}
	f.Resources = map[string]*corev1.ResourceRequirements{}
	for kind, c := range pod.Containers(s.pod) {
		if rs := s.seen.Records[c.Name]; kind != pod.Ephemeral && len(rs) > 0 {
			if has, known := s.has[rs[0].ID]; known {
				f.Resources[rs[0].ID] = measured(c, s.seen.Sizes[rs[0].ID], has, w.cfg.Sizing.NoQuota)
			}
		}
	}
	for _, c := range []*corev1.PodCondition{s.pending, s.progress} {
		if c != nil {
			f.Resize = append(f.Resize, *c)
		}
	}
	st := status.Compute(f)
	if wish.End != nil {
		disrupted(&st, s.pod, wish.End.Disruption, s.seen.Now)
	}
	if s.last != nil && equality.Semantic.DeepEqual(*s.last, st) &&
		(s.raw == s.told || equality.Semantic.DeepEqual(*status.WithOthers(&st, &s.raw.Status), s.raw.Status)) {
		return // said before, and nobody has said otherwise since: a node that was silent for a while finds its pods marked as not ready
	}
	s.last, s.told = &st, s.raw
	s.pod = s.pod.DeepCopy()
	s.pod.Status = st
	w.parts.Status.Set(s.raw, st)
}

// tellProbes says which containers are to be probed.
func (w *worker) tellProbes(s *state, wish Wish, plan Plan) {
	var targets []probes.Target
	if box := s.seen.Sandbox; box != nil && box.Ready && !plan.Final {
		ip := status.InOrder(box.IPs, w.cfg.NodeIPs)
		if s.pod.Spec.HostNetwork {
			ip = w.cfg.NodeIPs
		}
		for kind, c := range pod.Containers(s.pod) {
			rs := s.seen.Records[c.Name]
			if kind == pod.Ephemeral || len(rs) == 0 || rs[0].State != containers.Running || len(ip) == 0 || s.seen.Doing["container/"+c.Name].Verb == Start {
				continue
			}
			id := rs[0].ID
			targets = append(targets, probes.Target{
				Namespace: s.pod.Namespace, Pod: s.pod.Name, Container: c, ContainerID: id, IP: ip[0], Since: rs[0].Started, Started: s.seen.Started[id], Ready: s.ready[id], Ending: wish.End != nil,
			})
		}
	}
	w.parts.Probes.Set(w.uid, targets)
}

// finished takes in how an action ended. givenUp: it was cancelled, by us and not by whom it called.
func (w *worker) finished(s *state, a Action, apply func(*state), err error, givenUp bool) {
	key := a.key()
	delete(s.seen.Doing, key)
	delete(s.cancels, key)
	s.dirty = s.dirty || a.recorded()
	if apply != nil {
		apply(s)
	}
	if err == nil {
		delete(s.seen.Faults, key)
		return
	}
	if givenUp && errors.Is(err, context.Canceled) {
		return // not failed
	}
	count := s.seen.Faults[key].Count + 1
	wait := min(250*time.Millisecond<<min(count, 10), 10*time.Second)
	if a.Verb == Pull {
		wait = 2 * time.Second // the images keep their own back-off: this only asks again
	}
	f := Fault{Verb: a.Verb, Until: time.Now().Add(wait), Count: count}
	w.alarmed(s, err)
	f.Reason, f.Message = w.complain(s, a, err)
	f.Message = beginning(f.Message)
	s.seen.Faults[key] = f
}

// probed takes in what a probe said: readiness shows at once, a failed startup or liveness condemns the container.
func (s *state) probed(r probes.Result) {
	switch r.Kind {
	case probes.Readiness:
		s.ready[r.ContainerID] = r.Healthy
	case probes.Startup, probes.Liveness:
		if r.Changed && r.Healthy && r.Kind == probes.Startup {
			s.seen.Started[r.ContainerID] = true
		}
		if r.Changed && !r.Healthy {
			s.seen.Sick[r.ContainerID] = Sickness{Probe: r.Kind, Why: "Container " + r.Container + " failed " + strings.ToLower(string(r.Kind)) + " probe"}
		}
	}
}

// known says whether the container is of this pod.
func (s *state) known(id string) bool {
	for _, rs := range s.seen.Records {
		if slices.ContainsFunc(rs, func(r containers.Container) bool { return r.ID == id }) {
			return true
		}
	}
	return false
}
