package audit

import (
	"bytes"
	"context"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/request"
)

// Sent tells audit the object that a client sent, as it was decoded and before anything changed it. obj is looked at only now.
// Without auditing it costs nothing.
func Sent(ctx context.Context, obj runtime.Object, gvk schema.GroupVersionKind) {
	r := request.RecordOf(ctx)
	if r == nil {
		return
	}
	if m, ok := obj.(metav1.Object); ok {
		r.Named(request.Named{Namespace: m.GetNamespace(), Name: m.GetName(), UID: string(m.GetUID()), ResourceVersion: m.GetResourceVersion()})
	}
	if b := r.Wants(); b.Sent {
		r.Sent(jsonOf(obj, gvk, b))
	}
}

// SentPatch tells audit a patch. What is no JSON is left out: it changes nothing.
func SentPatch(ctx context.Context, patch []byte) {
	r := request.RecordOf(ctx)
	if b := r.Wants(); b.Sent && json.Valid(patch) {
		r.Sent(keepOwners(bytes.Clone(patch), b))
	}
}

// SentConfig tells audit an applied configuration, in whichever form it came.
func SentConfig(ctx context.Context, config map[string]any) {
	r := request.RecordOf(ctx)
	b := r.Wants()
	if !b.Sent {
		return
	}
	if text, err := json.Marshal(config); err == nil { // it was read from JSON, YAML or CBOR
		r.Sent(keepOwners(text, b))
	}
}

// Answered tells audit the object that a client gets. r is the record of its request; as Sent.
func Answered(r *request.Record, obj runtime.Object, gvk schema.GroupVersionKind) {
	if b := r.Wants(); b.Answer {
		r.Answer(jsonOf(obj, gvk, b))
	}
}

// AnsweredJSON is Answered for what is JSON already; it must not change afterwards.
func AnsweredJSON(r *request.Record, text []byte) {
	if b := r.Wants(); b.Answer {
		r.Answer(keepOwners(text, b))
	}
}

// jsonOf is nil for what has no JSON; nothing that a client can send or get is such.
func jsonOf(obj runtime.Object, gvk schema.GroupVersionKind, b request.Bodies) []byte {
	kind := obj.GetObjectKind()
	had := kind.GroupVersionKind()
	kind.SetGroupVersionKind(gvk)
	defer kind.SetGroupVersionKind(had)
	text, err := json.Marshal(obj)
	if err != nil {
		return nil
	}
	return keepOwners(text, b)
}

// keepOwners takes the managed fields out of an object, of the items of a list and of the rows of a Table, unless they are wanted.
func keepOwners(text []byte, b request.Bodies) []byte {
	if b.Owners || !bytes.Contains(text, []byte("managedFields")) {
		return text
	}
	var doc map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		return text // a JSON patch is a list
	}
	disown(doc)
	for _, key := range []string{"items", "rows"} {
		all, _ := doc[key].([]any)
		for _, one := range all {
			m, _ := one.(map[string]any)
			disown(m)
			of, _ := m["object"].(map[string]any)
			disown(of)
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return text
	}
	return out
}

func disown(m map[string]any) {
	meta, _ := m["metadata"].(map[string]any)
	delete(meta, "managedFields")
}
