package handlers

import (
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// create answers POST on a collection.
func (h *Handlers) create(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	v, err := viewOf(r, res, true)
	if err != nil {
		return err
	}
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	obj, err := bodyOf(r, res)
	if err != nil {
		return err
	}
	if res.ValidateServed != nil {
		if errs := res.ValidateServed(obj, nil); len(errs) > 0 {
			return invalid(res, obj, errs)
		}
	}
	if res.FromServed != nil {
		obj = res.FromServed(obj)
	}
	stored, err := h.Create(r.Context(), res, info.Namespace, obj, dry)
	if err != nil {
		return err
	}
	return v.written(w, http.StatusCreated, stored)
}

// put answers PUT on an object or its status.
func (h *Handlers) put(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info, p part) error {
	v, err := viewOf(r, res, true)
	if err != nil {
		return err
	}
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	b, err := body(r)
	if err != nil {
		return err
	}
	sent, err := decodeBody(r, b, res)
	if err != nil {
		return err
	}
	if err := matchPath(info, res, sent); err != nil {
		return err
	}
	stored, err := h.Update(r.Context(), Update{
		Resource: res.Hub, Served: res, Key: keyOf(res, info), Subresource: info.Subresource, DryRun: dry, Part: p, Keeps: true,
		Change: func(old registry.Object) (registry.Object, error) {
			// The write path changes what it is given. It seldom asks again: the body is then read again.
			obj := sent
			if sent = nil; obj == nil {
				obj = res.New()
				if _, err := codec.Decode(b, codec.BodyMedia(r), res.GVK, obj, codec.Ignore); err != nil {
					return nil, err
				}
			}
			return fromServed(res, obj, old)
		},
	})
	if err != nil {
		return err
	}
	return v.written(w, http.StatusOK, stored)
}

// fromServed checks what a client sent in place of old (stored version) and converts it to the stored version.
func fromServed(res *registry.Resource, obj, old registry.Object) (registry.Object, error) {
	if res.ValidateServed != nil {
		if errs := res.ValidateServed(obj, res.Served(old)); len(errs) > 0 {
			return nil, invalid(res, obj, errs)
		}
	}
	if res.FromServed == nil {
		return obj, nil
	}
	hub := res.FromServed(obj)
	hub.SetResourceVersion(obj.GetResourceVersion())
	return hub, nil
}

// matchPath says no to a body that names another object than the URL.
func matchPath(info *request.Info, res *registry.Resource, obj registry.Object) error {
	if n := obj.GetName(); n == "" {
		return badRequest("the name of the object must be given in the body: metadata.name is empty")
	} else if n != info.Name {
		return badRequest("the name of the object (" + n + ") does not match the name on the URL (" + info.Name + ")")
	}
	if ns := obj.GetNamespace(); res.Namespaced && ns != "" && ns != info.Namespace {
		return badRequest("the namespace of the object (" + ns + ") does not match the namespace on the request (" + info.Namespace + ")")
	}
	return nil
}

// dryRun reads the dryRun parameter: absent, or All.
func dryRun(r *http.Request) (bool, error) {
	if r.URL.RawQuery == "" {
		return false, nil
	}
	v := r.URL.Query()["dryRun"]
	if len(v) == 0 {
		return false, nil
	}
	if i := slices.IndexFunc(v, func(s string) bool { return s != metav1.DryRunAll }); i >= 0 {
		return false, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "CreateOptions"}, "", field.ErrorList{
			field.NotSupported(field.NewPath("dryRun"), v[i], []string{metav1.DryRunAll}),
		})
	}
	return true, nil
}

// scale answers GET, PUT and PATCH of the scale subresource.
func (h *Handlers) scale(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	a, ok := codec.Negotiate(r, false)
	if !ok {
		return notAcceptable(codec.Media...)
	}
	if info.Verb == "get" {
		e, err := res.Store.Get(r.Context(), keyOf(res, info), storage.Read{})
		if err != nil {
			return storeError(err, res, info.Name)
		}
		obj, err := res.Decode(e)
		if err != nil {
			return err
		}
		return writeScale(w, a, res, obj)
	}
	if info.Verb != "update" && info.Verb != "patch" {
		return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb)
	}
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	wish, err := scaleWish(r, res, info)
	if err != nil {
		return err
	}
	stored, err := h.Update(r.Context(), Update{
		Resource: res.Hub, Served: res, Key: keyOf(res, info), Subresource: info.Subresource, DryRun: dry, Part: whole,
		Change: func(old registry.Object) (registry.Object, error) {
			s, err := wish(scaleOf(res, old))
			if err != nil {
				return nil, err
			}
			if s.Spec.Replicas < 0 {
				return nil, apierrors.NewInvalid(scaleKind.GroupKind(), info.Name, field.ErrorList{
					field.Invalid(field.NewPath("spec", "replicas"), s.Spec.Replicas, "must be greater than or equal to 0"),
				})
			}
			res.ScaleSet(old, s.Spec.Replicas)
			old.SetResourceVersion(s.ResourceVersion)
			old.SetUID(s.UID)
			return old, nil
		},
	})
	if err != nil {
		return err
	}
	return writeScale(w, a, res, stored.obj)
}
