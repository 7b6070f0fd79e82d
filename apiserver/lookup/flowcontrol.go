package lookup

import (
	"context"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/flowcontrol"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
)

// Flows reads what flow control needs at every request, from the watch caches alone: it never waits for storage.
type Flows struct {
	look    *Lookup
	schemas atHand[*flowcontrolv1.FlowSchema, *flowcontrol.Schema, *flowcontrol.Schemas]
	levels  atHand[*flowcontrolv1.PriorityLevelConfiguration, *flowcontrol.Level, *flowcontrol.Levels]
}

// NewFlows makes Flows; the registry has the two kinds already.
func NewFlows(l *Lookup) *Flows {
	return &Flows{l,
		handy(NewView(l, flowcontrolv1.SchemeGroupVersion.WithResource("flowschemas"), flowcontrol.Compile, flowcontrol.Order)),
		handy(NewView(l, flowcontrolv1.SchemeGroupVersion.WithResource("prioritylevelconfigurations"), flowcontrol.CompileLevel, flowcontrol.Gather)),
	}
}

// FlowSchemas are those of now; nil while the cache is not loaded.
func (f *Flows) FlowSchemas(ctx context.Context) (*flowcontrol.Schemas, error) {
	return f.schemas.get(ctx)
}

// PriorityLevels are those of now; nil while the cache is not loaded.
func (f *Flows) PriorityLevels(ctx context.Context) (*flowcontrol.Levels, error) {
	return f.levels.get(ctx)
}

// atHand is a view that says nothing while it cannot be told without waiting.
type atHand[T registry.Object, M, W any] struct {
	view  *View[T, M, W]
	store storage.Store // nil when the kind is not served
}

func handy[T registry.Object, M, W any](v *View[T, M, W]) atHand[T, M, W] {
	if r := v.look.reg.Find(v.gvr); r != nil {
		return atHand[T, M, W]{v, r.Store}
	}
	return atHand[T, M, W]{view: v}
}

func (a atHand[T, M, W]) get(ctx context.Context) (none W, _ error) {
	changes := changesOf(a.store)
	if changes < 0 {
		return none, nil
	}
	if s := a.view.now.Load(); s != nil && s.changes == changes {
		return s.whole, nil
	}
	return a.view.Get(ctx)
}

// Size is how many objects of a kind there are in a namespace, or all, counting no further than most; negative when that is not known.
func (f *Flows) Size(of schema.GroupVersionResource, namespace string, most int) int {
	r := f.look.reg.Find(of)
	if r == nil {
		return -1
	}
	if s, ok := r.Store.(storage.Sized); ok {
		return s.Size(namespace, most)
	}
	return -1
}
