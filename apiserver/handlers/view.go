package handlers

import (
	"bytes"
	"encoding/json"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// view is how one client wants to see the objects of a resource. Set once.
type view struct {
	res     *registry.Resource
	a       codec.Accepted
	include metav1.IncludeObjectPolicy // of Table rows
	record  *request.Record            // is told what the client gets
	beside  bool                       // other long lists are being made: this one is to use one processor
}

var partialKind = schema.GroupVersionKind{Group: "meta.k8s.io", Version: "v1", Kind: "PartialObjectMetadata"}

// viewOf negotiates; transforms says whether tables and partial metadata may be asked for.
func viewOf(r *http.Request, res *registry.Resource, transforms bool) (*view, error) {
	v, err := anyView(r, res, transforms)
	if err == nil && v.a.As == codec.PartialList {
		return nil, wrongShape("you requested PartialObjectMetadataList, but the requested object is not a list (%T)", res.New())
	}
	return v, err
}

// listViewOf is viewOf for a list.
func listViewOf(r *http.Request, res *registry.Resource) (*view, error) {
	v, err := anyView(r, res, true)
	if err != nil {
		return nil, err
	}
	switch v.a.As {
	case codec.Partial:
		return nil, wrongShape("you requested PartialObjectMetadata, but the requested object is a list (%TList)", res.New())
	case codec.PartialList:
		v.a.As = codec.Partial
	}
	return v, nil
}

// anyView takes partial metadata for one object and for a list alike, as a watch does.
func anyView(r *http.Request, res *registry.Resource, transforms bool) (*view, error) {
	a, ok := codec.Negotiate(r, transforms)
	if !ok {
		return nil, notAcceptable(codec.Media...)
	}
	v := &view{res: res, a: a, record: request.RecordOf(r.Context())}
	if a.As == codec.Table {
		v.include = metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject"))
		switch v.include {
		case "":
			v.include = metav1.IncludeMetadata
		case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		default:
			return nil, badTableOption(v.include)
		}
	}
	return v, nil
}

func (v *view) kind() schema.GroupVersionKind {
	if v.a.As == codec.Partial {
		return partialKind
	}
	return v.res.GVK
}

func (v *view) listKind() schema.GroupVersionKind {
	k := v.kind()
	k.Kind += "List"
	return k
}

// message is the protobuf message of an entry without its revision, in the served version. It may share e's bytes.
func (v *view) message(e *storage.Entry) ([]byte, error) {
	switch {
	case codec.IsJSON(e.Value):
		return nil, notAcceptable(codec.JSON, codec.YAML)
	case v.a.As == codec.Partial:
		return codec.PartialMessage(e.Value)
	case v.res.ToServed != nil:
		obj, err := v.served(e)
		if err != nil {
			return nil, err
		}
		return codec.Marshal(obj)
	}
	return e.Value, nil
}

// form names the JSON of one object in this view.
func (v *view) form() storage.Form {
	if v.a.As == codec.Partial {
		return storage.Form{Media: codec.JSON, Version: "meta.k8s.io/v1 PartialObjectMetadata"}
	}
	return v.res.Form
}

// json is the compact JSON of an entry in this view, shared by all who ask for it while the entry is recent.
func (v *view) json(e *storage.Entry) ([]byte, error) {
	return e.Encoded(v.form(), func(e *storage.Entry) ([]byte, error) {
		if b, ok := v.short(e); ok {
			return b, nil
		}
		obj, err := v.served(e)
		if err != nil {
			return nil, err
		}
		return v.objectJSON(obj)
	})
}

// short is json made without an object.
func (v *view) short(e *storage.Entry) ([]byte, bool) {
	buf := newBuffer()
	defer release(buf)
	b, ok := v.transcoder().Append(buf.AvailableBuffer(), e.Value, e.Revision)
	if !ok {
		return nil, false
	}
	buf.Write(b)
	return bytes.Clone(b), true
}

// transcoder makes JSON in this view from stored bytes, where they are of the version served.
func (v *view) transcoder() *codec.Transcoder {
	switch {
	case v.a.As == codec.Partial:
		return codec.TranscoderFor(partialKind, func() *metav1.PartialObjectMetadata { return &metav1.PartialObjectMetadata{} })
	case v.res.ToServed != nil, v.res.OnRead != nil:
		return nil
	}
	return codec.TranscoderFor(v.res.GVK, v.res.New)
}

// cbor is the CBOR of an entry in this view. Few ask for it: it is not shared.
func (v *view) cbor(e *storage.Entry) ([]byte, error) {
	obj, err := v.served(e)
	if err != nil {
		return nil, err
	}
	return codec.CBORBody(v.shape(obj))
}

func (v *view) objectJSON(obj registry.Object) ([]byte, error) { return json.Marshal(v.shape(obj)) }

// shape is what this view shows of an object of the served version, its type set. It may be obj itself.
func (v *view) shape(obj registry.Object) any {
	if v.a.As == codec.Partial {
		return partialOf(obj)
	}
	obj.GetObjectKind().SetGroupVersionKind(v.res.GVK)
	return obj
}

func (v *view) served(e *storage.Entry) (registry.Object, error) {
	obj, err := v.res.Decode(e)
	if err != nil {
		return nil, err
	}
	return v.res.Served(obj), nil
}

func partialOf(obj registry.Object) *metav1.PartialObjectMetadata {
	p := &metav1.PartialObjectMetadata{ObjectMeta: *metaOf(obj)}
	p.SetGroupVersionKind(partialKind)
	return p
}

func metaOf(obj registry.Object) *metav1.ObjectMeta {
	if m, ok := obj.(interface{ GetObjectMeta() metav1.Object }); ok {
		if om, ok := m.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return om
		}
	}
	return &metav1.ObjectMeta{
		Name: obj.GetName(), GenerateName: obj.GetGenerateName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), Generation: obj.GetGeneration(), CreationTimestamp: obj.GetCreationTimestamp(),
		DeletionTimestamp: obj.GetDeletionTimestamp(), DeletionGracePeriodSeconds: obj.GetDeletionGracePeriodSeconds(),
		Labels: obj.GetLabels(), Annotations: obj.GetAnnotations(), OwnerReferences: obj.GetOwnerReferences(),
		Finalizers: obj.GetFinalizers(), ManagedFields: obj.GetManagedFields(),
	}
}

