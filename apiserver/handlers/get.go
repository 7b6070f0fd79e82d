package handlers

import (
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// get answers GET of one object, or of its status.
func (h *Handlers) get(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	v, err := viewOf(r, res, true)
	if err != nil {
		return err
	}
	read := storage.Read{}
	if r.URL.RawQuery != "" {
		if rv := r.URL.Query().Get("resourceVersion"); rv != "" {
			n, err := revision(rv)
			if err != nil {
				return badRequest("invalid resource version: " + err.Error())
			}
			read = storage.Read{Match: storage.NotOlderThan, Revision: n}
		}
	}
	e, err := res.Store.Get(r.Context(), keyOf(res, info), read)
	if err != nil {
		return storeError(err, res, info.Name)
	}
	return v.entry(w, http.StatusOK, e)
}

func keyOf(res *registry.Resource, info *request.Info) storage.Key {
	if !res.Namespaced {
		return storage.Key{Name: info.Name}
	}
	return storage.Key{Namespace: info.Namespace, Name: info.Name}
}

// revision reads a resourceVersion.
func revision(s string) (int64, *field.Error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, field.Invalid(field.NewPath("resourceVersion"), s, err.Error())
	}
	return int64(n), nil
}

func badRequest(text string) error { return apierrors.NewBadRequest(text) }
