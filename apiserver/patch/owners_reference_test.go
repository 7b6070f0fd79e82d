package patch

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Random writes by several managers leave what apimachinery's field manager, with client-go's schema, leaves of them.
func TestOwnersAsReference(t *testing.T) {
	kinds := []Kind{
		{GVK: corev1.SchemeGroupVersion.WithKind("ConfigMap"), New: func() Object { return &corev1.ConfigMap{} }},
		{GVK: corev1.SchemeGroupVersion.WithKind("Pod"), New: func() Object { return &corev1.Pod{} }},
		{GVK: appsv1.SchemeGroupVersion.WithKind("Deployment"), New: func() Object { return &appsv1.Deployment{} }},
		{GVK: corev1.SchemeGroupVersion.WithKind("Service"), New: func() Object { return &corev1.Service{} }},
		{GVK: appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), New: func() Object { return &appsv1.ControllerRevision{} }},
	}
	owners := NewOwners()
	for _, k := range kinds {
		t.Run(k.GVK.Kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for seed := range int64(15) {
					both := &pair{t: t, k: k, owners: owners, r: rand.New(rand.NewSource(seed)), seed: seed}
					for both.step = range 25 {
						both.write()
						time.Sleep(300 * time.Millisecond)
					}
				}
			})
		})
	}
}

// pair is one object as we keep it and as the reference does.
type pair struct {
	t          *testing.T
	k          Kind
	owners     *Owners
	r          *rand.Rand
	seed       int64
	step       int
	ours, ref  Object
	applied    int
	conflicted int
}

func (p *pair) reference(w Writer) *managedfields.FieldManager {
	c := &conversion{o: p.owners, kind: p.k}
	filter := w.Scope.filter()
	m, err := managedfields.NewDefaultFieldManager(applyconfigurations.NewTypeConverter(scheme.Scheme), c, c, c, p.k.GVK, p.k.GVK.GroupVersion(),
		w.Subresource, map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(w.APIVersion): filter})
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

func (p *pair) write() {
	managers := 3
	if p.seed%5 == 0 {
		managers = 16
	}
	w := Writer{
		Manager: fmt.Sprintf("m%d", p.r.Intn(managers)), APIVersion: p.k.GVK.GroupVersion().String(), Scope: NotStatus, Now: time.Now(),
	}
	if p.ours != nil && p.r.Intn(3) == 0 {
		p.apply(w)
		return
	}
	base := p.ours
	if base == nil {
		base = p.k.New()
	}
	next := base.DeepCopyObject().(Object)
	if status := reflect.ValueOf(next).Elem().FieldByName("Status"); p.ours != nil && status.IsValid() && p.r.Intn(4) == 0 {
		mutate(p.r, status, 0)
		w.Subresource, w.Scope = "status", StatusOnly
		p.update(w, next)
		return
	}
	for range 1 + p.r.Intn(3) {
		mutate(p.r, reflect.ValueOf(next).Elem(), 0)
	}
	meta := metav1.ObjectMeta{
		Name: "a", Namespace: "b", UID: "u", Labels: next.GetLabels(), Annotations: next.GetAnnotations(), Finalizers: next.GetFinalizers(),
		OwnerReferences: next.GetOwnerReferences(), ManagedFields: base.GetManagedFields(),
	}
	reflect.ValueOf(next).Elem().FieldByName("ObjectMeta").Set(reflect.ValueOf(meta))
	p.update(w, next)
}

func (p *pair) update(w Writer, next Object) {
	mine, theirs := next.DeepCopyObject().(Object), next.DeepCopyObject().(Object)
	switch p.r.Intn(30) {
	case 0:
		mine.SetManagedFields([]metav1.ManagedFieldsEntry{})
	case 1:
		mine.SetManagedFields([]metav1.ManagedFieldsEntry{{}})
	case 2:
		mine.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "odd", Operation: "Other"}})
	case 3:
		mine.SetManagedFields(nil)
	}
	theirs.SetManagedFields(mine.DeepCopyObject().(Object).GetManagedFields())
	p.owners.Update(mine, p.ours, w)
	live := p.ref
	if live == nil {
		live = p.k.New()
	}
	live = live.DeepCopyObject().(Object)
	live.GetObjectKind().SetGroupVersionKind(p.k.GVK)
	theirs.GetObjectKind().SetGroupVersionKind(p.k.GVK)
	out := p.reference(w).UpdateNoErrors(live, theirs, w.Manager)
	p.check("update by "+w.Manager, mine, out.(Object))
}

