package handlers

import (
	"net/http"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

const (
	deletePage    = 500 // objects listed at a time
	deleteWorkers = 8
)

// deleteCollection answers DELETE of a collection: what the selectors match, page by page, each object by the one path. It
// returns what it found. An object that is already gone is as well.
func (h *Handlers) deleteCollection(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	v, err := listViewOf(r, res)
	if err != nil {
		return err
	}
	lo, sel, err := listOptions(r, res, info)
	if err != nil {
		return err
	}
	o, err := deleteOptions(r)
	if err != nil {
		return err
	}
	page := &storage.Page{Continue: lo.Continue}
	for {
		next, err := res.Store.List(r.Context(), storage.ListOptions{Selector: sel, Limit: deletePage, Continue: page.Continue})
		if err != nil {
			return storeError(err, res, "")
		}
		group, ctx := errgroup.WithContext(r.Context())
		group.SetLimit(deleteWorkers)
		for _, e := range next.Entries {
			group.Go(func() error {
				_, _, err := h.Delete(ctx, res, e.Key, o)
				if apierrors.IsNotFound(err) {
					return nil
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		page.Entries = append(page.Entries, next.Entries...)
		page.Continue, page.Revision = next.Continue, next.Revision
		if page.Continue == "" {
			return v.page(w, page)
		}
	}
}
