package announce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	informersv1 "k8s.io/client-go/informers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// Follow hears of Services from now on. Endpoints are looked at only for those whose policy is Local, and all nodes only while
// there is an address to announce. The returned function says whether all Services that were there have been heard of.
func (a *Announcer) Follow(f informers.SharedInformerFactory) (cache.InformerSynced, error) {
	if len(a.cfg.Ranges) == 0 {
		return func() bool { return true }, nil
	}
	services, err := f.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { a.setService(o.(*corev1.Service)) },
		UpdateFunc: func(_, o any) { a.setService(o.(*corev1.Service)) },
		DeleteFunc: func(o any) {
			if svc, ok := last(o).(*corev1.Service); ok {
				a.dropService(types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name})
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("following services: %w", err)
	}
	a.endpoints = f.Discovery().V1().EndpointSlices().Informer()
	return services.HasSynced, nil
}

// last is the last known state of a deleted object.
func last(o any) any {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return o
}

func (a *Announcer) setService(svc *corev1.Service) {
	b, ok := readService(svc, a.cfg.Ranges)
	if !ok {
		a.dropService(b.name)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if have, had := a.services[b.name]; had && have.equal(b) {
		return
	}
	a.services[b.name] = b
	delete(a.homes, b.name)
	a.wake()
}

func (a *Announcer) dropService(name types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, had := a.services[name]; !had {
		return
	}
	delete(a.services, name)
	delete(a.homes, name)
	a.wake()
}

// setNode notes what a Node object says.
func (a *Announcer) setNode(n *corev1.Node) {
	now := readNode(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	if n.Name == a.cfg.Node {
		a.addresses = internalAddresses(n)
	}
	if have, had := a.nodes[n.Name]; had && have == now {
		return
	}
	a.nodes[n.Name] = now
	a.wake()
}

func (a *Announcer) dropNode(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.nodes, name)
	a.wake()
}

// heardLease notes a Lease as it was seen just now.
func (a *Announcer) heardLease(l *coordinationv1.Lease) {
	if l.Spec.RenewTime == nil {
		return
	}
	span := 40 * time.Second // what Kubernetes' kubelets say
	if l.Spec.LeaseDurationSeconds != nil {
		span = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pulses.heard(l.Name, l.Spec.RenewTime.Time, span, time.Now()) {
		a.wake()
	}
}

// session is what is followed only while there is an address to announce. Run owns it.
type session struct {
	stop   context.CancelFunc
	group  sync.WaitGroup
	leases map[string]context.CancelFunc          // by node
	local  cache.ResourceEventHandlerRegistration // of endpoints; nil: no Service wants them
}

// begin follows all nodes, and the addresses that the machine loses.
func (a *Announcer) begin(ctx context.Context) (*session, error) {
	ctx, stop := context.WithCancel(ctx)
	s := &session{stop: stop, leases: map[string]context.CancelFunc{}}
	nodes := informersv1.NewNodeInformer(a.kube, 0, cache.Indexers{})
	if err := nodes.SetTransform(a.strip); err != nil {
		stop()
		return nil, fmt.Errorf("following nodes: %w", err)
	}
	heard, err := nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { a.setNode(o.(*corev1.Node)) },
		UpdateFunc: func(_, o any) { a.setNode(o.(*corev1.Node)) },
		DeleteFunc: func(o any) {
			if n, ok := last(o).(*corev1.Node); ok {
				a.dropNode(n.Name)
			}
		},
	})
	if err != nil {
		stop()
		return nil, fmt.Errorf("following nodes: %w", err)
	}
	s.group.Go(func() { nodes.RunWithContext(ctx) })
	s.group.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), heard.HasSynced) {
			a.mu.Lock()
			a.complete = true
			a.mu.Unlock()
			a.wake()
		}
	})
	s.group.Go(func() {
		failed := func(err error) { a.log.Warn("following the machine's addresses", zap.Error(err)) }
		if err := a.kernel.follow(ctx.Done(), a.lost, failed); err != nil {
			failed(err)
		}
	})
	return s, nil
}

