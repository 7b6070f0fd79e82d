package handlers

import (
	"net/http"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// create answers POST on a collection.
func (h *Handlers) create(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	v, err := viewOf(r, res, true)
	if err != nil {
		return err
	}
	c, err := changeOf(r, v, info, "")
	if err != nil {
		return err
	}
	obj := res.New()
	if err := c.decode(r, res.GVK, obj); err != nil {
		return err
	}
	hub, err := newServed(res, obj)
	if err != nil {
		return err
	}
	stored, err := h.Create(r.Context(), res, info.Namespace, hub, c.dry)
	if err != nil {
		return err
	}
	return v.written(w, http.StatusCreated, stored)
}

// newServed checks a new object as a client sent it and converts it to the stored version.
func newServed(res *registry.Resource, obj registry.Object) (registry.Object, error) {
	if res.ValidateServed != nil {
		if errs := res.ValidateServed(obj, nil); len(errs) > 0 {
			return nil, invalid(res, obj, errs)
		}
	}
	if res.FromServed == nil {
		return obj, nil
	}
	return res.FromServed(obj), nil
}

// put answers PUT on an object or its status.
func (h *Handlers) put(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info, p part) error {
	v, err := viewOf(r, res, true)
	if err != nil {
		return err
	}
	c, err := changeOf(r, v, info, "")
	if err != nil {
		return err
	}
	sent := res.New()
	if err := c.decode(r, res.GVK, sent); err != nil {
		return err
	}
	if err := matchPath(info, res, sent); err != nil {
		return err
	}
	stored, err := h.Update(r.Context(), Update{
		Resource: res.Hub, Served: res, Key: keyOf(res, info), Subresource: info.Subresource, DryRun: c.dry, Part: p, Keeps: true,
		Change: func(old registry.Object) (registry.Object, error) {
			// The write path changes what it is given. It seldom asks again: the body is then read again.
			obj := sent
			if sent = nil; obj == nil {
				obj = res.New()
				if _, err := codec.Decode(c.body, codec.BodyMedia(r), res.GVK, obj, codec.Ignore); err != nil {
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
