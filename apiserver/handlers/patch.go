package handlers

import (
	"bytes"
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

// patch answers PATCH on an object or a part of it. The patch is applied to the served version of the newest state, again when
// another write came between.
func (h *Handlers) patch(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info, p part) error {
	v, err := viewOf(r, res, true)
	if err != nil {
		return err
	}
	kind, err := patchType(r)
	if err != nil {
		return err
	}
	c, err := changeOf(r, v, info, kind)
	if err != nil {
		return err
	}
	if applies(kind) {
		return h.apply(w, r, res, c, kind, p)
	}
	told := false
	stored, err := h.Update(r.Context(), Update{
		Resource: res.Hub, Served: res, Key: keyOf(res, info), Subresource: info.Subresource, DryRun: c.dry, Part: p, Keeps: true,
		Change: func(old registry.Object) (registry.Object, error) {
			doc, err := patchDocument(res, old, kind, c.body)
			if err != nil {
				return nil, err
			}
			doc, texts, err := patch.Apply(kind, doc, c.body, res.New(), c.strict != codec.Ignore)
			if err != nil {
				return nil, err
			}
			obj := res.New()
			warnings, err := codec.Decode(doc, codec.JSON, res.GVK, obj, c.telling())
			if err != nil {
				return nil, err
			}
			if !told || c.strict == codec.Strict {
				told = true
				if err := c.tell(r.Context(), append(texts, warnings...)); err != nil {
					return nil, err
				}
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

// patchDocument is what a patch changes: the JSON of the served version. Who owns what is a good part of a small object, and is
// left out where a patch cannot see it: the write path takes it from old.
func patchDocument(res *registry.Resource, old registry.Object, kind types.PatchType, body []byte) ([]byte, error) {
	served := res.Served(old)
	if kind != types.JSONPatchType && !bytes.Contains(body, []byte("managedFields")) && !bytes.Contains(body, []byte(`\u`)) {
		owners := served.GetManagedFields()
		served.SetManagedFields(nil)
		defer served.SetManagedFields(owners)
	}
	served.GetObjectKind().SetGroupVersionKind(res.GVK)
	defer served.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return json.Marshal(served)
}

// patchType reads which patch a request carries.
func patchType(r *http.Request) (types.PatchType, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		media = r.Header.Get("Content-Type")
	}
	kind := types.PatchType(media)
	if !slices.Contains(patch.Types, kind) {
		return "", patch.Unsupported(media)
	}
	return kind, nil
}

func applies(kind types.PatchType) bool {
	return kind == types.ApplyYAMLPatchType || kind == types.ApplyCBORPatchType
}
