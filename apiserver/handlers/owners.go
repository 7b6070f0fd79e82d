package handlers

import (
	"bytes"
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/patch"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// writer is who a request writes as, in the version served it speaks.
func (h *Handlers) writer(ctx context.Context, served *registry.Resource, sub string, p part) patch.Writer {
	w := patch.Writer{APIVersion: served.GVK.GroupVersion().String(), Subresource: sub, Scope: scopeOf(served, p), Now: time.Now()}
	if info := request.InfoOf(ctx); info != nil {
		w.Manager = info.Manager
	}
	w.Convert = func(obj patch.Object, apiVersion string) patch.Object {
		if out := h.inVersion(served, obj, apiVersion); out != nil {
			return out
		}
		return nil
	}
	return w
}

// partScopes are what can be owned through the parts of a kind; a part that is not named here takes all it is told.
var partScopes = map[string]patch.Scope{
	"ephemeralcontainers": patch.EphemeralContainersOnly, "resize": patch.ResourcesOnly, "approval": patch.ConditionsOnly,
}

// scopeOf is what a write through a part can own: what it resets, it does not.
func scopeOf(res *registry.Resource, p part) patch.Scope {
	switch {
	case p == statusOnly:
		return patch.StatusOnly
	case p.of != nil:
		return partScopes[p.name]
	case p == action || !res.HasStatus:
		return patch.Everything
	}
	return patch.NotStatus
}

// inVersion converts an object of one served version to another of the same kind; nil when it is not served.
func (h *Handlers) inVersion(served *registry.Resource, obj registry.Object, apiVersion string) registry.Object {
	all := h.reg.All()
	i := slices.IndexFunc(all, func(r *registry.Resource) bool {
		return r.Hub == served.Hub && r.GVK.GroupVersion().String() == apiVersion
	})
	if i < 0 {
		return nil
	}
	if served.FromServed != nil {
		obj = served.FromServed(obj)
	}
	return all[i].Served(obj)
}

// own notes whose fields a write of obj (stored version, like old, which is nil at a create) sets.
func (h *Handlers) own(ctx context.Context, served *registry.Resource, obj, old registry.Object, sub string, p part) {
	w := h.writer(ctx, served, sub, p)
	if served.ToServed == nil {
		var was patch.Object
		if old != nil {
			was = old
		}
		h.owners.Update(obj, was, w)
		return
	}
	now := served.Served(obj)
	var was patch.Object
	if old != nil {
		was = served.Served(old)
	}
	h.owners.Update(now, was, w)
	obj.SetManagedFields(now.GetManagedFields())
}

// unlessTimes returns the stored form of obj, which is value unless obj differs from old, whose stored form is stored, in nothing
// but when fields were set: that is no change (the kind or admission took back what the request changed).
func unlessTimes(obj, old registry.Object, value, stored []byte) ([]byte, error) {
	if len(value) != len(stored) || bytes.Equal(value, stored) {
		return value, nil
	}
	if !codec.IsJSON(value) {
		meta, err := codec.Metadata(value)
		if err != nil {
			return nil, err
		}
		// Metadata comes first, and most changes are behind it.
		if rest := cap(value) - cap(meta) + len(meta); !bytes.Equal(value[rest:], stored[rest:]) {
			return value, nil
		}
	}
	now, was := obj.GetManagedFields(), old.GetManagedFields()
	if len(now) != len(was) || !slices.ContainsFunc(now, func(e metav1.ManagedFieldsEntry) bool { return e.Time != nil }) {
		return value, nil
	}
	obj.SetManagedFields(was)
	again, err := codec.Marshal(obj)
	if err == nil && bytes.Equal(again, stored) {
		return again, nil
	}
	obj.SetManagedFields(now)
	return value, err
}
