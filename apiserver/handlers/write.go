package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// part is which part of an object a write may change: one of the three below, or a subresource that the kind declares.
type part struct {
	name string
	of   *registry.PartOf // nil for the three
}

var (
	whole      = part{}               // everything but status
	statusOnly = part{name: "status"} // status, labels, annotations and finalizers
	action     = part{name: "action"} // what an action's own function says: nothing is kept back for it
)

func (p part) countsGeneration() bool { return p == whole || p.of != nil }

const (
	nameSuffix  = 5  // random characters after generateName
	maxGenerate = 58 // of generateName's that are kept
	nameTries   = 8  // a generated name that is taken is drawn again
	maxRetries  = 64 // of an update that loses races; each lost race is another's success
)

// written is an object as a write left it.
type written struct {
	obj   registry.Object // of the stored version, resourceVersion set
	entry *storage.Entry  // the same as it was stored; nil when it was not (a dry run, the last write of a deleted object)
}

// Create makes a new object: the whole path of a create. obj is of the stored version and belongs to Create. It returns the
// object as stored (resourceVersion set).
//
// The creator owns the fields, in the version of res. Owners that obj names already are kept (see patch.Owners.Update).
func (h *Handlers) Create(ctx context.Context, res *registry.Resource, namespace string, obj registry.Object, dryRun bool) (written, error) {
	return h.newObject(ctx, res, namespace, obj, dryRun, false)
}

// newObject is Create; applied says that the owners of obj are known.
func (h *Handlers) newObject(ctx context.Context, served *registry.Resource, namespace string, obj registry.Object, dryRun, applied bool) (written, error) {
	res := served.Hub
	if err := place(res, namespace, obj); err != nil {
		return written{}, err
	}
	owners := obj.GetManagedFields()
	registry.ClearMeta(obj)
	obj.SetManagedFields(owners)
	obj.SetUID(uuid.NewUUID())
	generated := obj.GetName() == "" && obj.GetGenerateName() != ""
	if generated {
		obj.SetName(generate(obj.GetGenerateName()))
	}
	if res.HasGeneration {
		obj.SetGeneration(1)
	}
	res.Default(obj)
	if !applied {
		h.own(ctx, served, obj, nil, "", whole)
	}
	a := h.attributes(ctx, admission.Create, res, obj, nil, dryRun)
	stored, err := h.createAdmitted(ctx, a, generated)
	if err != nil {
		undo, cancel := background(ctx)
		defer cancel()
		h.admit.Undo(undo, a)
		return written{}, err
	}
	h.admit.Stored(ctx, a)
	return stored, nil
}

func (h *Handlers) createAdmitted(ctx context.Context, a *admission.Attributes, generated bool) (written, error) {
	res, obj := a.Resource, a.Object
	if err := h.admit.Mutate(ctx, a); err != nil {
		return written{}, err
	}
	res.BeforeCreate(obj)
	errs := res.ValidateMeta(obj)
	errs = append(errs, res.Validate(obj)...)
	if len(errs) > 0 {
		return written{}, invalid(res, obj, errs)
	}
	for _, text := range res.Warn(obj, nil) {
		request.Warn(ctx, text)
	}
	if err := h.admit.Validate(ctx, a); err != nil {
		return written{}, err
	}
	if a.DryRun {
		return written{obj: obj}, nil
	}
	for try := 1; ; try++ {
		value, err := codec.Marshal(obj)
		if err != nil {
			return written{}, fmt.Errorf("encoding %s %s: %w", res.GVK.Kind, obj.GetName(), err)
		}
		key := storage.Key{Namespace: obj.GetNamespace(), Name: obj.GetName()}
		e, err := res.Store.Create(ctx, key, value, res.TTL(obj))
		if errors.Is(err, storage.ErrExists) && generated && try < nameTries {
			obj.SetName(generate(obj.GetGenerateName()))
			continue
		}
		if err != nil {
			return written{}, storeError(err, res, obj.GetName())
		}
		obj.SetResourceVersion(strconv.FormatInt(e.Revision, 10))
		return written{obj, e}, nil
	}
}

