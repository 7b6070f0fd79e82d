// Package mirror shows the static pods of this node in the API: each has a mirror there with its status, which the cluster can see and cannot change.
//
// It stands between the pod workers and the writer of statuses: what workers say of static pods it keeps and writes to their mirrors, the rest it hands
// on. What always holds: a static pod needs no mirror to run, it comes when the API does; a mirror that somebody deletes is made anew; one whose pod has
// ended and is wished for no more goes; nothing is deleted before every place of static pods was read. decide.go compares, purely.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/pkg/pod"
)

// Writer writes statuses to the API; status.Writer does.
type Writer interface {
	Set(p *corev1.Pod, st corev1.PodStatus)
	Delete(p *corev1.Pod)
	Forget(uid types.UID)
	Acks() <-chan status.Ack
}

// Parts are what mirrors need.
type Parts struct {
	Pods   typedcorev1.PodsGetter
	Writer Writer
	// Informer of this node's pods, run by its factory.
	Informer cache.SharedIndexInformer
	// Static are the static pods that should run, and whether these are all; source.Source says it.
	Static func() ([]*corev1.Pod, bool)
	// Self is this node as the API has it, nil if it is not known there yet.
	Self func() *corev1.Node
}

const (
	patience = 10 * time.Second // of one request
	refresh  = 10 * time.Second // everything is compared at least so often
	retry    = time.Second      // after a request that failed; twice as long after each that follows, up to refresh
)

// Mirrors is the room; it is the Status of the pod workers.
type Mirrors struct {
	parts Parts // set once, as all in this group
	log   *zap.Logger
	wake  chan struct{}

	mu     sync.Mutex
	live   map[types.UID]local     // by UID of the static pod; guarded by mu, as all below
	shown  map[types.UID]types.UID // the mirror that last got its status
	forget []types.UID             // mirrors that are gone: what was kept of their status goes too
}

// New stores what it is given.
func New(parts Parts, log *zap.Logger) *Mirrors {
	return &Mirrors{parts: parts, log: log.Named("mirror"), wake: make(chan struct{}, 1), live: map[types.UID]local{}, shown: map[types.UID]types.UID{}}
}

// Set takes the newest status of a pod.
func (m *Mirrors) Set(p *corev1.Pod, st corev1.PodStatus) {
	if !pod.Static(p) {
		m.parts.Writer.Set(p, st)
		return
	}
	m.mu.Lock()
	m.live[p.UID] = local{p, st}
	m.mu.Unlock()
	m.nudge()
}

// Delete has a pod's object deleted after its status is written; a static pod has none of its own.
func (m *Mirrors) Delete(p *corev1.Pod) {
	if !pod.Static(p) {
		m.parts.Writer.Delete(p)
	}
}

// Forget drops a pod that is gone, and has its mirror removed.
func (m *Mirrors) Forget(uid types.UID) {
	m.mu.Lock()
	_, here := m.live[uid]
	delete(m.live, uid)
	if id, ok := m.shown[uid]; ok {
		m.forget = append(m.forget, id)
		delete(m.shown, uid)
	}
	m.mu.Unlock()
	if here {
		m.nudge()
	} else {
		m.parts.Writer.Forget(uid)
	}
}

// Acks tells what has been written of pods that are not static.
func (m *Mirrors) Acks() <-chan status.Ack { return m.parts.Writer.Acks() }

func (m *Mirrors) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run keeps mirrors until ctx ends.
func (m *Mirrors) Run(ctx context.Context) error {
	look := func(obj any) {
		if late, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = late.Obj
		}
		if p, ok := obj.(*corev1.Pod); ok && pod.Mirror(p) {
			m.nudge()
		}
	}
	reg, err := m.parts.Informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, obj any) { look(obj) }, DeleteFunc: look})
	if err != nil {
		return fmt.Errorf("listening to the pod informer: %w", err)
	}
	defer m.parts.Informer.RemoveEventHandler(reg)
	timer := time.NewTimer(0)
	defer timer.Stop()
	said, again := "", retry
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-timer.C:
		}
		text, next := "", refresh
		if err := m.turn(ctx, reg.HasSynced()); err != nil {
			if text = err.Error(); text != said && ctx.Err() == nil {
				m.log.Warn("showing static pods in the API", zap.Error(err))
			}
			next, again = again, min(2*again, refresh)
		} else {
			again = retry
		}
		said = text
		timer.Reset(next)
	}
}

// turn compares and does what is missing. What the API refuses for one pod does not keep others from it; when it does not answer, the turn ends.
func (m *Mirrors) turn(ctx context.Context, synced bool) error {
	v := m.view()
	if len(v.live) == 0 && len(v.mirrors) == 0 || !synced {
		return nil
	}
	p := decide(v)
	var failed []error
	for _, old := range p.remove {
		if err := m.remove(ctx, old); err != nil {
			if failed = append(failed, fmt.Errorf("deleting mirror pod %s: %w", fullName(old), err)); !answered(err) {
				return errors.Join(failed...)
			}
		}
	}
	for _, w := range p.write {
		m.parts.Writer.Set(w.pod, w.status)
	}
	self := m.parts.Self()
	if self == nil {
		return errors.Join(failed...) // the node is not registered yet: its UID is unknown
	}
	for _, one := range p.create {
		if err := m.create(ctx, image(one, self.Name, self.UID)); err != nil {
			if failed = append(failed, fmt.Errorf("creating the mirror of static pod %s: %w", fullName(one), err)); !answered(err) {
				break
			}
		}
	}
	return errors.Join(failed...)
}

// answered: the error is what the API server said, not that it said nothing.
func answered(err error) bool {
	var said apierrors.APIStatus
	return errors.As(err, &said)
}

// view gathers what is known, and forgets what the writer need not keep any more.
func (m *Mirrors) view() view {
	v := view{wished: map[string]bool{}}
	wished, complete := m.parts.Static()
	v.complete = complete
	for _, p := range wished {
		v.wished[string(p.UID)] = true
	}
	for _, obj := range m.parts.Informer.GetStore().List() {
		if p, ok := obj.(*corev1.Pod); ok && pod.Mirror(p) {
			v.mirrors = append(v.mirrors, p)
		}
	}
	slices.SortFunc(v.mirrors, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	m.mu.Lock()
	for _, l := range m.live {
		v.live = append(v.live, l)
	}
	for _, p := range v.mirrors {
		if uid := types.UID(p.Annotations[pod.AnnotationMirror]); m.live[uid].pod != nil && m.shown[uid] != p.UID {
			if old, ok := m.shown[uid]; ok {
				m.forget = append(m.forget, old)
			}
			m.shown[uid] = p.UID
		}
	}
	gone := m.forget
	m.forget = nil
	m.mu.Unlock()
	for _, uid := range gone {
		m.parts.Writer.Forget(uid)
	}
	return v
}

func (m *Mirrors) create(ctx context.Context, p *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := m.parts.Pods.Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		have, getErr := m.parts.Pods.Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		if getErr == nil && have.Annotations[pod.AnnotationMirror] == p.Annotations[pod.AnnotationMirror] && have.DeletionTimestamp == nil {
			return nil // it was made, and the informer does not show it yet
		}
	}
	return err
}

func (m *Mirrors) remove(ctx context.Context, p *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := m.parts.Pods.Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
