package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/storage"
)

// Registry finds resources. Lookups take no lock; Add and Remove replace the whole map.
type Registry struct {
	backend storage.Backend // set once

	mu    sync.Mutex // serialises changes
	table atomic.Pointer[snapshot]
}

type snapshot struct {
	byGVR map[schema.GroupVersionResource]*Resource
	all   []*Resource // in table order, then the order of Add
}

// New makes a registry of the given table and gives each stored kind its store.
func New(backend storage.Backend, table []*Resource) *Registry {
	g := &Registry{backend: backend}
	g.table.Store(&snapshot{byGVR: map[schema.GroupVersionResource]*Resource{}})
	for _, r := range table {
		if err := g.Add(r); err != nil {
			panic(err)
		}
	}
	return g
}

// Add serves one more resource. A further version must come after its hub.
func (g *Registry) Add(r *Resource) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.table.Load()
	if _, taken := old.byGVR[r.GVR()]; taken {
		return fmt.Errorf("adding resource %s: it is served already", r.GVR())
	}
	own := *r
	own.Form = storage.Form{Media: codec.JSON, Version: r.GVK.GroupVersion().String() + " " + r.GVK.Kind}
	own.Actions = maps.Clone(r.Actions)
	if own.Actions == nil {
		own.Actions = map[string]*Action{}
	}
	if r.Virtual {
		own.Hub = &own
	} else if r.Hub == r {
		own.Hub = &own
		own.Store = g.backend.Store(own.storageKind())
	} else {
		hub := old.byGVR[r.Hub.GVR()]
		if hub == nil {
			return fmt.Errorf("adding resource %s: its stored version %s is not served", r.GVR(), r.Hub.GVR())
		}
		own.Hub, own.Store = hub, hub.Store
	}
	next := &snapshot{byGVR: maps.Clone(old.byGVR), all: append(slices.Clone(old.all), &own)}
	next.byGVR[own.GVR()] = &own
	g.table.Store(next)
	return nil
}

// Remove stops serving a resource; its stored objects stay.
func (g *Registry) Remove(gvr schema.GroupVersionResource) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.table.Load()
	next := &snapshot{byGVR: maps.Clone(old.byGVR)}
	delete(next.byGVR, gvr)
	next.all = slices.DeleteFunc(slices.Clone(old.all), func(r *Resource) bool { return r.GVR() == gvr })
	g.table.Store(next)
}

// Find returns the resource served there, nil when there is none.
func (g *Registry) Find(gvr schema.GroupVersionResource) *Resource { return g.table.Load().byGVR[gvr] }

// All returns every resource in the order of the table. The slice is shared and must not be changed.
func (g *Registry) All() []*Resource { return g.table.Load().all }

// Groups returns the group versions served, each once: core first, then by name; the versions of a group in table order.
func (g *Registry) Groups() []schema.GroupVersion {
	var out []schema.GroupVersion
	for _, r := range g.All() {
		if gv := r.GVK.GroupVersion(); !slices.Contains(out, gv) {
			out = append(out, gv)
		}
	}
	slices.SortStableFunc(out, func(a, b schema.GroupVersion) int { return strings.Compare(a.Group, b.Group) })
	return out
}
