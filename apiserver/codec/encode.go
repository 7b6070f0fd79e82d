package codec

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// Encode makes the body of any object (a Status, a Table, a list, a review) in a.Media, with its type set to gvk.
func Encode(obj runtime.Object, gvk schema.GroupVersionKind, a Accepted) ([]byte, error) {
	if a.Media == Protobuf {
		m, ok := obj.(message)
		if !ok {
			return nil, fmt.Errorf("encoding %s: it has no protobuf form", gvk.Kind)
		}
		raw, err := m.Marshal()
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", gvk.Kind, err)
		}
		return Envelope(gvk, raw), nil
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	if a.Media == CBOR {
		b, err := CBORBody(obj)
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", gvk.Kind, err)
		}
		return b, nil
	}
	b, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", gvk.Kind, err)
	}
	return Finish(b, a)
}

// EncodeTo is Encode into a buffer, which for JSON spares a copy of the whole.
func EncodeTo(dst *bytes.Buffer, obj runtime.Object, gvk schema.GroupVersionKind, a Accepted) error {
	if a.Media != JSON || a.Pretty {
		b, err := Encode(obj, gvk, a)
		dst.Write(b)
		return err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	if err := json.NewEncoder(dst).Encode(obj); err != nil {
		return fmt.Errorf("encoding %s: %w", gvk.Kind, err)
	}
	return nil
}

// Finish turns compact JSON into what was accepted: YAML, indented, or as it is with a newline at its end.
func Finish(compact []byte, a Accepted) ([]byte, error) {
	switch {
	case a.Media == YAML:
		return yaml.JSONToYAML(compact)
	case a.Pretty:
		var out bytes.Buffer
		out.Grow(2 * len(compact))
		if err := json.Indent(&out, compact, "", "  "); err != nil {
			return nil, err
		}
		out.WriteByte('\n')
		return out.Bytes(), nil
	}
	return append(compact[:len(compact):len(compact)], '\n'), nil
}
