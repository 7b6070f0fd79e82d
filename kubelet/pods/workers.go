package pods

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/network"
	"pilothouse.dev/kubelet/probes"
	"pilothouse.dev/kubelet/source"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/pkg/pod"
)

// Workers are the pods of this node.
type Workers struct {
	cfg   Config // set once, as the next two
	parts Parts
	log   *zap.Logger

	mu   sync.Mutex
	pods map[types.UID]*worker // guarded by mu; changed by Run only

	room chan struct{} // there may be room for resizes that wait

	// The rest is owned by Run.
	synced    bool                        // all pods of the node are known
	waiting   map[types.UID]*waiting      // resizes that are not let in yet
	queued    map[types.UID]source.Update // static pods that wait for a namesake to end
	preempted map[types.UID]bool          // pods that end for a critical one: their room is given away already
}

// New stores what it is given.
func New(cfg Config, parts Parts, log *zap.Logger) *Workers {
	return &Workers{cfg: cfg, parts: parts, log: log.Named("pods"), pods: map[types.UID]*worker{},
		room: make(chan struct{}, 1), waiting: map[types.UID]*waiting{}, queued: map[types.UID]source.Update{}, preempted: map[types.UID]bool{}}
}

// Pods are the pods that this node has been told of and that are not gone yet, as they were told.
func (ws *Workers) Pods() []*corev1.Pod {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	list := make([]*corev1.Pod, 0, len(ws.pods))
	for _, w := range ws.pods {
		list = append(list, w.newest())
	}
	return list
}

func (w *worker) newest() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

func (ws *Workers) worker(uid types.UID) *worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.pods[uid]
}

// Run works until ctx ends: it hands wishes, events, probe results and answers of the API to the workers they concern. Running containers
// are left as they are when it ends.
func (ws *Workers) Run(ctx context.Context) error {
	found, err := ws.find(ctx)
	if err != nil {
		return err
	}
	every := ws.cfg.Relist
	if every == 0 {
		every = 30 * time.Second
	}
	relist := time.NewTicker(every)
	defer relist.Stop()
	sweep := time.NewTicker(10 * every)
	defer sweep.Stop()
	over := make(chan types.UID)
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-ws.parts.Updates:
			if u.Synced {
				ws.adopt(ctx, found, &all, over)
				ws.synced = true
				ws.letIn()
			} else {
				ws.tellCalmly(ctx, u, found, &all, over)
			}
		case e := <-ws.parts.Observer.Events():
			ws.happened(e)
		case r := <-ws.parts.Probes.Results():
			ws.probed(r)
		case a := <-ws.parts.Status.Acks():
			ws.acked(a)
		case <-ws.parts.Objects.Changes():
			for _, uid := range ws.parts.Objects.TakeChanged() {
				ws.parts.Volumes.Renew(uid, nil)
				if w := ws.worker(uid); w != nil {
					w.post(retryNow)
				}
			}
		case <-ws.room:
			ws.letIn()
		case <-relist.C:
			ws.letIn()
			ws.happened(containers.Event{Kind: containers.EventRelist})
		case <-sweep.C:
			if ws.synced {
				ws.collect(ctx, &all, over)
			}
		case uid := <-over:
			ws.forget(uid)
			ws.release(ctx, found, &all, over)
		}
	}
}

// find lists what is there from a former life, and has the network remember its addresses.
func (ws *Workers) find(ctx context.Context) (map[types.UID]*corev1.Pod, error) {
	l, err := ws.parts.Observer.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing what runs already: %w", err)
	}
	for _, g := range ws.parts.Grants {
		g.Found(l)
	}
	found := map[types.UID]*corev1.Pod{}
	var held []network.Held
	for _, box := range l.Sandboxes {
		uid := types.UID(box.PodUID)
		found[uid] = stub(uid, box)
		for _, ip := range box.IPs {
			held = append(held, network.Held{PodKey: box.PodUID, IP: ip, NetNS: box.NetNS})
		}
	}
	ws.parts.Network.Restore(held)
	for _, c := range l.Containers {
		if uid := types.UID(c.PodUID); found[uid] == nil {
			found[uid] = stub(uid, containers.Sandbox{})
		}
	}
	return found, nil
}