// place settles the namespace of a new object.
func place(res *registry.Resource, namespace string, obj registry.Object) error {
	if !res.Namespaced {
		if ns := obj.GetNamespace(); ns != "" {
			return badRequest("namespace is not allowed on this type: " + res.GVK.Kind + " is cluster-scoped")
		}
		return nil
	}
	switch ns := obj.GetNamespace(); {
	case ns == "":
		obj.SetNamespace(namespace)
	case namespace == "": // a create without a namespace in its path
	case ns != namespace:
		return badRequest(fmt.Sprintf("the namespace of the provided object does not match the namespace sent on the request (%s, %s)", ns, namespace))
	}
	return nil
}

func generate(base string) string {
	if len(base) > maxGenerate {
		base = base[:maxGenerate]
	}
	return base + rand.String(nameSuffix)
}

// Update is one change of one object.
type Update struct {
	Resource    *registry.Resource // stored version
	Key         storage.Key
	Subresource string
	DryRun      bool
	Part        part
	// Change makes the new object out of the old. Both are of the stored version; it may change and return the one it is
	// given. It is called again when another write came between, and must not have effects of its own. The resourceVersion
	// of what it returns, when not empty, must be the stored one.
	Change func(old registry.Object) (registry.Object, error)
	// Keeps says that Change leaves the old object as it is: it is then not given a copy.
	Keeps bool
	// Served is the version in which fields are owned; nil: Resource.
	Served *registry.Resource
	// Owned says that Change has noted who owns what.
	Owned bool
}

// Mutate changes an object in the name of an action: everything but metadata that the server owns may change, and the kind's
// Validate is not asked. For actions; see Update.Change.
func (h *Handlers) Mutate(ctx context.Context, res *registry.Resource, key storage.Key, sub string, dryRun bool,
	change func(old registry.Object) (registry.Object, error)) (registry.Object, error) {
	o, err := h.Update(ctx, Update{Resource: res.Hub, Key: key, Subresource: sub, DryRun: dryRun, Part: action, Change: change})
	return o.obj, err
}

// base is a state of an object that an update starts from.
type base struct {
	entry *storage.Entry
	fresh bool // read from the truth, not from a cache that may lag
}

// Update changes an object: the whole path of an update. It starts from the cached state and, when that turns out to be old
// (a lost race, a mismatching resourceVersion, a change that does not apply), again from the newest. It returns the object as
// stored; when nothing changed, nothing is written.
func (h *Handlers) Update(ctx context.Context, u Update) (written, error) {
	b, err := h.baseOf(ctx, u.Resource, u.Key)
	if err != nil {
		return written{}, err
	}
	for range maxRetries {
		o, next, err := h.updateFrom(ctx, u, b)
		if next == nil {
			return o, err
		}
		b = *next
		if err := ctx.Err(); err != nil {
			return written{}, err
		}
	}
	return written{}, modified(u.Resource, u.Key.Name)
}

// baseOf reads where an update starts: the cache, or the truth when the cache has nothing.
func (h *Handlers) baseOf(ctx context.Context, res *registry.Resource, key storage.Key) (base, error) {
	e, err := res.Store.Get(ctx, key, storage.Cached)
	if err == nil {
		return base{e, false}, nil
	}
	return h.freshBase(ctx, res, key)
}

func (h *Handlers) freshBase(ctx context.Context, res *registry.Resource, key storage.Key) (base, error) {
	e, err := res.Store.Get(ctx, key, storage.Read{})
	if err != nil {
		return base{}, storeError(err, res, key.Name)
	}
	return base{e, true}, nil
}

// again returns the newest base when b was a cached one that is no longer it; nil when b still is.
func (h *Handlers) again(ctx context.Context, u Update, b base) (*base, error) {
	if b.fresh {
		return nil, nil
	}
	f, err := h.freshBase(ctx, u.Resource, u.Key)
	if err != nil {
		return nil, err
	}
	if f.entry.Revision == b.entry.Revision {
		return nil, nil
	}
	return &f, nil
}

