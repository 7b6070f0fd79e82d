package handlers

import (
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// list answers GET of a collection.
func (h *Handlers) list(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	v, err := listViewOf(r, res)
	if err != nil {
		return err
	}
	o, sel, err := listOptions(r, res, info)
	if err != nil {
		return err
	}
	read, err := readOf(o)
	if err != nil {
		return err
	}
	page, err := res.Store.List(r.Context(), storage.ListOptions{Selector: sel, Read: read, Limit: max(o.Limit, 0), Continue: o.Continue})
	if err != nil {
		return storeError(err, res, "")
	}
	if len(page.Entries) <= longList {
		return v.page(w, page)
	}
	paced, alone, err := h.pace.begin(r.Context(), w)
	if err != nil {
		return err
	}
	defer paced.end()
	v.beside = !alone
	return v.page(paced, page)
}

// listOptions reads and checks the query of a list, watch or deletecollection.
func listOptions(r *http.Request, res *registry.Resource, info *request.Info) (*internalversion.ListOptions, storage.Selector, error) {
	o := &internalversion.ListOptions{}
	sel := storage.Selector{Namespace: info.Namespace}
	if !res.Namespaced {
		sel.Namespace = ""
	}
	sel.Name = info.Name // asked for in the path of an old-style watch, or by a field selector
	if r.URL.RawQuery == "" {
		return o, sel, nil
	}
	q := r.URL.Query()
	var sent metav1.ListOptions
	if err := metav1.Convert_url_Values_To_v1_ListOptions(&q, &sent, nil); err != nil {
		return nil, sel, badRequest(err.Error())
	}
	if err := internalversion.Convert_v1_ListOptions_To_internalversion_ListOptions(&sent, o, nil); err != nil {
		return nil, sel, badRequest(err.Error())
	}
	if errs := internalvalidation.ValidateListOptions(o, true); len(errs) > 0 {
		return nil, sel, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "ListOptions"}, "", errs)
	}
	sel.Labels = o.LabelSelector
	fs, err := storedFields(res, o.FieldSelector)
	if err != nil {
		return nil, sel, err
	}
	if info.Name != "" && fs != nil {
		if name, exact := fs.RequiresExactMatch("metadata.name"); !exact || name != info.Name {
			return nil, sel, badRequest("fieldSelector metadata.name doesn't match requested name")
		}
	}
	sel.Fields = fs
	return o, sel, nil
}

// storedFields checks a field selector against what the kind declares and maps it to the stored version's names.
func storedFields(res *registry.Resource, s fields.Selector) (fields.Selector, error) {
	if s == nil || s.Empty() {
		return nil, nil
	}
	out, err := s.Transform(func(field, value string) (string, string, error) {
		switch {
		case field == "metadata.name" || field == "metadata.namespace":
			return field, value, nil
		case len(res.FieldNames) == 0:
			return "", "", fmt.Errorf(`%q is not a known field selector: only "metadata.name", "metadata.namespace"`, field)
		case !slices.Contains(res.FieldNames, field):
			return "", "", fmt.Errorf("field label not supported: %s", field)
		}
		if res.FieldToStored != nil {
			field = res.FieldToStored(field)
		}
		return field, value, nil
	})
	if err != nil {
		return nil, badRequest(err.Error())
	}
	return out, nil
}

// readOf is the table «resourceVersion in list» of the API concepts
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list).
func readOf(o *internalversion.ListOptions) (storage.Read, error) {
	if o.ResourceVersion == "" {
		return storage.Read{}, nil
	}
	if o.Continue != "" && o.ResourceVersion != "0" {
		return storage.Read{}, badRequest("specifying resource version is not allowed when using continue")
	}
	n, err := revision(o.ResourceVersion)
	if err != nil {
		return storage.Read{}, badRequest("invalid resource version: " + err.Error())
	}
	exact := o.ResourceVersionMatch == metav1.ResourceVersionMatchExact ||
		o.ResourceVersionMatch == "" && o.Limit > 0 && n > 0 // a page of a revision is of that revision
	if exact {
		return storage.Read{Match: storage.Exact, Revision: n}, nil
	}
	return storage.Read{Match: storage.NotOlderThan, Revision: n}, nil
}
