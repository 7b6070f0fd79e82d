package status

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/workqueue"

	"pilothouse.dev/pkg/pod"
)

const (
	writers = 8                // writes at the same time
	timeout = 15 * time.Second // of one write

	// together is how long what a pod says on its way to Running may wait for more: most pods run before it is over, and are
	// written once instead of three times.
	together = 250 * time.Millisecond
)

// Ack says that the newest status of a pod that was set has reached the API, or that the API knows the pod no more.
type Ack struct {
	UID types.UID
	// Phase that was written. Gone: the object is not there any more.
	Phase corev1.PodPhase
	Gone  bool
}

// Writer writes statuses.
type Writer struct {
	pods  typedcorev1.PodsGetter // set once, as all in this group
	log   *zap.Logger
	queue workqueue.TypedRateLimitingInterface[types.UID]
	acks  chan Ack

	mu   sync.Mutex
	todo map[types.UID]*entry // guarded by mu
}

type entry struct {
	pod     *corev1.Pod       // as the API has it, so far as known
	want    *corev1.PodStatus // newest wish; nil: nothing to write
	version int               // counts wishes
	remove  bool
}

// New stores what it is given.
func New(pods typedcorev1.PodsGetter, log *zap.Logger) *Writer {
	limit := workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](50*time.Millisecond, 5*time.Second)
	return &Writer{
		pods: pods, log: log.Named("status"), acks: make(chan Ack, 64), todo: map[types.UID]*entry{},
		queue: workqueue.NewTypedRateLimitingQueue(limit),
	}
}

// Acks tells what has been written; for one reader, who must read.
func (w *Writer) Acks() <-chan Ack { return w.acks }

// Set asks for the pod's status to become st. p is the newest object known.
func (w *Writer) Set(p *corev1.Pod, st corev1.PodStatus) {
	w.change(p, func(e *entry) { e.want = &st })
}

// Delete asks for the pod's object to be deleted, after its status is written.
func (w *Writer) Delete(p *corev1.Pod) {
	w.change(p, func(e *entry) { e.remove = true })
}

// Forget drops what is known and wished of a pod that is gone.
func (w *Writer) Forget(uid types.UID) {
	w.mu.Lock()
	delete(w.todo, uid)
	w.mu.Unlock()
}

func (w *Writer) change(p *corev1.Pod, f func(*entry)) {
	if pod.Static(p) {
		return // it has no object of its own
	}
	w.mu.Lock()
	e := w.todo[p.UID]
	if e == nil {
		e = &entry{pod: p}
		w.todo[p.UID] = e
	}
	if newer(p, e.pod) {
		e.pod = p
	}
	f(e)
	e.version++
	wait := e.canWait()
	w.mu.Unlock()
	if wait {
		w.queue.AddAfter(p.UID, together)
	} else {
		w.queue.Add(p.UID)
	}
}

// canWait: the pod is pending as far as the API knows, and still is.
func (e *entry) canWait() bool {
	return !e.remove && e.want != nil && e.want.Phase == corev1.PodPending && e.pod.Status.Phase == corev1.PodPending && e.pod.DeletionTimestamp == nil
}

// newer: resource versions are numbers that grow, for those who may compare them; a length decides between numbers without parsing.
func newer(a, b *corev1.Pod) bool {
	x, y := a.ResourceVersion, b.ResourceVersion
	return len(x) > len(y) || len(x) == len(y) && x > y
}

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for {
				uid, stop := w.queue.Get()
				if stop {
					return
				}
				w.one(ctx, uid)
			}
		})
	}
	<-ctx.Done()
	w.queue.ShutDown()
	all.Wait()
	return nil
}

func (w *Writer) one(ctx context.Context, uid types.UID) {
	defer w.queue.Done(uid)
	w.mu.Lock()
	e := w.todo[uid]
	if e == nil {
		w.mu.Unlock()
		return
	}
	p, want, version, remove := e.pod, e.want, e.version, e.remove
	w.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	now, err := w.write(ctx, p, want)
	if err == nil && now != nil && remove {
		now, err = w.remove(ctx, p)
	}
	if err != nil {
		if w.queue.NumRequeues(uid) == 0 { // once an outage
			w.log.Warn("writing a pod's status", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.Error(err))
		}
		w.queue.AddRateLimited(uid)
		return
	}
	w.queue.Forget(uid)
	ack := Ack{UID: uid, Gone: now == nil}
	w.mu.Lock()
	current := e.version == version
	switch {
	case now == nil:
		delete(w.todo, uid)
	default:
		if newer(now, e.pod) {
			e.pod = now
		}
		ack.Phase = now.Status.Phase
	}
	w.mu.Unlock()
	if !current && !ack.Gone {
		return // a newer wish is in the queue already; its own answer counts
	}
	select {
	case w.acks <- ack:
	case <-ctx.Done():
	}
}

