package handlers

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

var deleteOptionsKind = schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}

// deleteOne answers DELETE of an object: a Status when it is gone, the object when it stays for now.
func (h *Handlers) deleteOne(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	v, err := viewOf(r, res, true)
	if err != nil {
		return err
	}
	o, err := deleteOptions(r)
	if err != nil {
		return err
	}
	obj, gone, err := h.Delete(r.Context(), res, keyOf(res, info), o)
	if err != nil {
		return err
	}
	if gone && !res.ReturnsDeleted {
		WriteStatus(w, r, metav1.Status{
			Status: metav1.StatusSuccess, Code: http.StatusOK,
			Details: &metav1.StatusDetails{Name: info.Name, Group: res.GVK.Group, Kind: res.Plural, UID: obj.GetUID()},
		})
		return nil
	}
	code := http.StatusOK
	//lint:ignore SA1019 old clients still send it
	if !gone && o.OrphanDependents != nil && !*o.OrphanDependents {
		code = http.StatusAccepted
	}
	return v.object(w, code, obj)
}

// deleteOptions reads the options from body and query and checks them.
func deleteOptions(r *http.Request) (*metav1.DeleteOptions, error) {
	o := &metav1.DeleteOptions{}
	b, err := codec.ReadBody(r)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 && r.URL.RawQuery == "" {
		return o, nil
	}
	q := r.URL.Query()
	if len(b) > 0 {
		media := codec.BodyMedia(r)
		if media == "" {
			return nil, unsupportedMedia(r.Header.Get("Content-Type"))
		}
		gvk, err := codec.PeekKind(b, media)
		if err != nil {
			return nil, badRequest("decoding the delete options: " + err.Error())
		}
		// Any group's DeleteOptions are the same type.
		want := deleteOptionsKind
		if gvk.Kind == "DeleteOptions" {
			want = gvk
		}
		if _, err := codec.Decode(b, media, want, o, codec.Ignore); err != nil {
			return nil, err
		}
		audit.Sent(r.Context(), o, want)
	} else if err := metav1.Convert_url_Values_To_v1_DeleteOptions(&q, o, nil); err != nil {
		return nil, badRequest(err.Error())
	}
	if g := o.GracePeriodSeconds; g != nil && *g < 0 {
		o.GracePeriodSeconds = ptr.To[int64](1) // as the field's documentation says
	}
	if errs := metav1validation.ValidateDeleteOptions(o); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "DeleteOptions"}, "", errs)
	}
	return o, nil
}

// Delete removes an object, or marks it when finalizers, a grace period or the kind itself keep it for now. It returns the
// last state (stored version) and whether the object is gone.
func (h *Handlers) Delete(ctx context.Context, res *registry.Resource, key storage.Key, o *metav1.DeleteOptions) (registry.Object, bool, error) {
	res = res.Hub
	if res.Orphans && saysNothing(o) {
		if res.OrphansWarning != "" {
			request.Warn(ctx, res.OrphansWarning)
		}
		orphan := *o
		orphan.PropagationPolicy = ptr.To(metav1.DeletePropagationOrphan)
		o = &orphan
	}
	b, err := h.baseOf(ctx, res, key)
	if err != nil {
		return nil, false, err
	}
	u := Update{Resource: res, Key: key}
	for range maxRetries {
		obj, gone, next, err := h.deleteFrom(ctx, u, b, o)
		if err != nil && !b.fresh {
			if next, err2 := h.again(ctx, u, b); err2 != nil {
				return nil, false, err2
			} else if next != nil {
				b = *next
				continue
			}
		}
		if err != nil || next == nil {
			return obj, gone, err
		}
		b = *next
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
	}
	return nil, false, modified(res, key.Name)
}

