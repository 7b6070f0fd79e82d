// Package source says which pods this node should run: those the API has bound to it, and the static ones in a folder of files or at an address, as one
// stream.
//
// The pod workers read Updates, mirror asks for Static. What always holds: of one pod, only the newest state waits in the stream, and a pod that went is
// told as Gone with its last state; Synced is told once, after everything that was there when the kubelet started. When the API is away, nothing is told of
// its pods: they go on, and static pods need it for nothing. A manifest that is wrong leaves its pod as it was. Mirrors of static pods in the API are not
// wishes, and not told.
package source

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/pkg/pod"
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
	web      *web // nil without an address
	updates  chan Update
	wake     chan struct{}

	mu      sync.Mutex
	pending map[types.UID]Update // guarded by mu, as all below
	order   []types.UID          // INVARIANT: the keys of pending, each once, oldest first
	static  map[types.UID]*corev1.Pod
	scanned bool // every place of static pods was read
}

// Config of the stream.
type Config struct {
	// Node is this node's name.
	Node string
	// Path of a folder of files with pods, one a file, or of one file; empty: none. It is read at every change, and every Check at least (0 means 20 s).
	Path  string
	Check time.Duration
	// URL of a pod or a list of pods, asked with the Header every URLCheck (0 means 20 s); empty: none.
	URL      string
	Header   http.Header
	URLCheck time.Duration
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
	log = log.Named("source")
	if cfg.Check <= 0 {
		cfg.Check = 20 * time.Second
	}
	if cfg.URLCheck <= 0 {
		cfg.URLCheck = 20 * time.Second
	}
	s := &Source{
		informer: pods, files: files{path: cfg.Path, node: cfg.Node, every: cfg.Check, log: log},
		updates: make(chan Update), wake: make(chan struct{}, 1), pending: map[types.UID]Update{}, static: map[types.UID]*corev1.Pod{},
	}
	if cfg.URL != "" {
		s.web = &web{address: cfg.URL, node: cfg.Node, header: cfg.Header, every: cfg.URLCheck, client: &http.Client{}, log: log}
	}
	return s
}

// Static are the static pods that this node should run, as they were told; complete says that every place where they may be was read.
func (s *Source) Static() (pods []*corev1.Pod, complete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.static)), s.scanned
}

// Updates is for one reader.
func (s *Source) Updates() <-chan Update { return s.updates }

// Run feeds the stream until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	reg, err := s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.api(obj, false) },
		UpdateFunc: func(_, obj any) { s.api(obj, false) },
		DeleteFunc: func(obj any) { s.api(obj, true) },
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
	scanned, answered := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		s.files.scan(s.local)
		close(scanned)
		s.files.run(ctx, s.local)
	})
	if s.web == nil {
		close(answered)
	} else {
		all.Go(func() { s.web.run(ctx, s.local, sync.OnceFunc(func() { close(answered) })) })
	}
	all.Go(func() {
		for _, read := range []chan struct{}{scanned, answered} {
			select {
			case <-read:
			case <-ctx.Done():
				return
			}
		}
		s.mu.Lock()
		s.scanned = true
		s.mu.Unlock()
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

// api takes news of the API.
func (s *Source) api(obj any, gone bool) {
	if late, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = late.Obj
	}
	if p, ok := obj.(*corev1.Pod); ok && !pod.Mirror(p) {
		s.tell(ofAPI(p), gone)
	}
}

// ofAPI is a pod as it came from the API, whatever its annotations say: who could make a pod static could have others end for it, and nobody could
// delete it.
func ofAPI(p *corev1.Pod) *corev1.Pod {
	if !pod.Static(p) {
		return p
	}
	own := *p
	own.Annotations = maps.Clone(p.Annotations)
	own.Annotations[pod.AnnotationSource] = "api"
	return &own
}

// local takes news of a static pod.
func (s *Source) local(p *corev1.Pod, gone bool) {
	s.mu.Lock()
	if gone {
		delete(s.static, p.UID)
	} else {
		s.static[p.UID] = p
	}
	s.mu.Unlock()
	s.tell(p, gone)
}

// tell puts news of a pod into the stream, over older news of it.
func (s *Source) tell(p *corev1.Pod, gone bool) {
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
