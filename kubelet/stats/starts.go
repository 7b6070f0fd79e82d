package stats

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/kubelet/images"
)

// Starts measures how long pods take to start, as the API shows them: give its Pod every state of every pod that a watch brings. Images is the image
// store with a clock, whose time the objective of starts leaves out
// (https://github.com/kubernetes/community/blob/master/sig-scalability/slos/pod_startup_latency.md).
type Starts struct {
	*images.Store

	seen, sli, whole prometheus.Histogram

	mu   sync.Mutex
	pods map[types.UID]*starting // pods that are not running yet; guarded by mu
}

// starting is a pod on its way.
type starting struct {
	first          time.Time // when it was seen
	pulling, since time.Time // first pull's beginning, last pull's end
}

// NewStarts puts the clock beside an image store.
func NewStarts(store *images.Store) *Starts {
	bounds := []float64{.05, .1, .25, .5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}
	return &Starts{
		Store: store, pods: map[types.UID]*starting{},
		seen:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pod_start_duration_seconds", Help: "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run", Buckets: bounds}),
		sli:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pod_start_sli_duration_seconds", Help: "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch", Buckets: bounds}),
		whole: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pod_start_total_duration_seconds", Help: "Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch", Buckets: bounds}),
	}
}

// Collectors are the metrics.
func (s *Starts) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.seen, s.sli, s.whole}
}

// Ensure is the store's, measured when it pulls.
func (s *Starts) Ensure(ctx context.Context, spec images.PullSpec) (images.Image, error) {
	told, pulled := spec.OnPull, false
	spec.OnPull = func() {
		pulled = true
		s.note(types.UID(spec.PodUID), func(p *starting, now time.Time) {
			if p.pulling.IsZero() {
				p.pulling = now
			}
		})
		if told != nil {
			told()
		}
	}
	image, err := s.Store.Ensure(ctx, spec)
	if pulled {
		s.note(types.UID(spec.PodUID), func(p *starting, now time.Time) { p.since = now })
	}
	return image, err
}

func (s *Starts) note(uid types.UID, do func(*starting, time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pods[uid]; p != nil {
		do(p, time.Now())
	}
}

// Pod takes a pod as the API has it now; gone says that it is the last time.
func (s *Starts) Pod(p *corev1.Pod, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gone || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		delete(s.pods, p.UID)
		return
	}
	now, was := time.Now(), s.pods[p.UID]
	switch {
	case was == nil && p.Status.Phase == corev1.PodPending && p.Status.StartTime == nil: // what a former kubelet began is not measured
		s.pods[p.UID] = &starting{first: now}
	case was != nil && allStarted(p):
		delete(s.pods, p.UID)
		s.seen.Observe(now.Sub(was.first).Seconds())
		since := now.Sub(p.CreationTimestamp.Time)
		s.whole.Observe(since.Seconds())
		if len(p.Spec.InitContainers) == 0 && !was.since.Before(was.pulling) {
			s.sli.Observe((since - was.since.Sub(was.pulling)).Seconds())
		}
	}
}

// allStarted says whether each container runs or has run.
func allStarted(p *corev1.Pod) bool {
	if len(p.Status.ContainerStatuses) < len(p.Spec.Containers) {
		return false
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running == nil && c.State.Terminated == nil {
			return false
		}
	}
	return true
}

// OnAdd, OnUpdate and OnDelete make it a handler of an informer of pods.
func (s *Starts) OnAdd(o any, _ bool) { s.object(o, false) }

// OnUpdate is called for each change.
func (s *Starts) OnUpdate(_, o any) { s.object(o, false) }

// OnDelete is called when a pod is gone.
func (s *Starts) OnDelete(o any) { s.object(o, true) }

func (s *Starts) object(o any, gone bool) {
	if tomb, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = tomb.Obj
	}
	if p, ok := o.(*corev1.Pod); ok {
		s.Pod(p, gone)
	}
}