func (h *Handlers) deleteFrom(ctx context.Context, u Update, b base, o *metav1.DeleteOptions) (obj registry.Object, gone bool, next *base, err error) {
	res := u.Resource
	old, err := res.Decode(b.entry)
	if err != nil {
		return nil, false, nil, err
	}
	if err := preconditions(res, o.Preconditions, old); err != nil {
		return nil, false, nil, err
	}
	dry := len(o.DryRun) > 0
	a := h.attributes(ctx, admission.Delete, res, nil, old, dry)
	a.Delete = o
	if err := h.admit.Mutate(ctx, a); err != nil {
		return nil, false, nil, err
	}
	if err := h.admit.Validate(ctx, a); err != nil {
		return nil, false, nil, err
	}
	if obj = old; keeps(res, old, o) {
		if obj, err = res.Decode(b.entry); err != nil {
			return nil, false, nil, err
		}
		markDeleted(res, obj, o)
	}
	gone = obj == old || finished(res, obj)
	if dry {
		return obj, gone, nil, nil
	}
	var e *storage.Entry
	if gone {
		e, err = res.Store.Delete(ctx, u.Key, b.entry.Revision)
	} else {
		value, merr := codec.Marshal(obj)
		if merr != nil {
			return nil, false, nil, merr
		}
		if bytes.Equal(value, b.entry.Value) {
			next, err := h.again(ctx, u, b)
			return obj, false, next, err
		}
		e, err = res.Store.Update(ctx, u.Key, value, b.entry.Revision, res.TTL(obj))
	}
	var conflict *storage.Conflict
	if errors.As(err, &conflict) {
		return nil, false, &base{conflict.Current, true}, nil
	}
	if err != nil {
		return nil, false, nil, storeError(err, res, u.Key.Name)
	}
	if gone {
		h.admit.Stored(ctx, a)
	}
	obj.SetResourceVersion(strconv.FormatInt(e.Revision, 10))
	return obj, gone, nil, nil
}

// keeps says whether anything may keep an object for now that is to be deleted.
func keeps(res *registry.Resource, obj registry.Object, o *metav1.DeleteOptions) bool {
	return res.Grace != nil || res.Hold != nil || len(propagation(obj.GetFinalizers(), o)) > 0
}

// markDeleted sets the deletion timestamp, the grace period and the finalizers of the asked propagation. A second delete may
// shorten the grace period, never lengthen it.
func markDeleted(res *registry.Resource, obj registry.Object, o *metav1.DeleteOptions) {
	obj.SetFinalizers(propagation(obj.GetFinalizers(), o))
	grace := int64(0)
	if res.Grace != nil {
		grace = res.Grace(obj, o)
	}
	if t := obj.GetDeletionTimestamp(); t != nil {
		had := int64(0)
		if p := obj.GetDeletionGracePeriodSeconds(); p != nil {
			had = *p
		}
		if res.Grace == nil || grace >= had || o.GracePeriodSeconds == nil {
			return
		}
		at := metav1.NewTime(t.Add(-time.Duration(had-grace) * time.Second))
		obj.SetDeletionTimestamp(&at)
		obj.SetDeletionGracePeriodSeconds(&grace)
		return
	}
	at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second).Truncate(time.Second))
	obj.SetDeletionTimestamp(&at)
	obj.SetDeletionGracePeriodSeconds(&grace)
	if g := obj.GetGeneration(); g > 0 {
		obj.SetGeneration(g + 1)
	}
	res.OnDelete(obj)
}

// saysNothing of dependents.
func saysNothing(o *metav1.DeleteOptions) bool {
	//lint:ignore SA1019 old clients still send it
	return o.PropagationPolicy == nil && o.OrphanDependents == nil
}

// propagation settles the two finalizers by which the garbage collector is told what becomes of dependents
// (https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion).
func propagation(finalizers []string, o *metav1.DeleteOptions) []string {
	policy := metav1.DeletionPropagation("")
	//lint:ignore SA1019 old clients still send it
	orphan := o.OrphanDependents
	switch {
	case o.PropagationPolicy != nil:
		policy = *o.PropagationPolicy
	case orphan != nil && *orphan:
		policy = metav1.DeletePropagationOrphan
	case orphan != nil:
		policy = metav1.DeletePropagationBackground
	}
	if policy == "" {
		return finalizers
	}
	out := slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	switch policy {
	case metav1.DeletePropagationOrphan:
		out = append(out, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		out = append(out, metav1.FinalizerDeleteDependents)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
