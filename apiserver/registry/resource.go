package registry

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// AllVerbs are what a kind offers that does not say otherwise.
var AllVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// Resource is one served version of a kind, with the types erased. Set once; safe for concurrent use. Functions that a kind
// did not declare do nothing; none is nil unless its comment says so.
type Resource struct {
	GVK               schema.GroupVersionKind
	Plural, Singular  string
	Short, Categories []string
	Namespaced        bool
	Verbs             []string
	HasStatus         bool
	HasGeneration     bool

	New func() Object // an empty object of the served version

	Default        func(obj Object)
	BeforeCreate   func(obj Object)
	BeforeUpdate   func(obj, old Object)
	BeforeStatus   func(obj, old Object)
	Name           func(name string, prefix bool) []string
	Validate       func(obj Object) field.ErrorList
	ValidateUpdate func(obj, old Object) field.ErrorList
	ValidateStatus func(obj, old Object) field.ErrorList
	Warn           func(obj, old Object) []string // old may be nil
	Fields         func(obj Object) fields.Set    // nil: only name and namespace
	FieldNames     []string
	Columns        []metav1.TableColumnDefinition // NAME first, unless the kind says otherwise
	Cells          func(obj Object) []any         // as many as Columns
	TTL            func(obj Object) time.Duration
	Grace          func(obj Object, o *metav1.DeleteOptions) int64 // nil: deletion is at once
	OnDelete       func(obj Object)
	OnRead         func(obj Object) // nil: nothing to fill
	Deprecated     string
	ReturnsDeleted bool
	Orphans        bool
	OrphansWarning string
	Hold           func(obj Object) bool                // nil: finalizers alone decide
	ScaleGet       func(obj Object) autoscalingv1.Scale // nil: no scale subresource
	ScaleSet       func(obj Object, replicas int32)
	Parts          []*PartOf
	Virtual        bool // Store is nil; Actions[""] answers

	// Hub is the stored version; r itself for a stored kind. Its functions are the ones the write path calls.
	Hub *Resource
	// ToServed and FromServed convert between Hub's type and this one's; nil when r is its own hub.
	ToServed      func(stored Object) Object
	FromServed    func(served Object) Object
	FieldToStored func(string) string // nil: same names
	// ValidateServed checks what a client sends in this version; old is nil at create. nil: Validate alone decides.
	ValidateServed func(served, old Object) field.ErrorList

	// Set by Registry.Add.
	Store storage.Store
	Form  storage.Form // names the JSON of an object in this version
	// Actions are the subresources that do instead of storing; added by actions.Attach before serving starts.
	Actions map[string]*Action
}

// PartOf is the erased form of a Part.
type PartOf struct {
	Name     string
	Keep     func(obj, old Object)
	Validate func(obj, old Object) field.ErrorList
}

