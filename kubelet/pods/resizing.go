package pods

import (
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pod"
)

// The Workers' part of resizes: they know all pods of the node, so they say who is let in, one after the other. All of it is called by Run's goroutine.

// given says what a pod was given that is seen for the first time in this life of the kubelet: what an earlier one kept, or else what the pod's
// status tells of it.
func (ws *Workers) given(p *corev1.Pod) *allocation {
	if fresh(p) {
		return allocationOf(p)
	}
	a, err := readAllocation(ws.cfg.Root, p.UID)
	if err != nil {
		ws.log.Warn("finding what a pod was given", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.Error(err))
	}
	if a != nil {
		return a
	}
	return reported(p)
}

// held are all pods of the node as they were given resources, for those who reckon what is left.
func (ws *Workers) held() []*corev1.Pod {
	ws.mu.Lock()
	workers := make([]*worker, 0, len(ws.pods))
	for _, w := range ws.pods {
		workers = append(workers, w)
	}
	ws.mu.Unlock()
	list := make([]*corev1.Pod, 0, len(workers))
	for _, w := range workers {
		list = append(list, w.held())
	}
	return list
}

// resized looks whether a pod asks for other amounts than it was given.
func (ws *Workers) resized(w *worker, p *corev1.Pod, now time.Time) {
	a := w.allocated()
	if a == nil {
		return
	}
	old := ws.waiting[w.uid]
	if !pod.Active(p) || a.same(allocationOf(p)) {
		if old != nil || pod.Condition(p, corev1.PodResizePending) != nil {
			delete(ws.waiting, w.uid)
			w.post(func(s *state) { s.pending = nil })
		}
		return
	}
	if old != nil && allocationOf(old.want).same(allocationOf(p)) {
		old.want = p
		return
	}
	ws.waiting[w.uid] = &waiting{want: p, have: a.onto(p), since: asked(p, now)}
	ws.letIn()
}

// asked is since when the resize is waited for: a former life of the kubelet may have told.
func asked(p *corev1.Pod, now time.Time) time.Time {
	if c := pod.Condition(p, corev1.PodResizePending); c != nil && c.ObservedGeneration == p.Generation {
		return c.LastTransitionTime.Time
	}
	return now
}

// letIn gives pods what they wait for, in turn, as far as there is room. Before all pods of the node are known nobody can tell.
func (ws *Workers) letIn() {
	n := ws.parts.Node()
	if !ws.synced || n == nil || len(ws.waiting) == 0 {
		return
	}
	var all []*waiting
	for _, r := range ws.waiting {
		if r.verdict.reason != corev1.PodReasonInfeasible { // never asked again
			all = append(all, r)
		}
	}
	inTurn(all)
	for _, r := range all {
		w := ws.worker(r.want.UID)
		if w == nil {
			delete(ws.waiting, r.want.UID)
			continue
		}
		v := judge(&ws.cfg, r.want, r.have, n, ws.held())
		if v.reason == "" {
			if err := w.give(allocationOf(r.want)); err != nil {
				ws.log.Warn("letting in a resize", zap.Error(err))
				v = verdict{corev1.PodReasonDeferred, err.Error()}
			}
		}
		if v.reason == "" {
			delete(ws.waiting, r.want.UID)
			w.post(func(s *state) { s.pending = nil })
			ws.weigh()
			continue
		}
		if v != r.verdict {
			r.verdict = v
			p := r.want
			w.post(func(s *state) { w.tellPending(s, p, v) })
		}
	}
}

// freed lets in others when a pod, as it is now known, holds less than it did: it has ended, or tells that its containers have less.
func (ws *Workers) freed(was, now *corev1.Pod) {
	if len(ws.waiting) == 0 {
		return
	}
	a, b := pod.Requests(was), pod.Requests(now)
	if pod.Terminal(now) && !pod.Terminal(was) || a.Cpu().Cmp(*b.Cpu()) > 0 || a.Memory().Cmp(*b.Memory()) > 0 {
		ws.letIn()
	}
}

// roomy tells Run that there may be room for resizes that wait; called by any goroutine.
func (ws *Workers) roomy() {
	select {
	case ws.room <- struct{}{}:
	default:
	}
}

// leave forgets a pod's resize that waits, and lets in others.
func (ws *Workers) leave(uid types.UID) {
	delete(ws.waiting, uid)
	ws.letIn()
}

// tellPending puts a verdict into the pod's status, with an event when it is news.
func (w *worker) tellPending(s *state, p *corev1.Pod, v verdict) {
	if old := s.pending; old != nil && old.Reason == v.reason && old.Message == v.message && old.ObservedGeneration == p.Generation {
		return
	}
	s.pending = &corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: v.reason, Message: v.message, ObservedGeneration: p.Generation}
	w.tell(p, "", corev1.EventTypeWarning, "Resize"+v.reason, "Pod resize %s: %s", v.reason, resizeSummary(p, p.Generation, v.message))
}
