package patch

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Object is any API object.
type Object interface {
	runtime.Object
	metav1.Object
}

// Owners keeps metadata.managedFields: who set which field
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management). It knows the kinds it has seen by their
// Go types and the sets of fields it has read by their bytes. Safe for concurrent use.
type Owners struct {
	plans   plans
	schemas schemas
	sets    setCache
	diffs   sync.Pool
}

// NewOwners makes an Owners that has seen nothing.
func NewOwners() *Owners {
	return &Owners{diffs: sync.Pool{New: func() any { return new(diff) }}}
}

// Scope is which part of an object a writer can own: what a write resets, it does not own.
type Scope uint8

const (
	Everything Scope = iota
	NotStatus        // the object itself, where status is a subresource
	StatusOnly       // that subresource: status and metadata
	EphemeralContainersOnly
	ResourcesOnly // of a pod's containers
	ConditionsOnly
)

func (s Scope) has(field string) bool {
	switch s {
	case NotStatus:
		return field != "status"
	case StatusOnly:
		return field == "status" || field == "metadata"
	}
	return true
}

// Writer says who changes an object, and through what.
type Writer struct {
	Manager     string // empty: unknown
	APIVersion  string // of the request, and of the objects given to Update
	Subresource string // empty: the object itself
	Scope       Scope
	Now         time.Time
	// Convert gives an object (of APIVersion) in another version that its kind is served in, nil for one that is not. nil: there
	// is no other.
	Convert func(obj Object, apiVersion string) Object
	// Custom is the kind of the objects where their Go type does not say how their fields merge; nil for all others.
	Custom *Kind
}

const (
	unknownManager = "unknown"
	ancientManager = "ancient-changes" // of updates whose managers were too many
	maxUpdaters    = 10
	fieldsV1       = "FieldsV1"
)

// Update sets the managedFields of obj, which is about to be stored in place of old; old is nil for a new object. What differs
// becomes the writer's, what is gone is nobody's. The managedFields that obj has are taken as the ones to start from when they
// are valid and not empty, as clients may change them; an empty list, or one with an empty entry, forgets all owners, and nobody is
// noted until the object is first applied. Lists that merge by key whose items have none leave old's owners as they are.
func (o *Owners) Update(obj, old Object, w Writer) {
	if w.Manager == "" {
		w.Manager = unknownManager
	}
	if w.Custom != nil {
		o.updateCustom(obj, old, w)
		return
	}
	owners, asStored := o.before(obj, old, w.Subresource != "")
	if len(owners) == 0 && old != nil {
		obj.SetManagedFields(nil)
		return
	}
	d := o.diffs.Get().(*diff)
	defer func() {
		d.release()
		o.diffs.Put(d)
	}()
	if err := o.compare(d, obj, old, w.Scope); err != nil {
		obj.SetManagedFields(nil)
		if old != nil {
			obj.SetManagedFields(old.GetManagedFields())
		}
		return
	}
	if asStored && d.changed.empty() && d.removed.empty() && !slices.ContainsFunc(owners, func(e owner) bool { return e.dropped(w) }) {
		obj.SetManagedFields(old.GetManagedFields())
		return
	}
	obj.SetManagedFields(o.after(d, owners, obj, old, w))
}

// compare fills d with what differs in a scope.
func (o *Owners) compare(d *diff, obj, old Object, scope Scope) error {
	v := reflect.ValueOf(obj).Elem()
	p := o.plans.root(v.Type(), scope)
	was := p.nothing
	if old != nil {
		was = reflect.ValueOf(old).Elem()
	}
	return d.run(p, was, v)
}

// owner is an entry of managedFields and what it says.
type owner struct {
	metav1.ManagedFieldsEntry
	set   *fieldpath.Set
	fresh bool // the set is not what FieldsV1 says any more
}

// same says whether two entries are of one manager. An applier stays the same in another version.
func (e *owner) same(f *metav1.ManagedFieldsEntry) bool {
	return e.Manager == f.Manager && e.Operation == f.Operation && e.Subresource == f.Subresource &&
		(e.APIVersion == f.APIVersion || e.Operation == metav1.ManagedFieldsOperationApply)
}

// dropped says whether an entry vanishes at the next write whatever is written.
func (e *owner) dropped(w Writer) bool { return e.set.Empty() || e.APIVersion != w.APIVersion }

