package handlers

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/patch"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// patch answers PATCH on an object or its status. The patch is applied to the served version of the newest state, again when
// another write came between.
func (h *Handlers) patch(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info, p part) error {
	v, err := viewOf(r, res, true)
	if err != nil {
		return err
	}
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	b, err := body(r)
	if err != nil {
		return err
	}
	strict, err := strictness(r)
	if err != nil {
		return err
	}
	apply, err := patcher(r, b)
	if err != nil {
		return err
	}
	warned := false
	stored, err := h.Update(r.Context(), Update{
		Resource: res.Hub, Served: res, Key: keyOf(res, info), Subresource: info.Subresource, DryRun: dry, Part: p, Keeps: true,
		Change: func(old registry.Object) (registry.Object, error) {
			served := res.Served(old)
			served.GetObjectKind().SetGroupVersionKind(res.GVK)
			doc, err := json.Marshal(served)
			served.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
			if err != nil {
				return nil, err
			}
			if doc, err = apply(doc, res.New()); err != nil {
				return nil, err
			}
			obj := res.New()
			warnings, err := codec.Decode(doc, codec.JSON, res.GVK, obj, strict)
			if err != nil {
				return nil, err
			}
			if !warned {
				warnAll(r, warnings)
				warned = true
			}
			if err := matchPath(info, res, obj); err != nil {
				return nil, err
			}
			return fromServed(res, obj, old)
		},
	})
	if err != nil {
		return err
	}
	return v.written(w, http.StatusOK, stored)
}

// patcher reads which patch a request carries.
func patcher(r *http.Request, b []byte) (func(doc []byte, schemaOf any) ([]byte, error), error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		media = r.Header.Get("Content-Type")
	}
	kind := types.PatchType(media)
	if !slices.Contains(patch.Types, kind) {
		return nil, patch.Unsupported(media)
	}
	return func(doc []byte, schemaOf any) ([]byte, error) { return patch.Apply(kind, doc, b, schemaOf) }, nil
}

func warnAll(r *http.Request, texts []string) {
	for _, t := range texts {
		request.Warn(r.Context(), t)
	}
}