// write brings the status to the API and returns the pod as it is then; nil when there is no such pod any more.
func (w *Writer) write(ctx context.Context, p *corev1.Pod, want *corev1.PodStatus) (*corev1.Pod, error) {
	if want == nil {
		return p, nil
	}
	want = WithOthers(want, &p.Status)
	if equality.Semantic.DeepEqual(p.Status, *want) {
		return p, nil
	}
	patch, err := difference(p, want)
	if err != nil {
		return nil, err
	}
	now, err := w.pods.Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case apierrors.IsConflict(err), apierrors.IsInvalid(err):
		if other, getErr := w.another(ctx, p); getErr == nil && other {
			return nil, nil
		}
		return nil, fmt.Errorf("patching: %w", err)
	case err != nil:
		return nil, fmt.Errorf("patching: %w", err)
	}
	return now, nil
}

// owned are the conditions that only a kubelet writes once a pod is on its node. The steady ones are on every pod, in this order, behind those of
// other hands.
var (
	steady = []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled}
	owned  = append(slices.Clone(steady), passing...)
)

// passing are those of them that go again: one that is not wanted is taken away.
var passing = []corev1.PodConditionType{corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting}

// WithOthers is the status wanted, with what other hands wrote as the API has it now.
func WithOthers(want, have *corev1.PodStatus) *corev1.PodStatus {
	st := want.DeepCopy()
	st.NominatedNodeName, st.Resize = have.NominatedNodeName, have.Resize
	st.ResourceClaimStatuses, st.ExtendedResourceClaimStatus = have.ResourceClaimStatuses, have.ExtendedResourceClaimStatus
	st.Conditions = nil
	known := map[corev1.PodConditionType]bool{}
	for _, c := range have.Conditions {
		known[c.Type] = true
		if slices.Contains(owned, c.Type) {
			i := slices.IndexFunc(want.Conditions, func(w corev1.PodCondition) bool { return w.Type == c.Type })
			if i >= 0 {
				c = want.Conditions[i]
			} else if slices.Contains(passing, c.Type) {
				continue
			}
		}
		st.Conditions = append(st.Conditions, c)
	}
	for _, c := range want.Conditions {
		if !known[c.Type] && (slices.Contains(owned, c.Type) || c.Type == corev1.DisruptionTarget) {
			st.Conditions = append(st.Conditions, c)
		}
	}
	for _, kind := range steady {
		if !known[kind] { // the first time they are put into order; later they stay as they are, whatever others add
			slices.SortStableFunc(st.Conditions, func(a, b corev1.PodCondition) int { return slices.Index(steady, a.Type) - slices.Index(steady, b.Type) })
			break
		}
	}
	return st
}

// another: the pod is gone, or its name belongs to a pod with another UID now.
func (w *Writer) another(ctx context.Context, p *corev1.Pod) (bool, error) {
	now, err := w.pods.Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return now.UID != p.UID, nil
}

// difference is the patch that turns the status known into the one wanted.
func difference(p *corev1.Pod, want *corev1.PodStatus) ([]byte, error) {
	old, err := json.Marshal(corev1.Pod{Status: p.Status})
	if err != nil {
		return nil, fmt.Errorf("encoding the old status: %w", err)
	}
	next := corev1.Pod{Status: *want}
	next.UID = p.UID
	wish, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encoding the new status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(old, wish, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("comparing statuses: %w", err)
	}
	return patch, nil
}

// remove deletes the object, if it is still the same pod. It returns nil where the pod is gone, and the pod where a finalizer keeps it.
func (w *Writer) remove(ctx context.Context, p *corev1.Pod) (*corev1.Pod, error) {
	err := w.pods.Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	if err == nil || apierrors.IsNotFound(err) {
		return nil, nil
	}
	if apierrors.IsConflict(err) { // the name belongs to another pod, or another hand wrote at this moment
		if other, getErr := w.another(ctx, p); getErr == nil && other {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("deleting: %w", err)
}