// Part finds a part by its name; nil when there is none.
func (r *Resource) Part(name string) *PartOf {
	for _, p := range r.Parts {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Action is a subresource with a behaviour of its own (binding, log, eviction …).
type Action struct {
	Name  string                  // pods/NAME; empty for what a virtual kind does
	Kind  schema.GroupVersionKind // what discovery says it takes or gives
	Verbs []string
	Serve func(w http.ResponseWriter, r *http.Request, on *Resource, info *request.Info) error
}

// GVR is the address of the resource.
func (r *Resource) GVR() schema.GroupVersionResource {
	return r.GVK.GroupVersion().WithResource(r.Plural)
}

// GroupResource is the address without its version, as errors name it.
func (r *Resource) GroupResource() schema.GroupResource { return r.GVR().GroupResource() }

// Allows says whether the resource offers the verb.
func (r *Resource) Allows(verb string) bool { return slices.Contains(r.Verbs, verb) }

// NewObject implements the making of an empty T: T must be a pointer to a struct.
func newOf[T Object]() func() Object {
	t := reflect.TypeFor[T]().Elem()
	return func() Object { return reflect.New(t).Interface().(Object) }
}

// Define erases a Kind. It panics on a broken declaration: that is a broken table at start.
func Define[T Object](k Kind[T]) *Resource {
	if k.Kind == "" || k.Plural == "" || k.Version == "" {
		panic(fmt.Sprintf("registry: kind %q needs Kind, Plural and Version", k.Kind))
	}
	r := &Resource{
		GVK:    schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind},
		Plural: k.Plural, Singular: k.Singular, Short: k.Short, Categories: k.Categories,
		Namespaced: k.Namespaced, Verbs: k.Verbs, HasStatus: k.Status, HasGeneration: k.Generation,
		New: newOf[T](), Name: k.Name, FieldNames: k.FieldNames,
	}
	if r.Singular == "" {
		r.Singular = strings.ToLower(k.Kind)
	}
	if r.Verbs == nil {
		r.Verbs = AllVerbs
	}
	if r.Name == nil {
		r.Name = apivalidation.NameIsDNSSubdomain
	}
	if k.Status && !hasField(r.New(), "Status") {
		panic(fmt.Sprintf("registry: %s has no Status field", k.Kind))
	}
	if (k.Fields == nil) != (len(k.FieldNames) == 0) {
		panic(fmt.Sprintf("registry: %s: Fields and FieldNames come together", k.Kind))
	}
	r.Hub = r
	r.Default = erase1(k.Default)
	r.BeforeCreate = erase1(k.BeforeCreate)
	r.BeforeUpdate = erase2(k.BeforeUpdate)
	r.BeforeStatus = erase2(k.BeforeStatus)
	r.Validate = eraseV1(k.Validate)
	r.ValidateUpdate = eraseV2(k.ValidateUpdate)
	r.ValidateStatus = eraseV2(k.ValidateStatus)
	r.Warn = func(obj, old Object) []string {
		if k.Warn == nil {
			return nil
		}
		o, _ := old.(T)
		return k.Warn(obj.(T), o)
	}
	if k.Fields != nil {
		r.Fields = func(obj Object) fields.Set { return k.Fields(obj.(T)) }
	}
	r.TTL = func(obj Object) time.Duration {
		if k.TTL == nil {
			return 0
		}
		return k.TTL(obj.(T))
	}
	if k.Grace != nil {
		r.Grace = func(obj Object, o *metav1.DeleteOptions) int64 { return k.Grace(obj.(T), o) }
	}
	r.OnDelete = erase1(k.OnDelete)
	if k.Hold != nil {
		r.Hold = func(obj Object) bool { return k.Hold(obj.(T)) }
	}
	if k.Scale != nil {
		r.ScaleGet = func(obj Object) autoscalingv1.Scale { return k.Scale.Get(obj.(T)) }
		r.ScaleSet = func(obj Object, n int32) { k.Scale.Set(obj.(T), n) }
	}
	for _, p := range k.Parts {
		r.Parts = append(r.Parts, &PartOf{p.Name, erase2(p.Keep), eraseV2(p.Validate)})
	}
	r.Virtual, r.Deprecated, r.Orphans, r.OrphansWarning = k.Virtual, k.Deprecated, k.Orphans, k.OrphansWarning
	r.ReturnsDeleted = k.ReturnsDeleted
	if k.OnRead != nil {
		r.OnRead = erase1(k.OnRead)
	}
	r.Columns, r.Cells = columns(k.Columns, k.WholeTable)
	return r
}

// DefineVersion erases a further served version of a stored kind.
func DefineVersion[S, T Object](v Version[S, T]) *Resource {
	hub := v.Of
	r := *hub
	r.GVK = schema.GroupVersionKind{Group: v.Group, Version: v.Version, Kind: v.Kind}
	r.Plural, r.Short, r.Categories = v.Plural, v.Short, v.Categories
	r.New = newOf[S]()
	r.Hub = hub
	r.ToServed = func(o Object) Object { return v.To(o.(T)) }
	r.FromServed = func(o Object) Object { return v.From(o.(S)) }
	if v.FieldNames != nil {
		r.FieldNames = v.FieldNames
	}
	r.FieldToStored = v.FieldToStored
	if v.Validate != nil {
		r.ValidateServed = func(served, old Object) field.ErrorList {
			o, _ := old.(S)
			return v.Validate(served.(S), o)
		}
	}
	r.Columns, r.Cells = columns(v.Columns, v.WholeTable)
	return &r
}

// Age is the usual last column.
func Age[T Object]() Column[T] {
	return Column[T]{
		Name: "Age", Description: "Time since the object was created.",
		Value: func(o T) any { return AgeOf(o.GetCreationTimestamp()) },
	}
}

func columns[T Object](cols []Column[T], whole bool) ([]metav1.TableColumnDefinition, func(Object) []any) {
	defs := []metav1.TableColumnDefinition{{
		Name: "Name", Type: "string", Format: "name",
		Description: "Name must be unique within a namespace. It cannot be changed.",
	}}
	if whole {
		defs = nil
	}
	if len(cols) == 0 {
		cols = []Column[T]{Age[T]()}
	}
	for _, c := range cols {
		t := c.Type
		if t == "" {
			t = "string"
		}
		defs = append(defs, metav1.TableColumnDefinition{
			Name: c.Name, Type: t, Format: c.Format, Description: c.Description, Priority: c.Priority,
		})
	}
	return defs, func(obj Object) []any {
		o := obj.(T)
		cells := make([]any, 0, len(cols)+1)
		if !whole {
			cells = append(cells, o.GetName())
		}
		for _, c := range cols {
			cells = append(cells, c.Value(o))
		}
		return cells
	}
}

func erase1[T Object](f func(T)) func(Object) {
	if f == nil {
		return func(Object) {}
	}
	return func(o Object) { f(o.(T)) }
}

func erase2[T Object](f func(a, b T)) func(a, b Object) {
	if f == nil {
		return func(Object, Object) {}
	}
	return func(a, b Object) { f(a.(T), b.(T)) }
}

func eraseV1[T Object](f func(T) field.ErrorList) func(Object) field.ErrorList {
	if f == nil {
		return func(Object) field.ErrorList { return nil }
	}
	return func(o Object) field.ErrorList { return f(o.(T)) }
}

func eraseV2[T Object](f func(a, b T) field.ErrorList) func(a, b Object) field.ErrorList {
	if f == nil {
		return func(Object, Object) field.ErrorList { return nil }
	}
	return func(a, b Object) field.ErrorList { return f(a.(T), b.(T)) }
}

func hasField(o runtime.Object, name string) bool {
	return reflect.ValueOf(o).Elem().FieldByName(name).IsValid()
}
