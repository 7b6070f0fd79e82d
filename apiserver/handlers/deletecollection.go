package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

const (
	deletePage    = 500 // objects listed at a time
	deleteWorkers = 8
)

// deleteCollection answers DELETE of a collection: what the selectors match, page by page, each object by the one path. It
// returns what it found. An object that is already gone is as well. With a limit it is one page.
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
	read, err := readOf(lo)
	if err != nil {
		return err
	}
	list := storage.ListOptions{Selector: sel, Read: read, Limit: deletePage, Continue: lo.Continue}
	if lo.Limit > 0 {
		list.Limit = lo.Limit
	}
	all := &storage.Page{}
	for {
		page, err := res.Store.List(r.Context(), list)
		var expired *storage.Expired
		if errors.As(err, &expired) && len(all.Entries) > 0 {
			list.Continue = expired.Continue // what came between is deleted or not, as if it had come a little earlier or later
			continue
		}
		if err != nil {
			return storeError(err, res, "")
		}
		if err := h.deleteAll(r.Context(), res, page.Entries, o); err != nil {
			return err
		}
		all.Entries = append(all.Entries, page.Entries...)
		all.Revision, list.Continue = page.Revision, page.Continue
		if lo.Limit > 0 {
			all.Continue, all.Remaining = page.Continue, page.Remaining
			return v.page(w, all)
		}
		if page.Continue == "" {
			return v.page(w, all)
		}
	}
}

// deleteAll deletes what was listed, some at a time. It ends at the first error.
func (h *Handlers) deleteAll(ctx context.Context, res *registry.Resource, entries []*storage.Entry, o *metav1.DeleteOptions) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deleteWorkers)
	for _, e := range entries {
		group.Go(func() (err error) {
			defer func() { // no filter stands above this goroutine
				if cause := recover(); cause != nil {
					err = fmt.Errorf("deleting %s %s panicked: %v\n%s", res.Plural, e.Key, cause, debug.Stack())
				}
			}()
			if _, _, err = h.Delete(ctx, res, e.Key, o.DeepCopy()); apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	return group.Wait()
}
