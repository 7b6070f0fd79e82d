package openapi

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A document in a form that both versions of OpenAPI, in JSON and in protobuf, are written from. It lives while a document is
// made and is then dropped; what is kept is the packed text.
type model struct {
	paths       map[string]*path
	definitions map[string]*schemaOf
}

// schemaOf describes values. With ref set the rest is what is said of a value beside what the definition says.
type schemaOf struct {
	ref           string // name of a definition
	kind, format  string // of JSON; kind empty: any
	about         string
	items, values *schemaOf // of lists, of maps
	fields        []fieldOf // sorted by name
	required      []string
	preset        string   // a default, as JSON; told in v3 only
	enum          []string // sorted
	either        []string // several kinds of JSON instead of one; told in v3 only, v2 tells kind
	marks         []mark   // sorted by name
}

type fieldOf struct {
	name string
	*schemaOf
}

// mark is an extension.
type mark struct {
	name  string
	value string // JSON
}

func (s *schemaOf) mark(name, value string) {
	s.marks = append(s.marks, mark{name, value})
	slices.SortFunc(s.marks, func(a, b mark) int { return strings.Compare(a.name, b.name) })
}

// path is one URL.
type path struct {
	params     []param // of all its operations
	operations map[string]*operation
}

// methods in the order of PathItem's fields, in lower case as documents spell them.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch"}

type operation struct {
	id, about, tag string
	action         string // x-kubernetes-action; empty: none
	kind           *schema.GroupVersionKind
	takes, gives   []string
	body           *schemaOf // nil: none
	bodyRequired   bool
	params         []param
	answers        []answer
}

// param is a parameter of the query or the path.
type param struct {
	in, name, kind, about string
	required              bool
}

type answer struct {
	code, about string
	body        *schemaOf // nil: none
}
