// Package markers knows what the Go source of the API types says beside the types themselves: how lists and maps merge (list
// types and keys, atomic maps and structs), enumerations, defaults and which fields are required. The types' reflection does not
// hold these; markers.txt does, made from the source of the modules named in go.mod by hack/gen/markers (make generate).
//
// The room openapi puts them into documents, the room patch into server-side apply and the ownership of fields.
package markers

import (
	_ "embed"
	"reflect"
	"sync"
)

//go:generate go run pilothouse.dev/hack/gen/markers markers markers.txt

// Field is what is said of one field of a struct. Empty: nothing is.
type Field struct {
	ListType   string   // atomic, set or map
	ListKeys   []string // of a map list: the JSON names of the fields that name an item
	MapType    string   // atomic or granular
	StructType string   // atomic or granular
	Default    string   // JSON
	Optional   bool     // marked so, though its JSON tag does not let it be left out
	Required   bool     // marked so, though its JSON tag lets it be left out
}

// Type is what is said of a named type. Set once and shared: callers must not change it.
type Type struct {
	Enum       []string         // the values of an enumeration, sorted
	StructType string           // atomic or granular
	MapType    string           // atomic or granular
	ListType   string           // atomic, set or map
	ListKeys   []string         // as in Field
	Fields     map[string]Field // by JSON name; the fields of an embedded struct are those of its own type
}

//go:embed markers.txt
var text string

// table is the parsed text by package and name of each type, as in "k8s.io/api/core/v1.Container".
var table = sync.OnceValue(func() map[string]*Type { return parse(text) })

// Of returns what is said of a type, nil when nothing is. The first call reads the table. Safe for concurrent use.
func Of(t reflect.Type) *Type {
	if t.Name() == "" {
		return nil
	}
	return table()[t.PkgPath()+"."+t.Name()]
}
