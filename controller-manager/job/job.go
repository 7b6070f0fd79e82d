// Package job runs pods until enough of them have succeeded, or too many have failed: Jobs. It is called by the loop; it reads
// Jobs and pods from caches and writes pods and the Job's status, never its spec.
//
// What always holds: every pod is counted once, as succeeded or as failed, whatever crashes when (count.go tells how), unless
// it was given up before it ended: when a job shrinks, is suspended, has succeeded without it or is deleted. No more pods run
// than are asked for: what was made and is not in the cache yet is waited for, and what a former term may have done is asked of
// the API server before anything is done about a job (pass.go, meet). A job is failed or complete only when its last pod has
// ended; what it will be stands in its status before.
//
// A job that another controller manages is not touched. look, decide, enter and settle are pure; pass applies them.
package job

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/controller-manager/podset"
	"pilothouse.dev/pkg/pod"
)

var kind = batchv1.SchemeGroupVersion.WithKind("Job")

type controller struct {
	t        loop.Tools
	jobs     batchlisters.JobLister
	pods     podset.Reader
	byName   corelisters.PodLister
	world    world
	recorder record.EventRecorder
	metrics  metrics
	began    time.Time // the term: what is younger, and a margin, nobody before us has seen

	ledger *podset.Ledger
	memory *memory

	many func(ctx context.Context, n int, fn func(context.Context, int) error) (int, error) // podset.SlowStart
	side func(n int, fn func(int) error) error                                              // side by side, some at once
}

// New makes the controller.
func New(t loop.Tools) loop.Controller {
	c := &controller{
		t: t, jobs: t.Informers.Batch().V1().Jobs().Lister(), pods: podset.NewReader(t.Informers), byName: t.Informers.Core().V1().Pods().Lister(),
		world: server{t.Clients.Kube}, recorder: t.Recorder, metrics: newMetrics(t.Metrics), began: time.Now(),
		ledger: podset.NewLedger(), memory: newMemory(),
		many: podset.SlowStart, side: side,
	}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "jobs.batch", Wakes: loop.Any(loop.Self, loop.Func("its pods that wait to be counted, when it is gone", c.gone))},
			{Resource: "pods", Wakes: loop.Any(loop.Owner("Job"), loop.Func("Jobs that may adopt it, or itself, when it waits to be counted by a Job that is gone", c.unowned))},
		},
		Reconcile: c.reconcile,
	}
}

// managed says whether the job is ours to bring to its end.
func managed(j *batchv1.Job) bool {
	return j.Spec.ManagedBy == nil || *j.Spec.ManagedBy == batchv1.JobControllerName
}

// gone wakes the pods of a job that has been deleted. It also counts jobs that appear and are not ours.
func (c *controller) gone(e loop.Event) []loop.Key {
	if e.New != nil {
		if j, ok := e.New.(*batchv1.Job); ok && e.Old == nil && !managed(j) {
			c.metrics.external.WithLabelValues(*j.Spec.ManagedBy).Inc()
		}
		return nil
	}
	pods, err := c.pods.Owned(e.Old.GetUID())
	if err != nil {
		return nil // a cache does not fail
	}
	var keys []loop.Key
	for _, p := range pods {
		if guarded(p) {
			keys = append(keys, podKey(p))
		}
	}
	return keys
}

// unowned are the jobs whose selector matches a pod that nobody controls; without one, and when its job is another or none,
// the pod itself, if it has the finalizer.
func (c *controller) unowned(e loop.Event) []loop.Key {
	c.metrics.saw(e)
	p, ok := e.New.(*corev1.Pod)
	if !ok {
		return nil
	}
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil {
		if keys := c.adopters(p); len(keys) > 0 {
			return keys
		}
	} else if c.owner(p) != nil {
		return nil
	}
	if !guarded(p) {
		return nil
	}
	return []loop.Key{podKey(p)}
}

func isJob(ref *metav1.OwnerReference) bool {
	return ref.Kind == kind.Kind && ref.APIVersion == batchv1.SchemeGroupVersion.String()
}

