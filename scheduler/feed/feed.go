// Package feed turns what the API tells (nodes, pods and storage, by informers) into the words of the queue and the cache. It decides
// nothing: every pod is either waiting for us (queue), on a node (cache), or neither.
//
// The cache is always told before the queue, so that a pod woken by an event finds what woke it.
package feed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/pkg/pod"
	schedcache "pilothouse.dev/scheduler/cache"
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/queue"
)

// Feed is the handlers of the informers.
type Feed struct {
	scheduler string // the schedulerName of the pods that are ours
	informers informers.SharedInformerFactory
	queue     *queue.Queue
	cache     *schedcache.Cache
	log       *zap.Logger
	ready     chan struct{} // closed when the first picture is complete
}

// New makes a feed for the pods that name this scheduler; nothing is asked of the API yet. The factory is its own.
func New(scheduler string, factory informers.SharedInformerFactory, q *queue.Queue, c *schedcache.Cache, log *zap.Logger) *Feed {
	return &Feed{scheduler: scheduler, informers: factory, queue: q, cache: c, log: log.Named("feed"), ready: make(chan struct{})}
}

// Run feeds until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	nodes := f.informers.Core().V1().Nodes().Informer()
	pods := f.informers.InformerFor(&corev1.Pod{}, livingPods)
	nodesDone, err := nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { f.nodeAdded(o.(*corev1.Node)) },
		UpdateFunc: func(before, o any) { f.nodeUpdated(before.(*corev1.Node), o.(*corev1.Node)) },
		DeleteFunc: func(o any) {
			if n, ok := last(o).(*corev1.Node); ok {
				f.nodeGone(n)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("listening to nodes: %w", err)
	}
	podsDone, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { f.podSeen(nil, o.(*corev1.Pod)) },
		UpdateFunc: func(before, o any) {
			was, is := before.(*corev1.Pod), o.(*corev1.Pod)
			if was.UID != is.UID { // deleted and made anew while we were not looking
				f.podGone(was)
				was = nil
			}
			f.podSeen(was, is)
		},
		DeleteFunc: func(o any) {
			if p, ok := last(o).(*corev1.Pod); ok {
				f.podGone(p)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("listening to pods: %w", err)
	}
	storageDone, err := f.followStorage()
	if err != nil {
		return err
	}
	f.informers.Start(ctx.Done())
	defer f.informers.Shutdown()
	f.informers.WaitForCacheSync(ctx.Done()) // those that only plugins read among them
	if !cache.WaitForCacheSync(ctx.Done(), append(storageDone, nodesDone.HasSynced, podsDone.HasSynced)...) {
		return nil // ctx has ended
	}
	count, known, _ := f.cache.Size()
	f.log.Info("first picture complete", zap.Int("nodes", count), zap.Int("pods", known))
	close(f.ready)
	<-ctx.Done()
	return nil
}

// livingPods leaves out the pods that have finished: the API server tells their end as a deletion, and they need no memory here.
func livingPods(kube kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
	return coreinformers.NewFilteredPodInformer(kube, metav1.NamespaceAll, resync, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = "status.phase!=Succeeded,status.phase!=Failed"
	})
}

// Ready waits until all that the API had at the start is in cache and queue.
func (f *Feed) Ready(ctx context.Context) error {
	select {
	case <-f.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Check is the health check that goes with Ready.
func (f *Feed) Check(context.Context) error {
	select {
	case <-f.ready:
		return nil
	default:
		return errNotReady
	}
}

var errNotReady = errors.New("nodes and pods have not all been read yet")

// last is the object of a deletion, also when the deletion itself was not seen.
func last(o any) any {
	if t, ok := o.(cache.DeletedFinalStateUnknown); ok {
		return t.Obj
	}
	return o
}

func (f *Feed) nodeAdded(n *corev1.Node) {
	f.cache.SetNode(n)
	f.queue.Event(framework.Event{Kind: framework.NodeAdded, Node: n})
}

func (f *Feed) nodeUpdated(was, is *corev1.Node) {
	f.cache.SetNode(is)
	if nodeDiffers(was, is) {
		f.queue.Event(framework.Event{Kind: framework.NodeUpdated, OldNode: was, Node: is})
	}
}

func (f *Feed) nodeGone(n *corev1.Node) {
	f.cache.RemoveNode(n.Name)
	f.queue.Event(framework.Event{Kind: framework.NodeGone, Node: n})
}

// nodeDiffers leaves out heartbeats.
func nodeDiffers(was, is *corev1.Node) bool {
	return was.Spec.Unschedulable != is.Spec.Unschedulable ||
		!maps.Equal(was.Labels, is.Labels) ||
		!equality.Semantic.DeepEqual(was.Spec.Taints, is.Spec.Taints) ||
		!equality.Semantic.DeepEqual(was.Status.Allocatable, is.Status.Allocatable)
}

// podSeen puts a pod where it belongs; was is the version seen before, if any.
func (f *Feed) podSeen(was, p *corev1.Pod) {
	switch {
	case pod.Terminal(p):
		f.podGone(p)
	case pod.Assigned(p):
		info := nodeinfo.NewPod(p)
		before := f.cache.Set(info)
		f.queue.Delete(p.UID)
		if before != nil && asksLess(before, info) {
			f.queue.Event(framework.Event{Kind: framework.PodShrunk, Pod: info})
		}
	case p.Spec.SchedulerName == f.scheduler && !pod.Terminating(p):
		info := nodeinfo.NewPod(p)
		f.nominate(was, info)
		f.queue.Set(info)
	default: // another scheduler's, or it ends before it had a node
		f.podGone(p)
	}
}

// nominate follows what a pod's status says of the node that room is made on: our own word come back, or that of the scheduler
// that led before us.
func (f *Feed) nominate(was *corev1.Pod, p *nodeinfo.Pod) {
	before, now := "", p.Status.NominatedNodeName
	if was != nil {
		before = was.Status.NominatedNodeName
	}
	switch {
	case now == before:
	case now != "":
		f.cache.Nominate(p, now)
	case f.cache.Renounce(p.UID) != nil:
		f.queue.Event(framework.Event{Kind: framework.PodGone, Pod: p})
	}
}

func (f *Feed) podGone(p *corev1.Pod) {
	before := f.cache.Remove(p.UID)
	f.queue.Delete(p.UID)
	if before != nil {
		f.queue.Event(framework.Event{Kind: framework.PodGone, Pod: before})
	}
}

// asksLess says whether a resize gave something back.
func asksLess(was, is *nodeinfo.Pod) bool {
	a, b := was.Want, is.Want
	if b.MilliCPU < a.MilliCPU || b.Memory < a.Memory || b.EphemeralStorage < a.EphemeralStorage {
		return true
	}
	for name, v := range a.Others {
		if b.Others[name] < v {
			return true
		}
	}
	return false
}
