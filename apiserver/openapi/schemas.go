package openapi

import (
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"pilothouse.dev/pkg/api"
)

// builder collects the definitions that what it was asked for needs, in OpenAPI v2 form.
type builder struct {
	definitions spec.Definitions
	names       map[reflect.Type]string
	served      map[reflect.Type]schema.GroupVersionKind // what the registry says of the types of its kinds
}

func newBuilder() *builder {
	return &builder{spec.Definitions{}, map[reflect.Type]string{}, map[reflect.Type]schema.GroupVersionKind{}}
}

// What a type may say of itself.
type (
	documented interface{ SwaggerDoc() map[string]string }
	named      interface{ OpenAPIModelName() string }
	typed      interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	}
	eitherTyped interface{ OpenAPIV3OneOfTypes() []string }
	selfMade    interface{ MarshalJSON() ([]byte, error) }
)

const refPrefix = "#/definitions/"

// of is the schema of a value of type t: in place for what is simple, a reference for structs.
func (b *builder) of(t reflect.Type) spec.Schema {
	switch t.Kind() {
	case reflect.Pointer:
		return b.of(t.Elem())
	case reflect.Interface:
		return spec.Schema{} // anything
	}
	if as[typed](t) != nil || t.Kind() == reflect.Struct {
		return spec.Schema{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef(refPrefix + b.define(t))}}
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return *spec.StrFmtProperty("byte")
		}
		item := b.of(t.Elem())
		return *spec.ArrayProperty(&item)
	case reflect.Map:
		value := b.of(t.Elem())
		return *spec.MapProperty(&value)
	case reflect.String:
		return *spec.StringProperty()
	case reflect.Bool:
		return *spec.BoolProperty()
	case reflect.Int64, reflect.Int, reflect.Uint64, reflect.Uint:
		return *spec.Int64Property()
	case reflect.Float32, reflect.Float64:
		return *spec.Float64Property()
	default:
		return *spec.Int32Property()
	}
}

// define makes sure that t has a definition and returns its name.
func (b *builder) define(t reflect.Type) string {
	if name, ok := b.names[t]; ok {
		return name
	}
	name := modelName(t)
	b.names[t] = name // before its fields: types may contain themselves
	s := spec.Schema{}
	s.Description = docs(t)[""]
	switch own := as[typed](t); {
	case own != nil:
		s.Type, s.Format = own.OpenAPISchemaType(), own.OpenAPISchemaFormat()
	default:
		s.Type = spec.StringOrArray{"object"}
		if as[selfMade](t) == nil { // one that writes itself (raw JSON) tells nothing of what it writes
			b.fields(&s, t)
		}
		if kinds := b.kindsOf(t); len(kinds) > 0 {
			s.AddExtension(gvkExtension, kinds)
		}
	}
	b.definitions[name] = s
	return name
}

// fields adds a struct's fields to s; those of embedded structs without a name of their own stand among them.
func (b *builder) fields(s *spec.Schema, t reflect.Type) {
	about := docs(t)
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous && name == "" {
			in := f.Type
			for in.Kind() == reflect.Pointer {
				in = in.Elem()
			}
			b.fields(s, in)
			continue
		}
		if name == "" {
			name = f.Name
		}
		p := b.of(f.Type)
		p.Description = about[name]
		if v := f.Tag.Get("patchStrategy"); v != "" {
			p.AddExtension("x-kubernetes-patch-strategy", v)
		}
		if v := f.Tag.Get("patchMergeKey"); v != "" {
			p.AddExtension("x-kubernetes-patch-merge-key", v)
		}
		if s.Properties == nil {
			s.Properties = map[string]spec.Schema{}
		}
		s.Properties[name] = p
		if required(f, options) {
			s.Required = append(s.Required, name)
		}
	}
	slices.Sort(s.Required)
}

