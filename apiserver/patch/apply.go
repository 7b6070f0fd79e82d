package patch

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// Kind is what applying must know of the version of a kind that a request is in.
type Kind struct {
	GVK schema.GroupVersionKind
	New func() Object // an empty object
	// Default fills what an applied configuration left out; nil: nothing.
	Default func(obj Object)
	// Type is how the fields merge of a kind whose Go type does not say so (*unstructured.Unstructured); nil: the Go type does.
	Type *typed.ParseableType
}

// Apply merges an applied configuration (the fields of an object as JSON has them) into live (of the kind's type; an empty object
// where there is none) by https://kubernetes.io/docs/reference/using-api/server-side-apply/, and returns the whole new object, its
// owners noted. It changes neither. Errors are 409 with a cause a field when others own what is to change and force is not given,
// and 400 for a configuration that does not fit the kind.
func (o *Owners) Apply(live Object, config map[string]any, k Kind, w Writer, force bool) (Object, error) {
	if w.Manager == "" {
		w.Manager = unknownManager
	}
	m, err := o.manager(k, w)
	if err != nil {
		return nil, err
	}
	live = live.DeepCopyObject().(Object)
	live.GetObjectKind().SetGroupVersionKind(k.GVK)
	was := live.GetManagedFields()
	out, err := m.Apply(live, &unstructured.Unstructured{Object: config}, w.Manager, force)
	if err != nil {
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return nil, err
		}
		return nil, apierrors.NewBadRequest(err.Error())
	}
	obj, ok := out.(Object)
	if !ok {
		return nil, fmt.Errorf("applying: got a %T", out)
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	obj.SetManagedFields(stamped(obj.GetManagedFields(), was, w))
	return obj, nil
}

// updateCustom is Update for a kind whose fields are only known to the library.
func (o *Owners) updateCustom(obj, old Object, w Writer) {
	var was []metav1.ManagedFieldsEntry
	live := w.Custom.New()
	if old != nil {
		was = old.GetManagedFields()
		live = old.DeepCopyObject().(Object)
	}
	live.GetObjectKind().SetGroupVersionKind(w.Custom.GVK)
	next := obj.DeepCopyObject().(Object)
	next.GetObjectKind().SetGroupVersionKind(w.Custom.GVK)
	if m, err := o.manager(*w.Custom, w); err == nil {
		if out, ok := m.UpdateNoErrors(live, next, w.Manager).(Object); ok {
			was = out.GetManagedFields()
		}
	}
	obj.SetManagedFields(was)
}

// stamped sets the time of the writer's entry where it is new or says something new, also when the object did not change.
func stamped(now, was []metav1.ManagedFieldsEntry, w Writer) []metav1.ManagedFieldsEntry {
	mine := func(e metav1.ManagedFieldsEntry) bool {
		return e.Operation == metav1.ManagedFieldsOperationApply && e.Manager == w.Manager && e.Subresource == w.Subresource
	}
	i := slices.IndexFunc(now, mine)
	if i < 0 {
		return now
	}
	j := slices.IndexFunc(was, mine)
	e := &now[i]
	if j >= 0 && e.Time.Equal(was[j].Time) && string(rawOf(e.FieldsV1)) == string(rawOf(was[j].FieldsV1)) {
		return now
	}
	at := metav1.NewTime(w.Now.UTC().Truncate(time.Second))
	e.Time = &at
	sortEntries(now)
	return now
}

// manager is the library's, made for one request: it holds no more than what it is given.
func (o *Owners) manager(k Kind, w Writer) (*managedfields.FieldManager, error) {
	c := &conversion{o: o, kind: k, convert: w.Convert}
	filter := w.Scope.filter()
	var reset map[fieldpath.APIVersion]fieldpath.Filter
	if filter != nil {
		reset = map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(k.GVK.GroupVersion().String()): filter}
	}
	m, err := managedfields.NewDefaultFieldManager(c, c, c, c, k.GVK, k.GVK.GroupVersion(), w.Subresource, reset)
	if err != nil {
		return nil, fmt.Errorf("applying: %w", err)
	}
	return m, nil
}

// conversion tells the library about one kind: its schema, its versions, its defaults.
type conversion struct {
	o       *Owners
	kind    Kind
	convert func(obj Object, apiVersion string) Object
}