// owner is the job that controls a pod, nil when the cache has none.
func (c *controller) owner(p *corev1.Pod) *batchv1.Job {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil || !isJob(ref) {
		return nil
	}
	j, err := c.jobs.Jobs(p.Namespace).Get(ref.Name)
	if err != nil || j.UID != ref.UID {
		return nil
	}
	return j
}

func (c *controller) adopters(p *corev1.Pod) (keys []loop.Key) {
	if p.DeletionTimestamp != nil {
		return nil
	}
	jobs, err := c.jobs.Jobs(p.Namespace).List(labels.Everything())
	if err != nil {
		return nil // a cache does not fail
	}
	for _, j := range jobs {
		if sel, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !sel.Empty() && sel.Matches(labels.Set(p.Labels)) && managed(j) && !finished(j) && j.DeletionTimestamp == nil {
			keys = append(keys, loop.KeyOf(j))
		}
	}
	return keys
}

func owned(p *corev1.Pod, by types.UID) bool {
	ref := metav1.GetControllerOfNoCopy(p)
	return ref != nil && ref.UID == by
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	if name, ok := podName(key); ok {
		return 0, c.release(ctx, key.Namespace, name)
	}
	j, err := c.jobs.Jobs(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.forget(key)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !managed(j) {
		return 0, nil
	}
	if finished(j) {
		pods, err := c.pods.Owned(j.UID)
		if err != nil {
			return 0, err
		}
		return 0, c.tidy(ctx, j, pods)
	}
	selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil || selector.Empty() {
		return 0, nil // the API server refuses these
	}
	version := c.pods.Version() // before listing: the list is at least that new
	candidates, err := c.pods.Candidates(j)
	if err != nil {
		return 0, err
	}
	pods, err := podset.Claim(ctx, c.claimer(j), selector, candidates)
	if err != nil {
		return 0, err
	}
	for i, p := range pods {
		if !owned(p, j.UID) && takesFinalizer(j, p) { // just adopted
			pods[i] = p.DeepCopy()
			pods[i].Finalizers = append(pods[i].Finalizers, batchv1.JobTrackingFinalizer)
		}
	}
	return c.pass(ctx, j, pods, version, time.Now())
}

func (c *controller) forget(key loop.Key) {
	c.ledger.Forget(key)
	c.memory.forget(key)
}

// takesFinalizer says whether a pod is given the finalizer with its adoption. One that this very job made, and that has
// finished without it, was counted before it lost its owner.
func takesFinalizer(j *batchv1.Job, p *corev1.Pod) bool {
	return !guarded(p) && !(pod.Terminal(p) && p.Labels[batchv1.ControllerUidLabel] == string(j.UID))
}

func (c *controller) claimer(j *batchv1.Job) podset.Claimer {
	kube := c.t.Clients.Kube
	return podset.Claimer{
		Owner: j, Kind: kind,
		Live: func(ctx context.Context) (metav1.Object, error) {
			return kube.BatchV1().Jobs(j.Namespace).Get(ctx, j.Name, metav1.GetOptions{})
		},
		Patch: func(ctx context.Context, name string, patch []byte) error {
			_, err := kube.CoreV1().Pods(j.Namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return err
		},
		Metadata: func(o metav1.Object, adopting bool) map[string]any {
			if p, ok := o.(*corev1.Pod); ok && (!adopting || takesFinalizer(j, p)) {
				return finalizerPatch(adopting)
			}
			return nil
		},
	}
}

// tidy takes the finalizer from pods that a finished job still has: those that were adopted by another hand, or whose status
// was written for us.
func (c *controller) tidy(ctx context.Context, j *batchv1.Job, pods []*corev1.Pod) error {
	key := loop.KeyOf(j)
	pg, _ := c.memory.page(key, j.UID)
	pg.see(pods)
	var rest []*corev1.Pod
	for _, p := range pods {
		if guarded(p) && !pg.stripped[p.UID] {
			rest = append(rest, p)
		}
	}
	if err := c.strip(ctx, pg, rest); err != nil {
		return fmt.Errorf("tidying up after a finished job: %w", err)
	}
	if len(pg.stripped) == 0 {
		c.forget(key)
	}
	return nil
}