// before reads the owners to start from; stored says that they are old's, all of them valid.
func (o *Owners) before(obj, old Object, subresource bool) (owners []owner, stored bool) {
	var was []metav1.ManagedFieldsEntry
	if old != nil {
		was = old.GetManagedFields()
	}
	if given := obj.GetManagedFields(); !subresource {
		if given != nil && len(given) == 0 || len(given) == 1 && reflect.DeepEqual(given[0], metav1.ManagedFieldsEntry{}) {
			return nil, false
		}
		if len(given) > 0 && !sameEntries(given, was) {
			if owners, ok := o.read(given); ok {
				return owners, false
			}
		}
	}
	owners, ok := o.read(was)
	if !ok {
		return nil, false
	}
	return owners, old != nil && len(owners) == len(was)
}

func sameEntries(a, b []metav1.ManagedFieldsEntry) bool {
	return slices.EqualFunc(a, b, func(a, b metav1.ManagedFieldsEntry) bool {
		return a.Manager == b.Manager && a.Operation == b.Operation && a.APIVersion == b.APIVersion && a.Subresource == b.Subresource &&
			a.FieldsType == b.FieldsType && a.Time.Equal(b.Time) && bytes.Equal(rawOf(a.FieldsV1), rawOf(b.FieldsV1))
	})
}

func rawOf(f *metav1.FieldsV1) []byte {
	if f == nil {
		return nil
	}
	return f.GetRawBytes()
}

// read parses entries; not ok when one is invalid. Of two by one manager the later counts.
func (o *Owners) read(entries []metav1.ManagedFieldsEntry) ([]owner, bool) {
	owners := make([]owner, 0, len(entries)+1)
	for _, e := range entries {
		if e.Operation != metav1.ManagedFieldsOperationApply && e.Operation != metav1.ManagedFieldsOperationUpdate ||
			e.APIVersion == "" || e.FieldsType != fieldsV1 {
			return nil, false
		}
		set, err := o.sets.parse(rawOf(e.FieldsV1))
		if err != nil {
			return nil, false
		}
		next := owner{ManagedFieldsEntry: e, set: set}
		if i := slices.IndexFunc(owners, func(f owner) bool { return f.same(&e) }); i >= 0 {
			owners[i] = next
			continue
		}
		owners = append(owners, next)
	}
	return owners, true
}

// after is the managedFields of what d compared.
func (o *Owners) after(d *diff, owners []owner, obj, old Object, w Writer) []metav1.ManagedFieldsEntry {
	self := metav1.ManagedFieldsEntry{
		Manager: w.Manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: w.APIVersion, Subresource: w.Subresource,
		FieldsType: fieldsV1,
	}
	mine := slices.IndexFunc(owners, func(e owner) bool { return e.same(&self) })
	if mine < 0 && !d.changed.empty() {
		mine = len(owners)
		owners = append(owners, owner{ManagedFieldsEntry: self, set: &fieldpath.Set{}})
	}
	var changed, removed *fieldpath.Set // made when somebody needs them
	for i := range owners {
		e := &owners[i]
		switch {
		case e.APIVersion != w.APIVersion:
			o.takeInVersion(e, obj, old, w)
			continue
		case i != mine && d.changed.meets(e.set):
			if changed == nil {
				changed = d.changed.set()
			}
			e.set, e.fresh = e.set.Difference(changed), true
		}
		if d.removed.meets(e.set) {
			if removed == nil {
				removed = d.removed.set()
			}
			e.set, e.fresh = e.set.Difference(removed), true
		}
		if i != mine || d.changed.empty() {
			continue
		}
		switch {
		case e.FieldsV1 == nil:
			d.raw = d.changed.appendJSON(d.raw[:0])
			e.FieldsV1 = rawFields(bytes.Clone(d.raw)) // a new manager: the set is read when it is first needed
			e.set = nil
		case !d.changed.within(e.set):
			if changed == nil {
				changed = d.changed.set()
			}
			e.set, e.fresh = e.set.Union(changed), true
		}
		now := metav1.NewTime(w.Now.UTC().Truncate(time.Second))
		e.Time = &now
	}
	owners = slices.DeleteFunc(owners, func(e owner) bool { return e.set != nil && e.set.Empty() })
	return entriesOf(o.fold(owners))
}

func rawFields(raw []byte) *metav1.FieldsV1 {
	f := &metav1.FieldsV1{}
	f.SetRawBytes(raw)
	return f
}

