package openapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/util"

	"pilothouse.dev/apiserver/markers"
	"pilothouse.dev/pkg/api"
)

// builder collects the definitions that what it was asked for needs.
type builder struct {
	definitions map[string]*schemaOf
	names       map[reflect.Type]string
	served      map[reflect.Type]schema.GroupVersionKind // what the registry says of the types of its kinds
	versions    map[schema.GroupVersion]bool             // served: of the kinds that options are, others are not told
	types       map[schema.GroupVersionKind]reflect.Type
	params      map[reflect.Type][]param // queries made already
	comments    comments
}

func newBuilder() *builder {
	return &builder{
		definitions: map[string]*schemaOf{}, names: map[reflect.Type]string{},
		served: map[reflect.Type]schema.GroupVersionKind{}, versions: map[schema.GroupVersion]bool{},
		types: map[schema.GroupVersionKind]reflect.Type{}, params: map[reflect.Type][]param{},
		comments: readComments(commentsText),
	}
}

// What a type may say of itself.
type (
	named interface{ OpenAPIModelName() string }
	typed interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	}
	eitherTyped interface{ OpenAPIV3OneOfTypes() []string }
	selfMade    interface{ MarshalJSON() ([]byte, error) }
	selfRead    interface{ UnmarshalJSON([]byte) error }
)

// as is a zero *t seen as an I, nil when it is none.
func as[I any](t reflect.Type) I {
	v, _ := reflect.New(t).Interface().(I)
	return v
}

// of is the schema of a value of type t: in place for what is simple, a reference for structs.
func (b *builder) of(t reflect.Type) *schemaOf {
	switch t.Kind() {
	case reflect.Pointer:
		return b.of(t.Elem())
	case reflect.Interface:
		return &schemaOf{} // anything
	}
	if as[typed](t) != nil || t.Kind() == reflect.Struct {
		return &schemaOf{ref: b.define(t)}
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return &schemaOf{kind: "string", format: "byte"}
		}
		return &schemaOf{kind: "array", items: b.element(t.Elem())}
	case reflect.Map:
		return &schemaOf{kind: "object", values: b.of(t.Elem())}
	case reflect.String:
		return &schemaOf{kind: "string"}
	case reflect.Bool:
		return &schemaOf{kind: "boolean"}
	case reflect.Float32:
		return &schemaOf{kind: "number", format: "float"}
	case reflect.Float64:
		return &schemaOf{kind: "number", format: "double"}
	case reflect.Int64, reflect.Uint32, reflect.Uint64:
		return &schemaOf{kind: "integer", format: "int64"}
	default:
		return &schemaOf{kind: "integer", format: "int32"}
	}
}

// element is the schema of a list's items. Those of an enumeration say so.
func (b *builder) element(t reflect.Type) *schemaOf {
	s := b.of(t)
	if m := markers.Of(indirect(t)); m != nil && s.kind == "string" {
		s.enum = m.Enum
	}
	return s
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// define makes sure that t has a definition and returns its name.
func (b *builder) define(t reflect.Type) string {
	if name, ok := b.names[t]; ok {
		return name
	}
	name := modelName(t)
	b.names[t] = name // before its fields: types may contain themselves
	s := &schemaOf{about: b.docs(t)[""]}
	b.definitions[name] = s
	if own := as[typed](t); own != nil {
		if kinds := own.OpenAPISchemaType(); len(kinds) > 0 {
			s.kind = kinds[0]
		}
		s.format = own.OpenAPISchemaFormat()
		if many := as[eitherTyped](t); many != nil {
			s.either = many.OpenAPIV3OneOfTypes()
		}
		return name
	}
	s.kind = "object"
	if as[selfMade](t) == nil { // one that writes itself (raw JSON) tells nothing of what it writes
		b.fields(s, t)
	}
	if m := markers.Of(t); m != nil && m.StructType != "" {
		s.mark(mapType, quoted(m.StructType))
	}
	if kinds := b.kindsOf(t); len(kinds) > 0 {
		s.mark(gvkExtension, asJSONText(kinds))
	}
	return name
}

// Extensions, as https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy and the API conventions
// name them.
const (
	gvkExtension  = "x-kubernetes-group-version-kind"
	listType      = "x-kubernetes-list-type"
	listMapKeys   = "x-kubernetes-list-map-keys"
	mapType       = "x-kubernetes-map-type"
	patchStrategy = "x-kubernetes-patch-strategy"
	patchMergeKey = "x-kubernetes-patch-merge-key"
)

// fields adds a struct's fields to s; those of embedded structs without a name of their own stand among them.
func (b *builder) fields(s *schemaOf, t reflect.Type) {
	about, said := b.docs(t), markers.Of(t)
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous && name == "" {
			b.fields(s, indirect(f.Type))
			continue
		}
		if name == "" {
			name = f.Name
		}
		var m markers.Field
		if said != nil {
			m = said.Fields[name]
		}
		empty := leftOut(options)
		p := b.field(f, m, about[name], empty)
		if stringed(options) {
			p = &schemaOf{kind: "string", about: p.about}
		}
		s.fields = append(s.fields, fieldOf{name, p})
		if m.Required || !empty && !m.Optional {
			s.required = append(s.required, name)
		}
	}
	slices.SortFunc(s.fields, func(a, b fieldOf) int { return strings.Compare(a.name, b.name) })
}