// entry writes one stored object as a whole response.
func (v *view) entry(w http.ResponseWriter, code int, e *storage.Entry) error {
	var b []byte
	var err error
	if v.a.As != codec.Table && v.record.Wants().Answer {
		if b, err = v.json(e); err != nil {
			return err
		}
		audit.AnsweredJSON(v.record, b)
	}
	switch {
	case v.a.As == codec.Table:
		var obj registry.Object
		if obj, err = v.served(e); err == nil {
			return v.table(w, code, []registry.Object{obj}, metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()})
		}
	case v.a.Media == codec.Protobuf:
		if b, err = v.message(e); err == nil {
			b = codec.ObjectBody(v.kind(), b, e.Revision)
		}
	case v.a.Media == codec.CBOR:
		b, err = v.cbor(e)
	default:
		if b, err = v.json(e); err != nil {
			return err
		}
		if v.a.Media == codec.JSON && !v.a.Pretty {
			writeBody(w, v.a, code, b, newline)
			return nil
		}
		b, err = codec.Finish(b, v.a)
	}
	if err != nil {
		return err
	}
	writeBody(w, v.a, code, b)
	return nil
}

// written writes the object that a write stored. In protobuf that is what was stored, as it is.
func (v *view) written(w http.ResponseWriter, code int, o written) error {
	v.record.Called(o.obj.GetName())
	if o.entry != nil && v.a.Media == codec.Protobuf && v.a.As != codec.Table {
		return v.entry(w, code, o.entry)
	}
	return v.object(w, code, o.obj)
}

// object writes an object that is at hand decoded (stored version, resourceVersion set) as a whole response.
func (v *view) object(w http.ResponseWriter, code int, stored registry.Object) error {
	obj := v.res.Served(stored)
	b := newBuffer()
	defer release(b)
	var err error
	switch {
	case v.a.As == codec.Table:
		return v.table(w, code, []registry.Object{obj}, metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()})
	case v.a.As == codec.Partial:
		part := partialOf(obj)
		audit.Answered(v.record, part, partialKind)
		err = codec.EncodeTo(b, part, partialKind, v.a)
	default:
		audit.Answered(v.record, obj, v.res.GVK)
		err = codec.EncodeTo(b, obj, v.res.GVK, v.a)
	}
	if err != nil {
		return err
	}
	writeBody(w, v.a, code, b.Bytes())
	return nil
}

var newline = []byte{'\n'}

func badTableOption(got metav1.IncludeObjectPolicy) error {
	return badRequest("Unable to convert to Table as requested: " + field.NotSupported(field.NewPath("includeObject"), got,
		[]metav1.IncludeObjectPolicy{metav1.IncludeMetadata, metav1.IncludeNone, metav1.IncludeObject}).Error())
}
