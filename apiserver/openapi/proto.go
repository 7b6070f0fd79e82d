package openapi

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The protobuf forms are those of gnostic (OpenAPIv2.proto and OpenAPIv3.proto in github.com/google/gnostic-models), as every
// Kubernetes client reads them. They are written field by field: the library would first make a tree of the whole document
// many times its size. Numbers are the fields' in those files.

// message appends a field that is a message; what fill appends is its content.
func message(b []byte, number protowire.Number, fill func(b []byte) []byte) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	start := len(b)
	b = fill(b)
	size := len(b) - start
	var prefix [10]byte
	n := len(protowire.AppendVarint(prefix[:0], uint64(size)))
	b = append(b, prefix[:n]...)
	copy(b[start+n:], b[start:start+size])
	protowire.AppendVarint(b[start:start], uint64(size))
	return b
}

// str appends a text; an empty one is left out.
func str(b []byte, number protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

func strs(b []byte, number protowire.Number, values []string) []byte {
	for _, v := range values {
		b = protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), v)
	}
	return b
}

func yes(b []byte, number protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), 1)
}

// any appends a value of any shape, as YAML, of which JSON is a part.
func anything(b []byte, number protowire.Number, json string) []byte {
	return message(b, number, func(b []byte) []byte { return str(b, 2, json) })
}

// extension appends one x-… by its name.
func extension(b []byte, number protowire.Number, name, json string) []byte {
	return message(b, number, func(b []byte) []byte { return anything(str(b, 1, name), 2, json) })
}

// entry appends a name with what belongs to it: how gnostic writes maps.
func entry(b []byte, number protowire.Number, name string, fill func(b []byte) []byte) []byte {
	return message(b, number, func(b []byte) []byte { return message(str(b, 1, name), 2, fill) })
}

// operationMarks are the extensions of an operation.
func operationMarks(b []byte, number protowire.Number, op *operation) []byte {
	if op.action != "" {
		b = extension(b, number, actionExtension, quoted(op.action))
	}
	if op.kind != nil {
		b = extension(b, number, gvkExtension, asJSONText(kindName{op.kind.Group, op.kind.Kind, op.kind.Version}))
	}
	return b
}

// demands is the security of a document: a SecurityRequirement.
func demands(b []byte) []byte {
	return entry(b, 1, securityName, func(b []byte) []byte { return b })
}

func sortedPaths(m *model) []string { return slices.Sorted(maps.Keys(m.paths)) }

func sortedDefinitions(m *model) []string { return slices.Sorted(maps.Keys(m.definitions)) }
