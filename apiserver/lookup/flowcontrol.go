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
	schemas *View[*flowcontrolv1.FlowSchema, *flowcontrol.Schema, *flowcontrol.Schemas]
	levels  *View[*flowcontrolv1.PriorityLevelConfiguration, *flowcontrol.Level, *flowcontrol.Levels]
}

// NewFlows makes Flows.
func NewFlows(l *Lookup) *Flows {
	return &Flows{l,
		NewView(l, flowcontrolv1.SchemeGroupVersion.WithResource("flowschemas"), flowcontrol.Compile, flowcontrol.Order),
		NewView(l, flowcontrolv1.SchemeGroupVersion.WithResource("prioritylevelconfigurations"), flowcontrol.CompileLevel, flowcontrol.Gather),
	}
}

// FlowSchemas are those of now; nil while the cache is not loaded.
func (f *Flows) FlowSchemas(ctx context.Context) (*flowcontrol.Schemas, error) {
	return atHand(ctx, f.schemas)
}

// PriorityLevels are those of now; nil while the cache is not loaded.
func (f *Flows) PriorityLevels(ctx context.Context) (*flowcontrol.Levels, error) {
	return atHand(ctx, f.levels)
}

// atHand is what a view means when that can be told without waiting; else nothing.
func atHand[T registry.Object, M, W any](ctx context.Context, v *View[T, M, W]) (none W, _ error) {
	if r := v.look.reg.Find(v.gvr); r == nil || changesOf(r.Store) < 0 {
		return none, nil
	}
	return v.Get(ctx)
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
