package handlers

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
)

// streamBuffer is how much of a list is gathered before it is written out.
const streamBuffer = 64 << 10

// page writes a page of a list: streamed, never built whole, except for tables, YAML, CBOR and indented JSON.
func (v *view) page(w http.ResponseWriter, p *storage.Page) error {
	if v.a.As != codec.Table && v.record.Wants().Answer {
		var whole writeBuffer
		if err := v.writeJSON(&whole, p); err != nil {
			return err
		}
		audit.AnsweredJSON(v.record, whole)
	}
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
	case v.a.Media == codec.CBOR:
		return v.pageCBOR(w, p)
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
	body := newOutlet(w, v.a)
	defer body.drop()
	out := bufio.NewWriterSize(body, streamBuffer)
	if err := v.writeJSON(out, p); err != nil {
		return abort(err)
	}
	if err := out.WriteByte('\n'); err != nil {
		return abort(err)
	}
	if err := out.Flush(); err != nil {
		return abort(err)
	}
	if err := body.finish(); err != nil {
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

func (v *view) pageCBOR(w http.ResponseWriter, p *storage.Page) error {
	b, err := codec.CBORList(v.listKind(), listMeta(p), len(p.Entries), func(i int) (any, error) {
		obj, err := v.served(p.Entries[i])
		if err != nil {
			return nil, err
		}
		return v.shape(obj), nil
	})
	if err != nil {
		return err
	}
	writeBody(w, v.a, http.StatusOK, b)
	return nil
}

func (v *view) pageProtobuf(w http.ResponseWriter, p *storage.Page) error {
	head := codec.ListHead(p.Revision, p.Continue, p.Remaining)
	size := len(head)
	var made [][]byte // the messages, where they are not the stored bytes themselves
	for i, e := range p.Entries {
		b, err := v.message(e)
		if err != nil {
			return err
		}
		if made == nil && (len(b) == 0 || &b[0] != &e.Value[0]) {
			made = make([][]byte, len(p.Entries))
			for j := range i {
				made[j] = p.Entries[j].Value
			}
		}
		if made != nil {
			made[i] = b
		}
		size += codec.ItemSize(b, e.Revision)
	}
	envelope := codec.EnvelopeHead(v.listKind(), size)
	body := newOutlet(w, v.a)
	defer body.drop()
	if size += len(envelope); v.a.Gzip && size > gzipOver {
		body.zip()
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		body.begin()
	}
	buf := make([]byte, 0, min(streamBuffer, size))
	buf = append(append(buf, envelope...), head...)
	for i, e := range p.Entries {
		b := e.Value
		if made != nil {
			b = made[i]
		}
		if len(buf) > 0 && len(buf)+codec.ItemSize(b, e.Revision) > streamBuffer {
			if _, err := body.Write(buf); err != nil {
				return abort(err)
			}
			buf = buf[:0]
		}
		buf = codec.AppendItem(buf, b, e.Revision)
	}
	if _, err := body.Write(buf); err != nil {
		return abort(err)
	}
	if err := body.finish(); err != nil {
		return abort(err)
	}
	return nil
}