// required says whether a field must be there: it is always written, and cannot be written as null.
func required(f reflect.StructField, options string) bool {
	if f.Type.Kind() == reflect.Pointer {
		return false
	}
	for o := range strings.SplitSeq(options, ",") {
		if o == "omitempty" || o == "omitzero" {
			return false
		}
	}
	return true
}

const gvkExtension = "x-kubernetes-group-version-kind"

// kindsOf are the kinds a type is: the one as which the registry serves it and those under which the scheme knows it (lists and
// options are no kinds of the registry).
func (b *builder) kindsOf(t reflect.Type) []any {
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
	var out []any
	for _, gvk := range gvks {
		if gvk.Version != runtime.APIVersionInternal {
			out = append(out, gvkOf(gvk))
		}
	}
	return out
}

// listOf is the schema of a list of t that has no Go type in the scheme.
func (b *builder) listOf(t reflect.Type, list schema.GroupVersionKind) spec.Schema {
	name := modelName(t) + "List"
	if _, ok := b.definitions[name]; !ok {
		item := b.of(t)
		s := spec.Schema{}
		s.Description = list.Kind + " is a list of " + t.Name()
		s.Type = spec.StringOrArray{"object"}
		b.fields(&s, reflect.TypeFor[metav1.TypeMeta]())
		s.Properties["metadata"] = b.of(reflect.TypeFor[metav1.ListMeta]())
		s.Properties["items"] = *spec.ArrayProperty(&item)
		s.Required = []string{"items"}
		s.AddExtension(gvkExtension, []any{gvkOf(list)})
		b.definitions[name] = s
	}
	return spec.Schema{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef(refPrefix + name)}}
}

func gvkOf(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// modelName is the name of a type's definition, as Kubernetes names it.
func modelName(t reflect.Type) string {
	if n := as[named](t); n != nil {
		return n.OpenAPIModelName()
	}
	return util.ToRESTFriendlyName(t.PkgPath() + "." + t.Name())
}

// docs are the descriptions of a type (under the empty name) and its fields.
func docs(t reflect.Type) map[string]string {
	if d := as[documented](t); d != nil {
		return d.SwaggerDoc()
	}
	return map[string]string{"": undocumented[modelName(t)]}
}

// undocumented describes the types that do not describe themselves.
var undocumented = map[string]string{
	"io.k8s.apimachinery.pkg.api.resource.Quantity": "Quantity is a fixed-point representation of a number: digits with an optional suffix " +
		"(m, k, M, G, T, P, E for powers of ten, Ki, Mi, Gi, Ti, Pi, Ei for powers of two, or an exponent), as in 1500m, 2Gi or 1e3.",
	"io.k8s.apimachinery.pkg.apis.meta.v1.Time":       "Time is a point in time with seconds as its finest unit, in RFC 3339 form, or null.",
	"io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime":  "MicroTime is a point in time with microseconds as its finest unit, in RFC 3339 form, or null.",
	"io.k8s.apimachinery.pkg.apis.meta.v1.Duration":   "Duration is a span of time as a sum of numbers with units, as in 1h30m or 500ms.",
	"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1":   "FieldsV1 stores a set of fields of an object as a tree: f:<name> for a field, k:<keys> and v:<value> for items of a list.",
	"io.k8s.apimachinery.pkg.util.intstr.IntOrString": "IntOrString is a number or a text, such as a count or a percentage, the number of a port or its name.",
	"io.k8s.apimachinery.pkg.runtime.RawExtension":    "RawExtension is any object.",
}

// as is a zero *t seen as an I, nil when it is none.
func as[I any](t reflect.Type) I {
	v, _ := reflect.New(t).Interface().(I)
	return v
}

// oneOfs lets the definitions that have several types say so, which only v3 can.
func oneOfs(schemas map[string]*spec.Schema) {
	for _, t := range eithers {
		s := schemas[modelName(t)]
		if s == nil {
			continue
		}
		s.Type = nil
		for _, one := range as[eitherTyped](t).OpenAPIV3OneOfTypes() {
			s.OneOf = append(s.OneOf, spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{one}}})
		}
	}
}