// takeInVersion takes from an owner whose fields are named as in another version. One of a version that is not served is
// forgotten.
func (o *Owners) takeInVersion(e *owner, obj, old Object, w Writer) {
	var now, was Object
	if w.Convert != nil {
		if now = w.Convert(obj, e.APIVersion); now != nil && old != nil {
			was = w.Convert(old, e.APIVersion)
		}
	}
	if now == nil {
		e.set = &fieldpath.Set{}
		return
	}
	d := o.diffs.Get().(*diff)
	defer func() {
		d.release()
		o.diffs.Put(d)
	}()
	if o.compare(d, now, was, w.Scope) != nil {
		return
	}
	if d.changed.meets(e.set) || d.removed.meets(e.set) {
		e.set, e.fresh = e.set.Difference(d.changed.set()).Difference(d.removed.set()), true
	}
}

// fold keeps no more than maxUpdaters managers of updates: the oldest of each version become one.
func (o *Owners) fold(owners []owner) []owner {
	if len(owners) <= maxUpdaters {
		return owners
	}
	var updaters []int
	for i := range owners {
		if owners[i].Operation == metav1.ManagedFieldsOperationUpdate {
			updaters = append(updaters, i)
		}
	}
	if len(updaters) <= maxUpdaters {
		return owners
	}
	slices.SortFunc(updaters, func(a, b int) int {
		return compareForFolding(&owners[a].ManagedFieldsEntry, &owners[b].ManagedFieldsEntry)
	})
	first := map[string]int{} // the oldest of a version, which becomes the one all others of it fold into
	gone := map[int]bool{}
	for _, i := range updaters {
		if len(updaters)-len(gone) <= maxUpdaters {
			break
		}
		e := &owners[i]
		at, met := first[e.APIVersion]
		if !met {
			first[e.APIVersion] = i
			continue
		}
		all := &owners[at]
		if bucket := ancient(e.APIVersion); !all.same(&bucket) {
			if has := slices.IndexFunc(owners, func(e owner) bool { return e.same(&bucket) }); has >= 0 && has != i && !gone[has] {
				at, first[e.APIVersion] = has, has
				all = &owners[at]
			} else {
				bucket.FieldsType, bucket.FieldsV1 = all.FieldsType, all.FieldsV1
				all.ManagedFieldsEntry = bucket
			}
		}
		all.set, all.fresh, all.Time = o.setOf(all).Union(o.setOf(e)), true, e.Time
		gone[i] = true
	}
	kept := owners[:0]
	for i, e := range owners {
		if !gone[i] {
			kept = append(kept, e)
		}
	}
	return kept
}

// compareForFolding orders as compareAge does, but of one manager, version and second, the one of a subresource comes first, as
// with upstream, whose order is that of the entries' JSON.
func compareForFolding(a, b *metav1.ManagedFieldsEntry) int {
	if seconds(a.Time) == seconds(b.Time) && a.Manager == b.Manager && a.APIVersion == b.APIVersion && (a.Subresource == "") != (b.Subresource == "") {
		return -compareAge(a, b)
	}
	return compareAge(a, b)
}

func ancient(apiVersion string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{Manager: ancientManager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: apiVersion}
}

// setOf is an owner's set, read when it was not yet.
func (o *Owners) setOf(e *owner) *fieldpath.Set {
	if e.set == nil {
		if e.set, _ = o.sets.parse(rawOf(e.FieldsV1)); e.set == nil {
			e.set = &fieldpath.Set{}
		}
	}
	return e.set
}

// compareAge orders managers of updates, the oldest first.
func compareAge(a, b *metav1.ManagedFieldsEntry) int {
	if c := seconds(a.Time) - seconds(b.Time); c != 0 {
		return sign(c)
	}
	if c := strings.Compare(a.Manager, b.Manager); c != 0 {
		return c
	}
	if c := strings.Compare(a.APIVersion, b.APIVersion); c != 0 {
		return c
	}
	return strings.Compare(a.Subresource, b.Subresource)
}

func seconds(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}

func sign(n int64) int {
	if n < 0 {
		return -1
	}
	return 1
}

// entriesOf writes owners down in the order clients know: appliers first, then by age.
func entriesOf(owners []owner) []metav1.ManagedFieldsEntry {
	if len(owners) == 0 {
		return nil
	}
	out := make([]metav1.ManagedFieldsEntry, 0, len(owners))
	for i := range owners {
		e := owners[i].ManagedFieldsEntry
		if owners[i].fresh {
			raw, err := owners[i].set.ToJSON()
			if err != nil {
				continue // a set that came from JSON has a JSON form
			}
			e.FieldsV1 = rawFields(raw)
		}
		out = append(out, e)
	}
	sortEntries(out)
	return out
}

func sortEntries(entries []metav1.ManagedFieldsEntry) {
	slices.SortFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		if c := strings.Compare(string(a.Operation), string(b.Operation)); c != 0 {
			return c
		}
		return compareAge(&a, &b)
	})
}