func (p *pair) apply(w Writer) {
	partial := p.k.New()
	for range 1 + p.r.Intn(4) {
		mutate(p.r, reflect.ValueOf(partial).Elem(), 0)
	}
	if p.r.Intn(2) == 0 { // agree with what is there
		partial = p.ours.DeepCopyObject().(Object)
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(partial)
	if err != nil {
		p.t.Fatal(err)
	}
	fields["apiVersion"], fields["kind"] = w.APIVersion, p.k.GVK.Kind
	delete(fields, "status")
	meta := map[string]any{"name": "a", "namespace": "b"}
	if labels := partial.GetLabels(); len(labels) > 0 {
		all := map[string]any{}
		for k, v := range labels {
			all[k] = v
		}
		meta["labels"] = all
	}
	fields["metadata"] = meta
	force := p.r.Intn(3) == 0
	if p.r.Intn(3) == 0 {
		w.Manager = "kubectl"
	}
	mine, err := p.owners.Apply(p.ours, runtime.DeepCopyJSON(fields), p.k, w, force)
	live := p.ref.DeepCopyObject().(Object)
	live.GetObjectKind().SetGroupVersionKind(p.k.GVK)
	theirs, want := p.reference(w).Apply(live, &unstructured.Unstructured{Object: fields}, w.Manager, force)
	if (err == nil) != (want == nil) || err != nil && sortedLines(err) != sortedLines(want) {
		p.t.Fatalf("seed %d step %d: apply: got error %v, want %v", p.seed, p.step, err, want)
	}
	if err != nil {
		p.conflicted++
		return
	}
	p.applied++
	p.check("apply by "+w.Manager, mine, theirs.(Object))
}

func (p *pair) check(what string, mine, theirs Object) {
	p.t.Helper()
	theirs.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	got, want := withoutTimes(mine.GetManagedFields()), withoutTimes(theirs.GetManagedFields())
	if got != want {
		p.t.Fatalf("seed %d step %d: %s: managed fields\n got %s\nwant %s", p.seed, p.step, what, got, want)
	}
	a, b := mine.DeepCopyObject().(Object), theirs.DeepCopyObject().(Object)
	a.SetManagedFields(nil)
	b.SetManagedFields(nil)
	if x, y := mustJSON(p.t, a), mustJSON(p.t, b); x != y && !equality.Semantic.DeepEqual(a, b) {
		p.t.Fatalf("seed %d step %d: %s: object\n got %s\nwant %s", p.seed, p.step, what, x, y)
	}
	p.ours, p.ref = mine, theirs
	p.ours.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// withoutTimes are entries, one a line, sorted. That the bytes are the same is more than need be, but keeps the caches small.
func withoutTimes(entries []metav1.ManagedFieldsEntry) string {
	var lines []string
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s %s", e.Operation, e.Manager, e.APIVersion, e.Subresource, e.FieldsType, rawOf(e.FieldsV1)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// sortedLines is an error whose lines come in no order.
func sortedLines(err error) string {
	lines := strings.Fields(err.Error())
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// mutate changes something somewhere in v.
func mutate(r *rand.Rand, v reflect.Value, depth int) {
	switch x := v.Addr().Interface().(type) {
	case *metav1.Time:
		*x = metav1.Unix(int64(r.Intn(3)), 0)
		return
	case *metav1.MicroTime:
		*x = metav1.NewMicroTime(time.Unix(int64(r.Intn(3)), 0))
		return
	case *resource.Quantity:
		*x = resource.MustParse([]string{"1", "1000m", "2Gi", "0"}[r.Intn(4)])
		return
	case *intstr.IntOrString:
		*x = []intstr.IntOrString{intstr.FromInt32(1), intstr.FromInt32(0), intstr.FromString("http")}[r.Intn(3)]
		return
	case *runtime.RawExtension:
		x.Raw = [][]byte{nil, []byte(`{"a":1}`), []byte(`{"a":{"b":[1]},"c":"d"}`), []byte(`{"a":{"e":null}}`)}[r.Intn(4)]
		return
	case *metav1.ObjectMeta:
		mutate(r, reflect.ValueOf(&x.Labels).Elem(), depth+1)
		if r.Intn(3) == 0 {
			mutate(r, reflect.ValueOf(&x.Annotations).Elem(), depth+1)
			mutate(r, reflect.ValueOf(&x.Finalizers).Elem(), depth+1)
			mutate(r, reflect.ValueOf(&x.OwnerReferences).Elem(), depth+1)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for range 1 + r.Intn(4) {
			if f := v.Field(r.Intn(v.NumField())); f.CanSet() && f.Type() != reflect.TypeFor[metav1.TypeMeta]() && depth < 9 {
				mutate(r, f, depth+1)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() && r.Intn(4) == 0 {
			v.SetZero()
			return
		}
		n := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			n.Elem().Set(v.Elem())
		}
		mutate(r, n.Elem(), depth+1)
		v.Set(n)
	case reflect.Slice:
		mutateSlice(r, v, depth)
	case reflect.Map:
		n := reflect.MakeMap(v.Type())
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			if r.Intn(4) != 0 {
				n.SetMapIndex(key, v.MapIndex(key))
			}
		}
		if r.Intn(5) != 0 {
			value := reflect.New(v.Type().Elem()).Elem()
			mutate(r, value, depth+1)
			n.SetMapIndex(reflect.ValueOf([]string{"a", "b/c", `q"<`, "d"}[r.Intn(4)]).Convert(v.Type().Key()), value)
		}
		v.Set(n)
		if r.Intn(8) == 0 {
			v.SetZero()
		}
	case reflect.String:
		v.SetString([]string{"", "x", "y", `z"\`, "é<"}[r.Intn(5)])
	case reflect.Bool:
		v.SetBool(r.Intn(2) == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Intn(3)))
	case reflect.Uint8:
		v.SetUint(uint64(r.Intn(3)))
	}
}

func mutateSlice(r *rand.Rand, v reflect.Value, depth int) {
	n := reflect.MakeSlice(v.Type(), 0, v.Len()+1)
	for i := range v.Len() {
		if r.Intn(4) != 0 {
			n = reflect.Append(n, v.Index(i))
		}
	}
	if r.Intn(6) != 0 {
		item := reflect.New(v.Type().Elem()).Elem()
		for range 4 {
			mutate(r, item, depth+1)
		}
		for _, key := range []string{"Name", "Type", "IP", "MountPath", "DevicePath", "UID", "ResourceName", "TopologyKey", "IPAddress"} {
			if item.Kind() == reflect.Struct {
				if f := item.FieldByName(key); f.IsValid() && f.Kind() == reflect.String {
					f.SetString([]string{"x", "y", "z"}[r.Intn(3)])
				}
			}
		}
		n = reflect.Append(n, item)
	}
	if n.Len() > 1 && r.Intn(3) == 0 {
		reflect.Swapper(n.Interface())(0, n.Len()-1)
	}
	v.Set(n)
	if r.Intn(8) == 0 {
		v.SetZero()
	}
}
