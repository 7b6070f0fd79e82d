package registry

import (
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/storage"
)

// Decode reads a stored entry into a new object of the stored version, resourceVersion set.
func (r *Resource) Decode(e *storage.Entry) (Object, error) {
	obj := r.Hub.New()
	if err := codec.Unmarshal(e.Value, e.Revision, obj); err != nil {
		return nil, err
	}
	if r.Hub.OnRead != nil {
		r.Hub.OnRead(obj)
	}
	return obj, nil
}

// Served converts a stored object to this version. The result may share memory with obj when r is its own hub.
func (r *Resource) Served(obj Object) Object {
	if r.ToServed == nil {
		return obj
	}
	out := r.ToServed(obj)
	out.SetResourceVersion(obj.GetResourceVersion())
	return out
}

// storageKind is how the store indexes this kind: labels are scanned, and only a kind with selectable fields of its own is
// decoded for them.
func (r *Resource) storageKind() storage.Kind {
	return storage.Kind{
		Group: r.GVK.Group, Plural: r.Plural, Namespaced: r.Namespaced,
		Attrs: func(key storage.Key, value []byte) (storage.Attrs, error) {
			labels, err := codec.Labels(value)
			if err != nil || r.Fields == nil {
				return storage.Attrs{Labels: labels}, err
			}
			obj := r.New()
			if err := codec.Unmarshal(value, 0, obj); err != nil {
				return storage.Attrs{}, err
			}
			return storage.Attrs{Labels: labels, Fields: r.Fields(obj)}, nil
		},
	}
}
