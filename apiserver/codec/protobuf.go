package codec

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// magic opens every protobuf body that is a whole object (https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding);
// runtime.Unknown follows: 1 typeMeta{1 apiVersion, 2 kind}, 2 raw.
const magic = "k8s\x00"

// Envelope wraps a message as a body: magic, type and raw bytes.
func Envelope(gvk schema.GroupVersionKind, raw []byte) []byte {
	dst := make([]byte, 0, envelopeSize(gvk, len(raw)))
	dst = appendEnvelopeHead(dst, gvk, len(raw))
	dst = append(dst, raw...)
	return dst
}

// ObjectBody is Envelope over AppendObject, with one allocation.
func ObjectBody(gvk schema.GroupVersionKind, value []byte, revision int64) []byte {
	n := objectSize(value, revision)
	dst := make([]byte, 0, envelopeSize(gvk, n))
	dst = appendEnvelopeHead(dst, gvk, n)
	return AppendObject(dst, value, revision)
}

func appendEnvelopeHead(dst []byte, gvk schema.GroupVersionKind, raw int) []byte {
	av := apiVersion(gvk)
	dst = append(dst, magic...)
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(typeMetaSize(av, gvk.Kind)))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendString(dst, av)
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendString(dst, gvk.Kind)
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(raw))
}

func envelopeSize(gvk schema.GroupVersionKind, raw int) int {
	return len(magic) + 2 + 2*binary.MaxVarintLen32 + typeMetaSize(apiVersion(gvk), gvk.Kind) + raw
}

func typeMetaSize(av, kind string) int {
	return 2 + protowire.SizeBytes(len(av)) + protowire.SizeBytes(len(kind))
}

func apiVersion(gvk schema.GroupVersionKind) string {
	if gvk.Group == "" {
		return gvk.Version
	}
	return gvk.Group + "/" + gvk.Version
}

// ListHead is the beginning of a list's message: its metadata (2 resourceVersion, 3 continue, 4 remainingItemCount).
func ListHead(revision int64, cont string, remaining *int64) []byte {
	var meta []byte
	if revision > 0 {
		meta = protowire.AppendTag(meta, 2, protowire.BytesType)
		meta = protowire.AppendString(meta, strconv.FormatInt(revision, 10))
	}
	if cont != "" {
		meta = protowire.AppendTag(meta, 3, protowire.BytesType)
		meta = protowire.AppendString(meta, cont)
	}
	if remaining != nil {
		meta = protowire.AppendTag(meta, 4, protowire.VarintType)
		meta = protowire.AppendVarint(meta, uint64(*remaining))
	}
	dst := protowire.AppendTag(nil, fieldMetadata, protowire.BytesType)
	return protowire.AppendBytes(dst, meta)
}

// ItemSize is what AppendItem adds to a list.
func ItemSize(value []byte, revision int64) int {
	return 1 + protowire.SizeBytes(objectSize(value, revision))
}

// AppendItem appends one object to a list's message.
func AppendItem(dst, value []byte, revision int64) []byte {
	dst = protowire.AppendTag(dst, fieldItems, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(objectSize(value, revision)))
	return AppendObject(dst, value, revision)
}

// EnvelopeHead begins a body whose raw bytes (size of them) the caller writes after it: a list is streamed so.
func EnvelopeHead(gvk schema.GroupVersionKind, size int) []byte {
	return appendEnvelopeHead(nil, gvk, size)
}

// WatchFrame is one event of a protobuf watch: a length of four bytes, then WatchEvent{1 type, 2 RawExtension{1 raw}}.
func WatchFrame(event string, body []byte) []byte {
	ext := 1 + protowire.SizeBytes(len(body))
	n := 1 + protowire.SizeBytes(len(event)) + 1 + protowire.SizeBytes(ext)
	dst := make([]byte, 4, 4+n)
	binary.BigEndian.PutUint32(dst, uint32(n))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendString(dst, event)
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(ext))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	return protowire.AppendBytes(dst, body)
}

// AppendWatchFrame is WatchFrame over ObjectBody, appended without a copy between.
func AppendWatchFrame(dst []byte, event string, gvk schema.GroupVersionKind, value []byte, revision int64) []byte {
	raw := objectSize(value, revision)
	body := envelopeHeadSize(gvk, raw) + raw
	ext := 1 + protowire.SizeBytes(body)
	n := 1 + protowire.SizeBytes(len(event)) + 1 + protowire.SizeBytes(ext)
	dst = slices.Grow(dst, 4+n)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendString(dst, event)
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(ext))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(body))
	dst = appendEnvelopeHead(dst, gvk, raw)
	return AppendObject(dst, value, revision)
}

// envelopeHeadSize is how much appendEnvelopeHead appends.
func envelopeHeadSize(gvk schema.GroupVersionKind, raw int) int {
	return len(magic) + 1 + protowire.SizeBytes(typeMetaSize(apiVersion(gvk), gvk.Kind)) + 1 + protowire.SizeVarint(uint64(raw))
}

// unwrap opens a protobuf body.
func unwrap(body []byte) (*runtime.Unknown, error) {
	if len(body) < len(magic) || string(body[:len(magic)]) != magic {
		return nil, fmt.Errorf("provided data does not appear to be a protobuf message, expected prefix %v", []byte(magic))
	}
	u := &runtime.Unknown{}
	if err := u.Unmarshal(body[len(magic):]); err != nil {
		return nil, fmt.Errorf("decoding the protobuf envelope: %w", err)
	}
	return u, nil
}

// PartialMessage is the message of PartialObjectMetadata of a stored object: its metadata field alone.
func PartialMessage(value []byte) ([]byte, error) {
	meta, err := Metadata(value)
	if err != nil {
		return nil, err
	}
	dst := make([]byte, 0, 1+protowire.SizeBytes(len(meta)))
	dst = protowire.AppendTag(dst, fieldMetadata, protowire.BytesType)
	return protowire.AppendBytes(dst, meta), nil
}
