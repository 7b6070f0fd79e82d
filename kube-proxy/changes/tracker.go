package changes

import (
	"slices"
	"sort"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Tracker gathers what the informers tell and makes tables of it.
type Tracker struct {
	family family
	node   string
	woken  chan struct{}

	mu       sync.Mutex
	zone     string
	services map[types.NamespacedName][]Service // without endpoints
	slices   map[types.NamespacedName]map[string]map[string][]fact
	dirty    map[types.NamespacedName]struct{}
	table    *Table
	news     News
}

// News is what came in between two tables.
type News struct {
	Services int         // Services told of
	Slices   int         // EndpointSlices told of
	Since    []time.Time // when what the slices tell of happened, where they say so
}

// New makes a Tracker of IPv4 (or IPv6) addresses for the node of that name.
func New(node string, v6 bool) *Tracker {
	return &Tracker{
		family:   family(v6),
		node:     node,
		woken:    make(chan struct{}, 1),
		services: map[types.NamespacedName][]Service{},
		slices:   map[types.NamespacedName]map[string]map[string][]fact{},
		dirty:    map[types.NamespacedName]struct{}{},
		table:    &Table{},
	}
}

// Woken carries a token when there is something to Take.
func (t *Tracker) Woken() <-chan struct{} { return t.woken }

// SetService notes the newest state of a Service.
func (t *Tracker) SetService(svc *corev1.Service) {
	name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	ports := servicePorts(svc, t.family)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(ports) == 0 {
		if _, had := t.services[name]; !had {
			return
		}
		delete(t.services, name)
	} else {
		t.services[name] = ports
	}
	t.news.Services++
	t.markLocked(name)
}

// DeleteService notes that a Service is gone.
func (t *Tracker) DeleteService(namespace, name string) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, had := t.services[key]; !had {
		return
	}
	delete(t.services, key)
	t.news.Services++
	t.markLocked(key)
}

// SetSlice notes the newest state of an EndpointSlice.
func (t *Tracker) SetSlice(s *discoveryv1.EndpointSlice) {
	owner, ok := ownerOf(s)
	if !ok {
		return
	}
	ports := slicePorts(s, t.family)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(ports) == 0 {
		t.dropSliceLocked(owner, s.Name)
		return
	}
	if t.slices[owner] == nil {
		t.slices[owner] = map[string]map[string][]fact{}
	}
	t.slices[owner][s.Name] = ports
	t.news.Slices++
	if at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		t.news.Since = append(t.news.Since, at)
	}
	t.markLocked(owner)
}

// DeleteSlice notes that an EndpointSlice is gone.
func (t *Tracker) DeleteSlice(s *discoveryv1.EndpointSlice) {
	owner, ok := ownerOf(s)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropSliceLocked(owner, s.Name)
}

// SetZone notes which zone this node is in; hints are read again if it moved.
func (t *Tracker) SetZone(zone string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.zone == zone {
		return
	}
	t.zone = zone
	for name := range t.services {
		t.markLocked(name)
	}
}

// ownerOf names the Service that a slice belongs to.
func ownerOf(s *discoveryv1.EndpointSlice) (types.NamespacedName, bool) {
	svc := s.Labels[discoveryv1.LabelServiceName]
	if _, headless := s.Labels[corev1.IsHeadlessService]; svc == "" || headless {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: s.Namespace, Name: svc}, true
}

func (t *Tracker) dropSliceLocked(owner types.NamespacedName, slice string) {
	if _, had := t.slices[owner][slice]; !had {
		return
	}
	delete(t.slices[owner], slice)
	if len(t.slices[owner]) == 0 {
		delete(t.slices, owner)
	}
	t.news.Slices++
	t.markLocked(owner)
}

func (t *Tracker) markLocked(name types.NamespacedName) {
	t.dirty[name] = struct{}{}
	select {
	case t.woken <- struct{}{}:
	default:
	}
}

// Take returns the newest table, and what came in since the last one. The table
// is the same pointer as the time before if nothing that matters has changed.
func (t *Tracker) Take() (*Table, News) {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := t.news
	t.news = News{}
	if len(t.dirty) == 0 {
		return t.table, news
	}
	fresh := make(map[types.NamespacedName][]*Service, len(t.dirty))
	changed := false
	for name := range t.dirty {
		was := within(t.table.Services, name)
		now := t.computeLocked(name, was)
		if !slices.Equal(was, now) {
			fresh[name] = now
			changed = true
		}
	}
	clear(t.dirty)
	if changed {
		t.table = &Table{Services: splice(t.table.Services, fresh)}
	}
	return t.table, news
}

// computeLocked makes the ports of one Service, reusing those that are as they were.
func (t *Tracker) computeLocked(name types.NamespacedName, was []*Service) []*Service {
	at := place{node: t.node, zone: t.zone}
	var out []*Service
	for _, s := range t.services[name] {
		var facts []fact
		for _, ports := range t.slices[name] {
			facts = append(facts, ports[s.Name.Port]...)
		}
		cluster, local := choose(facts, at)
		s.Endpoints = cluster
		if s.InternalLocal || s.ExternalLocal {
			s.LocalEndpoints = local
		}
		p := &s
		for _, old := range was {
			if old.equal(p) {
				p = old
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *Service) int { return a.Name.compare(b.Name) })
	return out
}

// within finds the ports of one Service in a sorted list.
func within(all []*Service, name types.NamespacedName) []*Service {
	before := func(s *Service) bool {
		return s.Name.Namespace < name.Namespace || s.Name.Namespace == name.Namespace && s.Name.Service < name.Name
	}
	i := sort.Search(len(all), func(i int) bool { return !before(all[i]) })
	j := i
	for j < len(all) && all[j].Name.Namespace == name.Namespace && all[j].Name.Service == name.Name {
		j++
	}
	return all[i:j:j]
}

// few is how many services are replaced one by one; more are merged in one pass.
const few = 32

// splice replaces the ports of the Services in fresh and leaves old untouched.
func splice(old []*Service, fresh map[types.NamespacedName][]*Service) []*Service {
	if len(fresh) <= few {
		out := slices.Clone(old)
		for name, now := range fresh {
			was := within(out, name)
			i := sort.Search(len(out), func(i int) bool {
				return out[i].Name.compare(Name{Namespace: name.Namespace, Service: name.Name}) >= 0
			})
			out = slices.Replace(out, i, i+len(was), now...)
		}
		return out
	}
	out := make([]*Service, 0, len(old)+len(fresh))
	for _, s := range old {
		if _, gone := fresh[types.NamespacedName{Namespace: s.Name.Namespace, Name: s.Name.Service}]; !gone {
			out = append(out, s)
		}
	}
	for _, now := range fresh {
		out = append(out, now...)
	}
	slices.SortFunc(out, func(a, b *Service) int { return a.Name.compare(b.Name) })
	return out
}
