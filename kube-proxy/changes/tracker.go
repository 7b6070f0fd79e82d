package changes

import (
	"net/netip"
	"slices"
	"sync"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Tracker gathers what the informers tell and makes tables of it.
type Tracker struct {
	family family
	node   unique.Handle[string]
	began  time.Time
	woken  chan struct{}

	mu       sync.Mutex
	zone     unique.Handle[string]
	services map[types.NamespacedName]*entry
	owners   map[types.NamespacedName]types.NamespacedName // of a slice: its Service
	dirty    map[types.NamespacedName]struct{}
	table    *Table
	news     News
}

// entry is what is known of one Service.
type entry struct {
	ports  []Service // without endpoints; none: the Service itself is unknown, or nothing to offer
	slices []slice   // in no order
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
		node:     intern(node),
		zone:     noName,
		began:    time.Now(),
		woken:    make(chan struct{}, 1),
		services: map[types.NamespacedName]*entry{},
		owners:   map[types.NamespacedName]types.NamespacedName{},
		dirty:    map[types.NamespacedName]struct{}{},
		table:    &Table{},
	}
}

// Pending tells how many changes were heard of since the last Take.
func (t *Tracker) Pending() News {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.news
}

// Woken carries a token when there is something to Take.
func (t *Tracker) Woken() <-chan struct{} { return t.woken }

// SetService notes the newest state of a Service. It keeps nothing of svc but
// strings.
func (t *Tracker) SetService(svc *corev1.Service) {
	name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	ports := servicePorts(svc, t.family)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setPortsLocked(name, ports)
}

// DeleteService notes that a Service is gone.
func (t *Tracker) DeleteService(namespace, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setPortsLocked(types.NamespacedName{Namespace: namespace, Name: name}, nil)
}

func (t *Tracker) setPortsLocked(name types.NamespacedName, ports []Service) {
	e := t.services[name]
	if e == nil {
		if len(ports) == 0 {
			return
		}
		e = &entry{}
		t.services[name] = e
	}
	if slices.EqualFunc(e.ports, ports, func(a, b Service) bool { return a.equal(&b) }) {
		return
	}
	e.ports = ports
	t.tidyLocked(name, e)
	t.news.Services++
	t.markLocked(name)
}

// SetSlice notes the newest state of an EndpointSlice. It keeps nothing of s but
// strings.
func (t *Tracker) SetSlice(s *discoveryv1.EndpointSlice) {
	name := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	owner, owned := ownerOf(s)
	now, says := readSlice(s, t.family)
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, had := t.owners[name]; had && (before != owner || !owned || !says) {
		t.dropSliceLocked(name) // it says nothing any more, or was handed to another Service
	}
	if !owned || !says {
		return
	}
	e := t.services[owner]
	if e == nil {
		e = &entry{}
		t.services[owner] = e
	}
	if i := e.slice(s.Name); i < 0 {
		e.slices = append(e.slices, now)
	} else if e.slices[i].equal(&now) {
		return
	} else {
		e.slices[i] = now
	}
	t.owners[name] = owner
	t.news.Slices++
	// What happened before this process began has waited for it.
	if at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil && at.After(t.began) {
		t.news.Since = append(t.news.Since, at)
	}
	t.markLocked(owner)
}

// DeleteSlice notes that an EndpointSlice is gone.
func (t *Tracker) DeleteSlice(namespace, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropSliceLocked(types.NamespacedName{Namespace: namespace, Name: name})
}

// KeepServices notes that all Services but those named are gone.
func (t *Tracker) KeepServices(names map[types.NamespacedName]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.services {
		if !names[name] {
			t.setPortsLocked(name, nil)
		}
	}
}

// KeepSlices notes that all EndpointSlices but those named are gone.
func (t *Tracker) KeepSlices(names map[types.NamespacedName]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.owners {
		if !names[name] {
			t.dropSliceLocked(name)
		}
	}
}

// SetZone notes which zone this node is in; hints are read again if it moved.
func (t *Tracker) SetZone(zone string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.zone == intern(zone) {
		return
	}
	t.zone = intern(zone)
	for name := range t.services {
		t.markLocked(name)
	}
}

// ownerOf names the Service that a slice belongs to.
func ownerOf(s *discoveryv1.EndpointSlice) (types.NamespacedName, bool) {
	svc := s.Labels[discoveryv1.LabelServiceName]
	_, headless := s.Labels[corev1.IsHeadlessService]
	_, others := s.Labels[labelServiceProxyName]
	if svc == "" || headless || others {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: s.Namespace, Name: svc}, true
}

// slice finds a slice by name; below 0: it is not there.
func (e *entry) slice(name string) int {
	return slices.IndexFunc(e.slices, func(s slice) bool { return s.name == name })
}

func (t *Tracker) dropSliceLocked(name types.NamespacedName) {
	owner, had := t.owners[name]
	if !had {
		return
	}
	delete(t.owners, name)
	e := t.services[owner]
	i := e.slice(name.Name)
	e.slices = slices.Delete(e.slices, i, i+1)
	t.tidyLocked(owner, e)
	t.news.Slices++
	t.markLocked(owner)
}

// tidyLocked forgets a Service of which nothing is known.
func (t *Tracker) tidyLocked(name types.NamespacedName, e *entry) {
	if len(e.ports)+len(e.slices) == 0 {
		delete(t.services, name)
	}
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
		was := t.table.ports(name)
		now := t.computeLocked(name, was)
		if !slices.Equal(was, now) {
			fresh[name] = now
			changed = true
		}
	}
	clear(t.dirty)
	if changed {
		t.table = t.table.with(fresh)
	}
	return t.table, news
}

// computeLocked makes the ports of one Service, reusing those that are as they were.
func (t *Tracker) computeLocked(name types.NamespacedName, was []*Service) []*Service {
	e := t.services[name]
	if e == nil {
		return nil
	}
	at := place{node: t.node, zone: t.zone}
	out := make([]*Service, 0, len(e.ports))
	for _, s := range e.ports {
		c := choose(e.candidates(s.Name.Port), at)
		s.Endpoints = c.cluster
		if s.InternalLocal || s.ExternalLocal {
			s.LocalEndpoints = c.local
		}
		if s.HealthCheckNodePort != 0 {
			s.LocalReady = c.ready
		}
		if s.Protocol == UDP {
			s.Leaving = c.leaving
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

// candidates are all endpoints of a port; slices may have different numbers for it.
func (e *entry) candidates(port string) []candidate {
	var out []candidate
	for i := range e.slices {
		s := &e.slices[i]
		for _, p := range s.ports {
			if p.name != port {
				continue
			}
			for j := range s.endpoints {
				out = append(out, candidate{netip.AddrPortFrom(s.endpoints[j].addr, p.port), &s.endpoints[j]})
			}
		}
	}
	return out
}
