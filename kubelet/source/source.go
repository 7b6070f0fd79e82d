// Package source says which pods this node should run: those the API has bound to it and those in a folder of files, as one stream.
//
// The pod workers read Updates. What always holds: of one pod, only the newest state waits in the stream, and a pod that went is told as Gone with its
// last state; Synced is told once, after everything that was there when the kubelet started. When the API is away, nothing is told: pods go on.
//
// Static pods have no mirror in the API yet.
package source

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Update is news of one pod, or, with Synced, of none.
type Update struct {
	Pod    *corev1.Pod
	Gone   bool
	Synced bool
}

// Source is the stream.
type Source struct {
	informer cache.SharedIndexInformer // set once, as all in this group
	files    files
	updates  chan Update
	wake     chan struct{}

	mu      sync.Mutex
	pending map[types.UID]Update // guarded by mu, as the next one
	order   []types.UID          // INVARIANT: the keys of pending, each once, oldest first
}

// Config of the stream.
type Config struct {
	// Node is this node's name.
	Node string
	// Folder of files with pods, one a file; empty: none.
	Folder string
}

// Informer makes the informer of one node's pods, for the process's factory.
func Informer(kube kubernetes.Interface, node string) cache.SharedIndexInformer {
	return coreinformers.NewFilteredPodInformer(kube, metav1.NamespaceAll, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		})
}

// New stores what it is given; the informer (see Informer) is run by its factory.
func New(cfg Config, pods cache.SharedIndexInformer, log *zap.Logger) *Source {
	return &Source{
		informer: pods, files: files{folder: cfg.Folder, node: cfg.Node, log: log.Named("source")},
		updates: make(chan Update), wake: make(chan struct{}, 1), pending: map[types.UID]Update{},
	}
}

// Updates is for one reader.
func (s *Source) Updates() <-chan Update { return s.updates }

// Run feeds the stream until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	reg, err := s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.tell(obj, false) },
		UpdateFunc: func(_, obj any) { s.tell(obj, false) },
		DeleteFunc: func(obj any) { s.tell(obj, true) },
	})
	if err != nil {
		return fmt.Errorf("listening to the pod informer: %w", err)
	}
	defer s.informer.RemoveEventHandler(reg)
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	synced := make(chan struct{})
	scanned := make(chan struct{})
	all.Go(func() {
		s.files.scan(s.tell)
		close(scanned)
		s.files.run(ctx, s.tell)
	})
	all.Go(func() {
		<-scanned
		if cache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
			close(synced)
		}
	})

	for {
		for u, some := s.next(); some; u, some = s.next() {
			select {
			case s.updates <- u:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-synced:
			synced = nil
			for u, some := s.next(); some; u, some = s.next() { // what was there comes before
				select {
				case s.updates <- u:
				case <-ctx.Done():
					return nil
				}
			}
			select {
			case s.updates <- Update{Synced: true}:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// tell puts news of a pod into the stream, over older news of it.
func (s *Source) tell(obj any, gone bool) {
	if late, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = late.Obj
	}
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	s.mu.Lock()
	if _, waits := s.pending[p.UID]; !waits {
		s.order = append(s.order, p.UID)
	}
	s.pending[p.UID] = Update{Pod: p, Gone: gone}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Source) next() (Update, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		return Update{}, false
	}
	uid := s.order[0]
	s.order = s.order[1:]
	u := s.pending[uid]
	delete(s.pending, uid)
	return u, true
}