// strip keeps of a Node what we look at: a cluster may have thousands.
func (a *Announcer) strip(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, DeletionTimestamp: n.DeletionTimestamp}}
	if v, yes := n.Labels[corev1.LabelNodeExcludeBalancers]; yes {
		out.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: v}
	}
	for _, t := range n.Spec.Taints {
		if t.Key == taintToBeDeleted {
			out.Spec.Taints = []corev1.Taint{t}
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	if n.Name == a.cfg.Node {
		out.Status.Addresses = n.Status.Addresses
	}
	return out, nil
}

// lost hears of an address that the machine has no more: if it was to have it, it is given back.
func (a *Announcer) lost(ip netip.Addr) {
	if slices.ContainsFunc(a.cfg.Ranges, func(r netip.Prefix) bool { return r.Contains(ip) }) {
		a.mu.Lock()
		a.recheck = true
		a.mu.Unlock()
		a.wake()
	}
}

// end stops following all this, and forgets it.
func (a *Announcer) end(s *session) {
	a.listenTo(context.Background(), s, nil)
	s.stop()
	if err := a.followEndpoints(s, false); err != nil {
		a.log.Warn("ceasing to follow endpoints", zap.Error(err))
	}
	s.group.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complete = false
	clear(a.nodes)
	clear(a.homes)
	a.pulses = newPulses(a.cfg.Node)
}

// followEndpoints begins or ends to hear of EndpointSlices.
func (a *Announcer) followEndpoints(s *session, want bool) error {
	if want == (s.local != nil) {
		return nil
	}
	if !want {
		reg := s.local
		s.local = nil
		return a.endpoints.RemoveEventHandler(reg)
	}
	touch := func(o any) {
		slice, ok := last(o).(*discoveryv1.EndpointSlice)
		if !ok {
			return
		}
		name := types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		a.mu.Lock()
		defer a.mu.Unlock()
		if b, ours := a.services[name]; ours && b.local {
			delete(a.homes, name)
			a.wake()
		}
	}
	reg, err := a.endpoints.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: touch, DeleteFunc: touch, UpdateFunc: func(old, o any) { touch(old); touch(o) },
	})
	if err != nil {
		return fmt.Errorf("following endpoint slices: %w", err)
	}
	s.local = reg
	return nil
}

// slicesOf are a Service's EndpointSlices as they are now.
func (a *Announcer) slicesOf(name types.NamespacedName) ([]*discoveryv1.EndpointSlice, error) {
	of := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: name.Name})
	return discoverylisters.NewEndpointSliceLister(a.endpoints.GetIndexer()).EndpointSlices(name.Namespace).List(of)
}

// listenTo follows the Leases of these nodes and no others: a watch each.
func (a *Announcer) listenTo(ctx context.Context, s *session, names map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(s.leases)) {
		if !names[name] {
			s.leases[name]()
			delete(s.leases, name)
			a.mu.Lock()
			a.pulses.forget(name)
			a.mu.Unlock()
		}
	}
	for name := range names {
		if s.leases[name] == nil {
			of, stop := context.WithCancel(ctx)
			s.leases[name] = stop
			s.group.Go(func() { a.watchLease(of, name) })
		}
	}
}

// Pauses between two tries to watch.
const (
	watchAgain      = 50 * time.Millisecond
	watchAgainWorst = time.Second
)

// watchLease tells of a node's Lease, as it is and whenever it changes, until ctx ends.
func (a *Announcer) watchLease(ctx context.Context, name string) {
	opts := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()}
	for pause := watchAgain; ctx.Err() == nil; pause = min(2*pause, watchAgainWorst) {
		w, err := a.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Watch(ctx, opts)
		if err != nil {
			a.log.Debug("watching a lease", zap.String("node", name), zap.Error(err))
		} else {
			for e := range w.ResultChan() {
				if l, ok := e.Object.(*coordinationv1.Lease); ok && ctx.Err() == nil {
					pause = watchAgain
					a.heardLease(l)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// errNoLease is what asking for a node's Lease says where there is none to judge by.
var errNoLease = errors.New("it has no lease that says when it was renewed")

// askLease reads a node's Lease now, past a watch that may be broken.
func (a *Announcer) askLease(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	l, err := a.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if l.Spec.RenewTime == nil {
		return errNoLease
	}
	a.heardLease(l)
	return nil
}