// ObjectToTyped implements managedfields.TypeConverter.
func (c *conversion) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		t := c.kind.Type
		if t == nil {
			t = c.o.schemas.of(&c.o.plans, typeOf(c.kind.New()))
		}
		return t.FromUnstructured(u.Object, opts...)
	}
	return c.o.schemas.of(&c.o.plans, typeOf(obj)).FromStructured(obj, opts...)
}

func typeOf(obj runtime.Object) reflect.Type { return reflect.TypeOf(obj).Elem() }

// TypedToObject implements managedfields.TypeConverter.
func (c *conversion) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	fields, ok := v.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, errors.New("the merged object is no object")
	}
	return &unstructured.Unstructured{Object: fields}, nil
}

// ConvertToVersion implements runtime.ObjectConvertor: to the kind's Go type, or to another version.
func (c *conversion) ConvertToVersion(in runtime.Object, to runtime.GroupVersioner) (runtime.Object, error) {
	gv, ok := to.(schema.GroupVersion)
	if !ok {
		return nil, fmt.Errorf("converting to %T: no version", to)
	}
	u, loose := in.(*unstructured.Unstructured)
	if loose && c.kind.Type == nil {
		obj := c.kind.New()
		if got := u.GroupVersionKind().GroupVersion(); got != c.kind.GVK.GroupVersion() {
			return nil, runtime.NewNotRegisteredErrForTarget("api", reflect.TypeOf(obj), got)
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj); err != nil {
			return nil, err
		}
		in = obj
	}
	obj, ok := in.(Object)
	if !ok {
		return nil, fmt.Errorf("converting %T: it has no metadata", in)
	}
	kind := obj.GetObjectKind()
	if have := kind.GroupVersionKind().GroupVersion(); have == gv || have.Empty() && gv == c.kind.GVK.GroupVersion() {
		kind.SetGroupVersionKind(gv.WithKind(c.kind.GVK.Kind))
		return obj, nil
	}
	var out Object
	if c.convert != nil {
		out = c.convert(obj, gv.String())
	}
	if out == nil {
		return nil, runtime.NewNotRegisteredErrForTarget("api", reflect.TypeOf(in), gv)
	}
	out.GetObjectKind().SetGroupVersionKind(gv.WithKind(c.kind.GVK.Kind))
	return out, nil
}

// Convert implements runtime.ObjectConvertor; nobody asks for it.
func (c *conversion) Convert(_, _, _ any) error {
	return errors.New("converting in place is not supported")
}

// ConvertFieldLabel implements runtime.ObjectConvertor; nobody asks for it.
func (c *conversion) ConvertFieldLabel(schema.GroupVersionKind, string, string) (string, string, error) {
	return "", "", errors.New("converting field labels is not supported")
}

// Default implements runtime.ObjectDefaulter.
func (c *conversion) Default(in runtime.Object) {
	if obj, ok := in.(Object); ok && c.kind.Default != nil {
		c.kind.Default(obj)
	}
}

// New implements runtime.ObjectCreater.
func (c *conversion) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	obj := c.kind.New()
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, nil
}

// filter keeps of an applied configuration what the scope lets it own; nil: all.
func (s Scope) filter() fieldpath.Filter {
	only := func(paths ...string) fieldpath.Filter {
		matchers := make([]*fieldpath.SetMatcher, 0, len(paths))
		for _, path := range paths {
			parts := []any{}
			for part := range strings.SplitSeq(path, ".") {
				if part == "*" {
					parts = append(parts, fieldpath.MatchAnyPathElement())
				} else {
					parts = append(parts, part)
				}
			}
			matchers = append(matchers, fieldpath.MakePrefixMatcherOrDie(parts...))
		}
		return fieldpath.NewIncludeMatcherFilter(matchers...)
	}
	switch s {
	case NotStatus:
		return fieldpath.NewExcludeSetFilter(fieldpath.NewSet(fieldpath.MakePathOrDie("status")))
	case StatusOnly:
		return only("status", "metadata.labels", "metadata.annotations", "metadata.finalizers")
	case EphemeralContainersOnly:
		return only("spec.ephemeralContainers")
	case ResourcesOnly:
		return only("spec.containers.*.resources", "spec.containers.*.resizePolicy", "spec.initContainers.*.resources",
			"spec.initContainers.*.resizePolicy", "spec.resources")
	case ConditionsOnly:
		return only("status.conditions", "status.certificate")
	}
	return nil
}