// updateFrom tries once. A non-nil base asks to try again from there.
func (h *Handlers) updateFrom(ctx context.Context, u Update, b base) (o written, next *base, err error) {
	a, value, err := h.changed(ctx, u, b)
	wrote := false
	defer func() {
		if a != nil && !wrote {
			undo, cancel := background(ctx)
			defer cancel()
			h.admit.Undo(undo, a)
		}
	}()
	if err != nil {
		next, ferr := h.again(ctx, u, b)
		if ferr != nil {
			return o, nil, ferr
		}
		return o, next, err
	}
	res := u.Resource
	obj := a.Object
	same := bytes.Equal(value, b.entry.Value)
	if same {
		if next, err := h.again(ctx, u, b); next != nil || err != nil {
			return o, next, err
		}
		if same, err = h.wellKept(ctx, res, u.Key); err != nil {
			return o, nil, err
		}
	}
	if same {
		obj.SetResourceVersion(strconv.FormatInt(b.entry.Revision, 10))
		return written{obj, b.entry}, nil, nil
	}
	if u.DryRun {
		return written{obj: obj}, nil, nil
	}
	var e *storage.Entry
	gone := finished(res, obj)
	if gone {
		e, err = res.Store.Delete(ctx, u.Key, b.entry.Revision)
	} else {
		e, err = res.Store.Update(ctx, u.Key, value, b.entry.Revision, res.TTL(obj))
	}
	var conflict *storage.Conflict
	if errors.As(err, &conflict) {
		return o, &base{conflict.Current, true}, nil
	}
	if err != nil {
		return o, nil, storeError(err, res, u.Key.Name)
	}
	wrote = true
	h.admit.Stored(ctx, a)
	obj.SetResourceVersion(strconv.FormatInt(e.Revision, 10))
	if gone {
		e = nil // what was stored last is not obj
	}
	return written{obj, e}, nil, nil
}

// wellKept says that writing an object's unchanged value again would change nothing in the storage either.
func (h *Handlers) wellKept(ctx context.Context, res *registry.Resource, key storage.Key) (bool, error) {
	r, ok := res.Store.(storage.Resealed)
	if !ok {
		return true, nil
	}
	stale, err := r.Stale(ctx, key)
	return !stale, err
}

