package handlers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// streamBuffer is how much of a list is gathered before it is written out.
const streamBuffer = 64 << 10

// listOptions reads and checks the query of a list, watch or deletecollection.
func listOptions(r *http.Request, res *registry.Resource, info *request.Info) (*internalversion.ListOptions, storage.Selector, error) {
	o := &internalversion.ListOptions{}
	sel := storage.Selector{Namespace: info.Namespace}
	if !res.Namespaced {
		sel.Namespace = ""
	}
	sel.Name = info.Name // an old-style watch of one object
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
	sel.Fields = fs
	return o, sel, nil
}

// storedFields checks a field selector against what the kind declares and maps it to the stored version's names.
func storedFields(res *registry.Resource, s fields.Selector) (fields.Selector, error) {
	if s == nil || s.Empty() {
		return nil, nil
	}
	out, err := s.Transform(func(field, value string) (string, string, error) {
		if field == "metadata.name" || field == "metadata.namespace" {
			return field, value, nil
		}
		if !slices.Contains(res.FieldNames, field) {
			return "", "", fmt.Errorf("field label not supported: %s", field)
		}
		if res.FieldToStored != nil {
			field = res.FieldToStored(field)
		}
		return field, value, nil
	})
	if err != nil {
		return nil, badRequest(fmt.Sprintf("Unable to find %q that match label selector \"\", field selector %q: %v", res.GVR(), s, err))
	}
	return out, nil
}

func readOf(o *internalversion.ListOptions) (storage.Read, error) {
	switch {
	case o.ResourceVersion == "":
		return storage.Read{}, nil
	}
	n, err := revision(o.ResourceVersion)
	if err != nil {
		return storage.Read{}, err
	}
	switch {
	case o.ResourceVersionMatch == metav1.ResourceVersionMatchExact:
		return storage.Read{Match: storage.Exact, Revision: n}, nil
	case o.ResourceVersionMatch == "" && o.Limit > 0 && n > 0 && o.Continue == "":
		// A limited list at a revision without a match rule is exact (API concepts, resourceVersion in list).
		return storage.Read{Match: storage.Exact, Revision: n}, nil
	}
	return storage.Read{Match: storage.NotOlderThan, Revision: n}, nil
}

// list answers GET of a collection.
func (h *Handlers) list(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	v, err := viewOf(r, res, true)
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
	page, err := res.Store.List(r.Context(), storage.ListOptions{Selector: sel, Read: read, Limit: o.Limit, Continue: o.Continue})
	if err != nil {
		return storeError(err, res, "")
	}
	return v.page(w, page)
}

// page writes a page of a list: streamed, never built whole, except for tables, YAML and indented JSON.
func (v *view) page(w http.ResponseWriter, p *storage.Page) error {
	switch {
	case v.a.As == codec.Table:
		objs := make([]registry.Object, 0, len(p.Entries))
		for _, e := range p.Entries {
			obj, err := v.served(e)
			if err != nil {
				return err
			}
			objs = append(objs, obj)
		}
		return v.table(w, http.StatusOK, objs, listMeta(p))
	case v.a.Media == codec.Protobuf:
		return v.pageProtobuf(w, p)
	case v.a.Media == codec.JSON && !v.a.Pretty:
		return v.pageJSON(w, p)
	}
	var whole writeBuffer
	if err := v.writeJSON(&whole, p); err != nil {
		return err
	}
	b, err := codec.Finish(whole, v.a)
	if err != nil {
		return err
	}
	writeBody(w, v.a, http.StatusOK, b)
	return nil
}

type writeBuffer []byte

func (b *writeBuffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }

func (b *writeBuffer) WriteString(p string) (int, error) { *b = append(*b, p...); return len(p), nil }

func listMeta(p *storage.Page) metav1.ListMeta {
	return metav1.ListMeta{
		ResourceVersion: strconv.FormatInt(p.Revision, 10), Continue: p.Continue, RemainingItemCount: p.Remaining,
	}
}

func (v *view) pageJSON(w http.ResponseWriter, p *storage.Page) error {
	// The first item is made before the header goes out, so that a list that cannot be encoded at all is an error.
	if len(p.Entries) > 0 {
		if _, err := v.json(p.Entries[0]); err != nil {
			return err
		}
	}
	startStream(w, v.a)
	out := bufio.NewWriterSize(w, streamBuffer)
	if err := v.writeJSON(out, p); err != nil {
		return abort(err)
	}
	if err := out.WriteByte('\n'); err != nil {
		return abort(err)
	}
	if err := out.Flush(); err != nil {
		return abort(err)
	}
	return nil
}

type stringWriter interface {
	Write([]byte) (int, error)
	WriteString(string) (int, error)
}

func (v *view) writeJSON(out stringWriter, p *storage.Page) error {
	kind := v.listKind()
	av, k := kind.ToAPIVersionAndKind()
	meta, err := json.Marshal(listMeta(p))
	if err != nil {
		return err
	}
	if _, err := out.WriteString(`{"kind":"` + k + `","apiVersion":"` + av + `","metadata":` + string(meta) + `,"items":[`); err != nil {
		return err
	}
	if err := v.itemsJSON(p.Entries, out.Write); err != nil {
		return err
	}
	_, err = out.WriteString("]}")
	return err
}

func (v *view) pageProtobuf(w http.ResponseWriter, p *storage.Page) error {
	head := codec.ListHead(p.Revision, p.Continue, p.Remaining)
	values := make([][]byte, len(p.Entries))
	size := len(head)
	for i, e := range p.Entries {
		b, err := v.message(e)
		if err != nil {
			return err
		}
		values[i] = b
		size += codec.ItemSize(b, e.Revision)
	}
	envelope := codec.EnvelopeHead(v.listKind(), size)
	w.Header().Set("Content-Length", strconv.Itoa(len(envelope)+size))
	startStream(w, v.a)
	buf := make([]byte, 0, min(streamBuffer, len(envelope)+size))
	buf = append(append(buf, envelope...), head...)
	for i, e := range p.Entries {
		if len(buf) > 0 && len(buf)+codec.ItemSize(values[i], e.Revision) > streamBuffer {
			if _, err := w.Write(buf); err != nil {
				return abort(err)
			}
			buf = buf[:0]
		}
		buf = codec.AppendItem(buf, values[i], e.Revision)
	}
	if _, err := w.Write(buf); err != nil {
		return abort(err)
	}
	return nil
}

func startStream(w http.ResponseWriter, a codec.Accepted) {
	w.Header().Set("Content-Type", a.ContentType(false))
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
}

// abort ends a response whose header is already out: the connection is cut, so that nobody takes a part for the whole.
func abort(error) error { panic(http.ErrAbortHandler) }