// adopt ends what was found at the start and is not wished for, once all wishes are known.
func (ws *Workers) adopt(ctx context.Context, found map[types.UID]*corev1.Pod, all *sync.WaitGroup, over chan types.UID) {
	ws.leftovers(found)
	for uid, p := range found {
		if ws.worker(uid) == nil {
			ws.log.Info("ending a pod that nobody wishes for", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.String("uid", string(uid)))
			ws.employ(ctx, p, nil, all, over, func(s *state) { s.gone = true })
		}
		delete(found, uid)
	}
}

// leftovers adds pods of which only a control group, a folder or logs are left.
func (ws *Workers) leftovers(found map[types.UID]*corev1.Pod) {
	add := func(uid types.UID, box containers.Sandbox) {
		if found[uid] == nil || found[uid].Name == "" {
			found[uid] = stub(uid, box)
		}
	}
	groups, err := ws.parts.Groups.PodUIDs()
	if err != nil {
		ws.log.Warn("looking for leftover control groups", zap.Error(err))
	}
	for _, uid := range groups {
		add(types.UID(uid), containers.Sandbox{})
	}
	folders, err := ws.parts.Volumes.Pods()
	if err != nil {
		ws.log.Warn("looking for leftover volumes", zap.Error(err))
	}
	for _, uid := range folders {
		add(uid, containers.Sandbox{})
	}
	entries, err := os.ReadDir(ws.cfg.Logs)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		ws.log.Warn("looking for leftover logs", zap.Error(err))
	}
	for _, e := range entries {
		if part := strings.Split(e.Name(), "_"); len(part) == 3 {
			add(types.UID(part[2]), containers.Sandbox{PodNamespace: part[0], PodName: part[1]})
		}
	}
}

// tellCalmly is told for any pod: one that cannot even be taken in is refused.
func (ws *Workers) tellCalmly(ctx context.Context, u source.Update, found map[types.UID]*corev1.Pod, all *sync.WaitGroup, over chan types.UID) {
	if ws.calmly(u.Pod, func() { ws.told(ctx, u, found, all, over) }) || u.Gone || ws.worker(u.Pod.UID) != nil {
		return
	}
	no := &rejection{"InternalError", "Pod was rejected: this node's kubelet cannot work on it"}
	ws.employ(ctx, u.Pod, nil, all, over, no.apply, func(s *state) { s.odd, s.pod = true, bare(s.pod) })
}

// told hands a wish to the pod's worker.
func (ws *Workers) told(ctx context.Context, u source.Update, found map[types.UID]*corev1.Pod, all *sync.WaitGroup, over chan types.UID) {
	w := ws.worker(u.Pod.UID)
	switch {
	case w == nil && u.Gone:
		delete(ws.queued, u.Pod.UID)
		return
	case w == nil && ws.holdBack(ctx, u, found, all, over):
		return
	case w == nil:
		if !pod.Terminal(u.Pod) {
			ws.parts.Objects.Keep(u.Pod)
		}
		var first []func(*state)
		if n := ws.parts.Node(); n != nil && fresh(u.Pod) && found[u.Pod.UID] == nil {
			if no := ws.letsIn(u.Pod, n); no != nil {
				first = append(first, no.apply)
			}
		}
		w = ws.employ(ctx, u.Pod, ws.given(u.Pod), all, over, first...)
		if len(first) > 0 {
			w.post(func(s *state) {
				w.tell(s.pod, "", corev1.EventTypeWarning, s.final.Reason, "%s", s.final.Message)
			})
		}
		ws.weigh()
		ws.resized(w, u.Pod, time.Now())
		return
	}
	was := w.newest()
	if !pod.Terminal(u.Pod) && !u.Gone {
		if was.Generation != u.Pod.Generation {
			ws.parts.Objects.Keep(u.Pod)
		}
		if was.Generation != u.Pod.Generation || !maps.Equal(was.Labels, u.Pod.Labels) || !maps.Equal(was.Annotations, u.Pod.Annotations) {
			ws.parts.Volumes.Renew(u.Pod.UID, u.Pod)
		}
	}
	w.wish(u.Pod, u.Gone)
	ws.resized(w, u.Pod, time.Now())
	ws.freed(was, u.Pod)
}

