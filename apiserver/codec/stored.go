// Package codec turns objects into bytes and back: the stored form, what clients send and accept (JSON, YAML, protobuf), and
// the shortcuts between them.
//
// The stored form of a built-in kind is its protobuf message without the envelope and without metadata.resourceVersion; a
// custom resource is stored as JSON. Two facts of protobuf make reads cheap. A message's fields may be repeated on the wire
// and embedded messages then merge, so the revision is added by appending one more metadata field (number 1, in every kind)
// that holds only resourceVersion (number 6). And a list is its items' messages one after another, each as field 2. Lists,
// gets and watch events in protobuf are therefore served without decoding anything, and PartialObjectMetadata is field 1
// alone. See https://protobuf.dev/programming-guides/encoding/.
package codec

import (
	"encoding/json"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// Field numbers on the wire; the same in every kind of k8s.io/api.
const (
	fieldMetadata        = 1
	fieldItems           = 2
	fieldResourceVersion = 6
	fieldLabels          = 11
)

// message is what generated types can do. SizedMarshal writes backwards into a buffer of the exact size.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// Object is any API object.
type Object interface {
	runtime.Object
	metav1.Object
}

// Marshal makes the stored form. The object is unchanged when it returns, but must not be read meanwhile.
func Marshal(obj Object) ([]byte, error) {
	rv := obj.GetResourceVersion()
	obj.SetResourceVersion("")
	defer obj.SetResourceVersion(rv)
	if m, ok := obj.(message); ok {
		return m.Marshal()
	}
	return json.Marshal(obj)
}

// Unmarshal reads the stored form into an empty object and sets its resourceVersion.
func Unmarshal(value []byte, revision int64, into Object) error {
	var err error
	if m, ok := into.(message); ok {
		err = m.Unmarshal(value)
	} else {
		err = json.Unmarshal(value, into)
	}
	if err != nil {
		return fmt.Errorf("decoding a stored %T: %w", into, err)
	}
	into.SetResourceVersion(strconv.FormatInt(revision, 10))
	return nil
}

// IsJSON says whether stored bytes are JSON (a custom resource). A protobuf message of ours begins with the tag of metadata.
func IsJSON(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// AppendObject appends the protobuf message of an object: its stored form and its revision.
func AppendObject(dst, value []byte, revision int64) []byte {
	dst = append(dst, value...)
	return appendRevision(dst, revision)
}

// objectSize is how much AppendObject will append.
func objectSize(value []byte, revision int64) int { return len(value) + 4 + digits(revision) }

// appendRevision appends metadata{resourceVersion}. The lengths are below 128, so each is one byte.
func appendRevision(dst []byte, revision int64) []byte {
	n := digits(revision)
	dst = append(dst, fieldMetadata<<3|2, byte(n+2), fieldResourceVersion<<3|2, byte(n))
	return strconv.AppendInt(dst, revision, 10)
}

func digits(n int64) int {
	d := 1
	for n >= 10 {
		n /= 10
		d++
	}
	return d
}

// Metadata returns the bytes of the metadata field of a stored protobuf message (shared with value), nil when there is none.
func Metadata(value []byte) ([]byte, error) {
	for len(value) > 0 {
		num, typ, n := protowire.ConsumeTag(value)
		if n < 0 {
			return nil, fmt.Errorf("scanning a stored object: %w", protowire.ParseError(n))
		}
		value = value[n:]
		if num == fieldMetadata && typ == protowire.BytesType {
			b, n := protowire.ConsumeBytes(value)
			if n < 0 {
				return nil, fmt.Errorf("scanning stored metadata: %w", protowire.ParseError(n))
			}
			return b, nil
		}
		n = protowire.ConsumeFieldValue(num, typ, value)
		if n < 0 {
			return nil, fmt.Errorf("scanning a stored object: %w", protowire.ParseError(n))
		}
		value = value[n:]
	}
	return nil, nil
}

// Labels reads only the labels out of stored bytes; nil when there are none.
func Labels(value []byte) (labels.Set, error) {
	if IsJSON(value) {
		var o struct {
			Metadata struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(value, &o); err != nil {
			return nil, fmt.Errorf("reading stored labels: %w", err)
		}
		return o.Metadata.Labels, nil
	}
	meta, err := Metadata(value)
	if err != nil {
		return nil, err
	}
	var set labels.Set
	for len(meta) > 0 {
		num, typ, n := protowire.ConsumeTag(meta)
		if n < 0 {
			return nil, fmt.Errorf("scanning stored labels: %w", protowire.ParseError(n))
		}
		meta = meta[n:]
		if num != fieldLabels || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, meta); n < 0 {
				return nil, fmt.Errorf("scanning stored labels: %w", protowire.ParseError(n))
			}
			meta = meta[n:]
			continue
		}
		entry, n := protowire.ConsumeBytes(meta)
		if n < 0 {
			return nil, fmt.Errorf("scanning stored labels: %w", protowire.ParseError(n))
		}
		meta = meta[n:]
		k, v, err := mapEntry(entry)
		if err != nil {
			return nil, err
		}
		if set == nil {
			set = make(labels.Set, 4)
		}
		set[k] = v
	}
	return set, nil
}

func mapEntry(b []byte) (key, val string, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || typ != protowire.BytesType {
			return "", "", fmt.Errorf("scanning a stored map: %w", protowire.ParseError(n))
		}
		s, m := protowire.ConsumeString(b[n:])
		if m < 0 {
			return "", "", fmt.Errorf("scanning a stored map: %w", protowire.ParseError(m))
		}
		b = b[n+m:]
		if num == 1 {
			key = s
		} else {
			val = s
		}
	}
	return key, val, nil
}