// changed makes and checks the new object and its stored form. The attributes hold the object, and what admission took for it
// also when there is an error; they are nil when admission was not reached.
func (h *Handlers) changed(ctx context.Context, u Update, b base) (*admission.Attributes, []byte, error) {
	res := u.Resource
	old, err := res.Decode(b.entry)
	if err != nil {
		return nil, nil, err
	}
	given := old
	if !u.Keeps {
		given = old.DeepCopyObject().(registry.Object)
	}
	obj, err := u.Change(given)
	if err != nil {
		return nil, nil, err
	}
	if obj.GetName() == "" {
		obj.SetName(old.GetName())
	}
	if obj.GetNamespace() == "" {
		obj.SetNamespace(old.GetNamespace())
	}
	if uid := obj.GetUID(); uid != "" && uid != old.GetUID() {
		return nil, nil, precondition(res, u.Key.Name, "UID", string(uid), string(old.GetUID()))
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != "0" && rv != old.GetResourceVersion() {
		return nil, nil, modified(res, u.Key.Name)
	}
	obj.SetResourceVersion(old.GetResourceVersion())
	registry.KeepMeta(obj, old)
	owners := obj.GetManagedFields()
	switch {
	case u.Part.of != nil:
		u.Part.of.Keep(obj, old)
		res.Default(obj)
	case u.Part == whole:
		if res.HasStatus {
			registry.KeepStatus(obj, old)
		}
		res.Default(obj)
	case u.Part == statusOnly:
		res.Default(obj) // of the status; the rest is the old
		registry.KeepAllButStatus(obj, old)
	}
	if res.HasGeneration && u.Part.countsGeneration() && !registry.SameSpec(obj, old) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
	obj.SetManagedFields(owners)
	if !u.Owned {
		served := u.Served
		if served == nil {
			served = res
		}
		h.own(ctx, served, obj, old, u.Subresource, u.Part)
	}
	a := h.attributes(ctx, admission.Update, res, obj, old, u.DryRun)
	a.Subresource = u.Subresource
	if err := h.admit.Mutate(ctx, a); err != nil {
		return a, nil, err
	}
	if err := check(ctx, u, obj, old); err != nil {
		return a, nil, err
	}
	if err := h.admit.Validate(ctx, a); err != nil {
		return a, nil, err
	}
	value, err := codec.Marshal(obj)
	if err != nil {
		return a, nil, fmt.Errorf("encoding %s %s: %w", res.GVK.Kind, obj.GetName(), err)
	}
	value, err = unlessTimes(obj, old, value, b.entry.Value)
	return a, value, err
}

// check prepares and validates an update by its part.
func check(ctx context.Context, u Update, obj, old registry.Object) error {
	res := u.Resource
	errs := field.ErrorList{}
	switch {
	case u.Part.of != nil:
		errs = append(errs, res.ValidateMetaUpdate(obj, old)...)
		errs = append(errs, noNewFinalizers(obj, old)...)
		errs = append(errs, u.Part.of.Validate(obj, old)...)
	case u.Part == whole:
		res.BeforeUpdate(obj, old)
		errs = append(errs, res.ValidateMetaUpdate(obj, old)...)
		errs = append(errs, noNewFinalizers(obj, old)...)
		errs = append(errs, res.Validate(obj)...)
		errs = append(errs, res.ValidateUpdate(obj, old)...)
		if len(errs) == 0 {
			for _, text := range res.Warn(obj, old) {
				request.Warn(ctx, text)
			}
		}
	case u.Part == statusOnly:
		res.BeforeStatus(obj, old)
		errs = append(errs, res.ValidateMetaUpdate(obj, old)...)
		errs = append(errs, noNewFinalizers(obj, old)...)
		errs = append(errs, res.ValidateStatus(obj, old)...)
	case u.Part == action:
		errs = append(errs, res.ValidateMetaUpdate(obj, old)...)
	}
	if len(errs) > 0 {
		return invalid(res, obj, errs)
	}
	return nil
}

func noNewFinalizers(obj, old registry.Object) field.ErrorList {
	if old.GetDeletionTimestamp() == nil {
		return nil
	}
	return apivalidation.ValidateNoNewFinalizers(obj.GetFinalizers(), old.GetFinalizers(), field.NewPath("metadata", "finalizers"))
}

// finished says whether an object that is being deleted has nothing left that keeps it.
func finished(res *registry.Resource, obj registry.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if g := obj.GetDeletionGracePeriodSeconds(); g != nil && *g > 0 {
		return false
	}
	return res.Hold == nil || !res.Hold(obj)
}

func (h *Handlers) attributes(ctx context.Context, op admission.Operation, res *registry.Resource, obj, old registry.Object, dryRun bool) *admission.Attributes {
	a := &admission.Attributes{
		Operation: op, Resource: res, Object: obj, Old: old, User: request.UserOf(ctx), DryRun: dryRun,
	}
	if of := obj; of != nil {
		a.Namespace, a.Name = of.GetNamespace(), of.GetName()
	} else if old != nil {
		a.Namespace, a.Name = old.GetNamespace(), old.GetName()
	}
	return a
}

func invalid(res *registry.Resource, obj registry.Object, errs field.ErrorList) error {
	name := obj.GetName()
	if name == "" {
		name = obj.GetGenerateName()
	}
	return apierrors.NewInvalid(res.GVK.GroupKind(), name, errs)
}

func precondition(res *registry.Resource, name, what, want, have string) error {
	return apierrors.NewConflict(res.GroupResource(), name,
		//lint:ignore ST1005 the words clients of Kubernetes know
		fmt.Errorf("Precondition failed: %s in precondition: %s, %s in object meta: %s", what, want, what, have))
}

// preconditions checks what a delete demands of the object.
func preconditions(res *registry.Resource, p *metav1.Preconditions, obj registry.Object) error {
	if p == nil {
		return nil
	}
	if p.UID != nil && *p.UID != obj.GetUID() {
		return precondition(res, obj.GetName(), "UID", string(*p.UID), string(obj.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != obj.GetResourceVersion() {
		return precondition(res, obj.GetName(), "ResourceVersion", *p.ResourceVersion, obj.GetResourceVersion())
	}
	return nil
}