// fresh: no kubelet has worked on the pod yet.
func fresh(p *corev1.Pod) bool {
	return !pod.Terminal(p) && p.DeletionTimestamp == nil && p.Status.StartTime == nil
}

// employ starts a worker for a pod with what it was given (nil: nobody wishes for it); first is applied before it does anything.
func (ws *Workers) employ(ctx context.Context, p *corev1.Pod, given *allocation, all *sync.WaitGroup, over chan types.UID, first ...func(*state)) *worker {
	w := newWorker(p, &ws.cfg, &ws.parts, ws.log)
	w.posted, w.given, w.roomy = first, given, ws.roomy
	ws.mu.Lock()
	ws.pods[p.UID] = w
	ws.mu.Unlock()
	all.Go(func() {
		w.run(ctx)
		select {
		case over <- w.uid:
		case <-ctx.Done():
		}
	})
	return w
}

// forget drops a pod that is gone for good.
func (ws *Workers) forget(uid types.UID) {
	ws.mu.Lock()
	delete(ws.pods, uid)
	ws.mu.Unlock()
	delete(ws.preempted, uid)
	ws.parts.Objects.Drop(uid)
	ws.parts.release(uid)
	ws.parts.Probes.Set(uid, nil)
	ws.parts.Status.Forget(uid)
	ws.leave(uid)
	ws.weigh()
}

// weigh gives the burstable pods as a whole the processor time they asked for, and keeps memory for the classes where the node is to.
func (ws *Workers) weigh() {
	var q cgroups.QoS
	for _, p := range ws.held() {
		if !pod.Active(p) {
			continue
		}
		var size Size
		if !ws.calmly(p, func() { size = ws.cfg.Sizing.podSize(p) }) {
			continue
		}
		switch class := pod.QoS(p); {
		case class == corev1.PodQOSBurstable:
			q.BurstableMilli += size.CPURequest
			q.BurstableMemory += size.MemoryRequest
		case class == corev1.PodQOSGuaranteed:
			q.GuaranteedMemory += size.MemoryRequest
		}
	}
	if !ws.cfg.Sizing.V2 || !ws.cfg.Sizing.Protect {
		q.GuaranteedMemory, q.BurstableMemory = 0, 0
	}
	if err := ws.parts.Groups.SetQoS(q); err != nil {
		ws.log.Warn("weighing pods", zap.Error(err))
	}
}

// happened wakes the worker of an event, or all if events may have been missed.
func (ws *Workers) happened(e containers.Event) {
	look := func(s *state) { s.dirty, s.remeasure = true, s.remeasure || e.Kind == containers.EventRelist }
	if e.Kind != containers.EventRelist {
		if w := ws.worker(types.UID(e.PodUID)); w != nil {
			w.post(look)
		}
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.pods {
		w.post(look)
	}
}

func (ws *Workers) probed(r probes.Result) {
	w := ws.worker(r.PodUID)
	if w == nil {
		return
	}
	w.post(func(s *state) {
		if !s.known(r.ContainerID) {
			return
		}
		if r.Complaint != "" {
			w.tellProbe(s.pod, r)
		}
		s.probed(r)
	})
}

func (ws *Workers) acked(a status.Ack) {
	if w := ws.worker(a.UID); w != nil {
		w.post(func(s *state) {
			s.acked = a.Phase
			if a.Gone && s.final != nil {
				s.acked = s.final.Phase // nobody is left to be told
			}
		})
	}
}

// retryNow: something that a failed action may have waited for has changed.
func retryNow(s *state) {
	for key, f := range s.seen.Faults {
		f.Until = time.Time{}
		s.seen.Faults[key] = f
	}
}
