package lookup

import (
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
)

// TestFlows: nothing is known, and nobody waits, until the caches are loaded; then what there is, and how much of it.
func TestFlows(t *testing.T) {
	gv := flowcontrolv1.SchemeGroupVersion
	reg, _, run := cached(t,
		registry.Define(registry.Kind[*flowcontrolv1.FlowSchema]{Group: gv.Group, Version: gv.Version, Kind: "FlowSchema", Plural: "flowschemas"}),
		registry.Define(registry.Kind[*flowcontrolv1.PriorityLevelConfiguration]{
			Group: gv.Group, Version: gv.Version, Kind: "PriorityLevelConfiguration", Plural: "prioritylevelconfigurations",
		}),
	)
	f := NewFlows(New(reg))
	ctx := t.Context()
	schemas, err := f.FlowSchemas(ctx)
	levels, lerr := f.PriorityLevels(ctx)
	if schemas != nil || levels != nil || err != nil || lerr != nil || f.Size(gv.WithResource("flowschemas"), "", 10) != -1 {
		t.Fatalf("before the caches run: %v, %v, %v, %v", schemas, levels, err, lerr)
	}
	value, err := codec.Marshal(&flowcontrolv1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u"}})
	if err == nil {
		_, err = reg.Find(gv.WithResource("flowschemas")).Store.Create(ctx, storage.Key{Name: "a"}, value, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	run()
	for end := time.Now().Add(30 * time.Second); schemas == nil || levels == nil || len(schemas.InOrder) == 0; time.Sleep(time.Millisecond) {
		if schemas, err = f.FlowSchemas(ctx); err == nil {
			levels, err = f.PriorityLevels(ctx)
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("%v, %v, %v", schemas, levels, err)
		}
	}
	if schemas.InOrder[0].UID != "u" || len(levels.ByName) != 0 {
		t.Errorf("%+v, %+v", schemas, levels)
	}
	if again, err := f.FlowSchemas(ctx); err != nil || again != schemas {
		t.Errorf("another pointer though nothing changed: %v", err)
	}
	if n := f.Size(gv.WithResource("flowschemas"), "", 10); n != 1 {
		t.Errorf("size %d", n)
	}
	if n := f.Size(gv.WithResource("unknown"), "", 10); n != -1 {
		t.Errorf("size of what is not served: %d", n)
	}
}
