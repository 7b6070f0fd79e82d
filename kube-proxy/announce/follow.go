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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	informersv1 "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// last is the last known state of a deleted object.
func last(o any) any {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return o
}

// SetService notes the newest state of a Service. It keeps nothing of svc.
func (a *Announcer) SetService(svc *corev1.Service) {
	b, ok := readService(svc, a.cfg.Ranges)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !ok {
		a.dropLocked(b.name)
		return
	}
	if have, had := a.services[b.name]; had && have.equal(b) {
		return
	}
	a.services[b.name] = b
	a.wake()
}

// DeleteService notes that a Service is gone.
func (a *Announcer) DeleteService(namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropLocked(types.NamespacedName{Namespace: namespace, Name: name})
}

// KeepServices notes that all Services but those named are gone.
func (a *Announcer) KeepServices(names map[types.NamespacedName]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.services {
		if !names[name] {
			a.dropLocked(name)
		}
	}
}

func (a *Announcer) dropLocked(name types.NamespacedName) {
	if _, had := a.services[name]; had {
		delete(a.services, name)
		a.wake()
	}
}

// SetSlice notes that endpoints have changed; who knows of them is asked later. It keeps nothing of s.
func (a *Announcer) SetSlice(s *discoveryv1.EndpointSlice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.services[types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}].local {
		a.wake()
	}
}

// DeleteSlice notes that an EndpointSlice is gone.
func (a *Announcer) DeleteSlice(namespace, _ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, b := range a.services {
		if b.local && name.Namespace == namespace {
			a.wake()
		}
	}
}

// KeepSlices notes that some EndpointSlices may be gone.
func (a *Announcer) KeepSlices(map[types.NamespacedName]bool) { a.wake() }

// setNode notes what a Node object says.
func (a *Announcer) setNode(n *corev1.Node) {
	now := readNode(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	if n.Name == a.cfg.Node {
		a.addresses = addressesOf(n, corev1.NodeInternalIP)
	}
	own := slices.DeleteFunc(addressesOf(n, corev1.NodeInternalIP, corev1.NodeExternalIP), func(ip netip.Addr) bool { return !a.inRanges(ip) })
	if !slices.Equal(own, a.owned[n.Name]) {
		delete(a.owned, n.Name)
		if len(own) > 0 {
			a.owned[n.Name] = own
			a.log.Warn("a node has addresses that are for load balancers: they are left to it", zap.String("node", n.Name), zap.Stringers("addresses", own))
		}
		a.wake()
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
	delete(a.owned, name)
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
	leases map[string]context.CancelFunc // by node
}

// begin follows all nodes, and the addresses that the machine loses.
func (a *Announcer) begin(ctx context.Context) (*session, error) {
	ctx, stop := context.WithCancel(ctx)
	s := &session{stop: stop, leases: map[string]context.CancelFunc{}}
	nodes := informersv1.NewNodeInformer(a.parts.Kube, 0, cache.Indexers{})
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
		failed := func(err error) {
			if ctx.Err() == nil { // else it tells of its own end
				a.log.Warn("following the machine's addresses", zap.Error(err))
			}
		}
		for ctx.Err() == nil { // a subscription ends when the kernel has more to tell than it holds
			if err := a.kernel.follow(ctx.Done(), a.lost, failed); err != nil {
				failed(err)
			}
			a.mu.Lock()
			a.recheck = true
			a.mu.Unlock()
			a.wake()
			select {
			case <-ctx.Done():
			case <-time.After(againWorst):
			}
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
	out.Status.Addresses = slices.DeleteFunc(slices.Clone(n.Status.Addresses), func(at corev1.NodeAddress) bool {
		ip, err := netip.ParseAddr(at.Address)
		return n.Name != a.cfg.Node && (err != nil || !a.inRanges(ip.Unmap()))
	})
	return out, nil
}

// inRanges says whether an address is one that may be announced.
func (a *Announcer) inRanges(ip netip.Addr) bool {
	return slices.ContainsFunc(a.cfg.Ranges, func(r netip.Prefix) bool { return r.Contains(ip) })
}

// lost hears of an address that the machine has no more: if it was to have it, it is given back.
func (a *Announcer) lost(ip netip.Addr) {
	if a.inRanges(ip) {
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
	s.group.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complete = false
	clear(a.nodes)
	clear(a.owned)
	a.pulses = newPulses(a.cfg.Node)
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
	watchForbidden  = 30 * time.Second
)

// watchLease tells of a node's Lease, as it is and whenever it changes, until ctx ends.
func (a *Announcer) watchLease(ctx context.Context, name string) {
	opts := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()}
	for pause := watchAgain; ctx.Err() == nil; pause = min(2*pause, watchAgainWorst) {
		w, err := a.parts.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Watch(ctx, opts)
		switch {
		case apierrors.IsForbidden(err):
			a.log.Warn("a dead node's addresses will move only when it is marked as not ready: its lease may not be watched", zap.String("node", name), zap.Error(err))
			pause = watchForbidden
		case err != nil:
			a.log.Debug("watching a lease", zap.String("node", name), zap.Error(err))
		default:
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
	l, err := a.parts.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if l.Spec.RenewTime == nil {
		return errNoLease
	}
	a.heardLease(l)
	return nil
}