// field is the schema of one field: that of its type and what is said of the field.
func (b *builder) field(f reflect.StructField, m markers.Field, about string, empty bool) *schemaOf {
	p := b.of(f.Type)
	p.about = about
	if e := markers.Of(indirect(f.Type)); e != nil && len(e.Enum) > 0 && p.kind == "string" {
		p.enum = e.Enum
		p.about = strings.TrimPrefix(about+b.comments.values(indirect(f.Type), e.Enum), "\n\n")
	}
	p.preset = m.Default
	if p.preset == "" {
		p.preset = zero(f.Type, empty)
	}
	if m.ListType != "" {
		p.mark(listType, quoted(m.ListType))
	}
	if len(m.ListKeys) > 0 {
		p.mark(listMapKeys, asJSONText(m.ListKeys))
	}
	switch {
	case m.MapType != "":
		p.mark(mapType, quoted(m.MapType))
	case m.StructType != "":
		p.mark(mapType, quoted(m.StructType))
	}
	if v := f.Tag.Get("patchStrategy"); v != "" {
		p.mark(patchStrategy, quoted(v))
	}
	if v := f.Tag.Get("patchMergeKey"); v != "" {
		p.mark(patchMergeKey, quoted(v))
	}
	return p
}

// leftOut says whether a field is not written when it is empty.
func leftOut(options string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == "omitempty" || o == "omitzero" {
			return true
		}
	}
	return false
}

// stringed says whether a field's number is written as a text.
func stringed(options string) bool {
	return options == "string" || strings.HasSuffix(options, ",string")
}

// zero is the default of a field that cannot be absent in Go: what reading nothing leaves there. Types that read themselves
// have none.
func zero(t reflect.Type, empty bool) string {
	if as[selfRead](t) != nil || t.Kind() == reflect.Pointer {
		return ""
	}
	switch t.Kind() {
	case reflect.Struct:
		if t.NumField() == 1 && t.Field(0).Anonymous {
			return zero(t.Field(0).Type, empty)
		}
		return "{}"
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Array, reflect.Interface:
		return ""
	}
	switch {
	case empty:
		return ""
	case t.Kind() == reflect.String:
		return `""`
	case t.Kind() == reflect.Bool:
		return "false"
	}
	return "0"
}

// kindsOf are the kinds a type is: the one as which the registry serves it and those under which the scheme knows it (lists and
// options are no kinds of the registry).
func (b *builder) kindsOf(t reflect.Type) []kindName {
	obj, ok := reflect.New(t).Interface().(runtime.Object)
	if !ok {
		return nil
	}
	gvks, _, err := api.Scheme.ObjectKinds(obj)
	if err != nil {
		gvks = nil // a part of something, or of a group that is not in the scheme
	}
	if gvk, ok := b.served[t]; ok && !slices.Contains(gvks, gvk) {
		gvks = append(gvks, gvk)
	}
	slices.SortFunc(gvks, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	var out []kindName
	for _, gvk := range gvks {
		if gvk.Version == runtime.APIVersionInternal || len(gvks) > 1 && !b.versions[gvk.GroupVersion()] {
			continue
		}
		out = append(out, kindName{gvk.Group, gvk.Kind, gvk.Version})
	}
	return out
}

// kindName is a group, version and kind as documents spell it.
type kindName struct {
	Group   string `json:"group"`
	Kind    string `json:"kind"`
	Version string `json:"version"`
}

// listOf is the schema of a list of t that has no Go type in the scheme.
func (b *builder) listOf(t reflect.Type, list schema.GroupVersionKind) *schemaOf {
	name := modelName(t) + "List"
	if _, ok := b.definitions[name]; !ok {
		s := &schemaOf{about: list.Kind + " is a list of " + t.Name(), kind: "object", required: []string{"items"}}
		b.definitions[name] = s
		b.fields(s, reflect.TypeFor[metav1.TypeMeta]())
		s.required = []string{"items"}
		meta := b.of(reflect.TypeFor[metav1.ListMeta]())
		meta.about = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
		meta.preset = "{}"
		s.fields = append(s.fields,
			fieldOf{"metadata", meta},
			fieldOf{"items", &schemaOf{kind: "array", items: b.of(t), about: "items is the list of " + t.Name() + " objects."}})
		slices.SortFunc(s.fields, func(a, b fieldOf) int { return strings.Compare(a.name, b.name) })
		s.mark(gvkExtension, asJSONText([]kindName{{list.Group, list.Kind, list.Version}}))
	}
	return &schemaOf{ref: name}
}

// modelName is the name of a type's definition, as Kubernetes names it.
func modelName(t reflect.Type) string {
	if n := as[named](t); n != nil {
		return n.OpenAPIModelName()
	}
	return util.ToRESTFriendlyName(t.PkgPath() + "." + t.Name())
}

func quoted(s string) string { return string(appendText(nil, s)) }

// asJSONText is for values made here, which always have a JSON form.
func asJSONText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("openapi: " + err.Error())
	}
	return string(b)
}
