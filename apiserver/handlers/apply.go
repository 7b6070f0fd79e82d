package handlers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/patch"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// createTries is how often an apply that finds no object, and then that somebody made one, starts again.
const createTries = 5

// apply answers PATCH with an applied configuration (server-side apply): it merges it into the object and creates one that is not
// there (https://kubernetes.io/docs/reference/using-api/server-side-apply/).
func (h *Handlers) apply(w http.ResponseWriter, r *http.Request, res *registry.Resource, c *change, kind types.PatchType, p part) error {
	config, err := c.config(r, kind)
	if err != nil {
		return err
	}
	if err := matchConfig(c, res, config); err != nil {
		return err
	}
	for try := 1; ; try++ {
		stored, err := h.applyOver(r, res, c, config, p)
		if err == nil {
			return c.view.written(w, http.StatusOK, stored)
		}
		if p != whole || !absentHere(err, res, c.info.Name) {
			return err
		}
		if err := h.mayCreate(r.Context(), res, c.info); err != nil {
			return err
		}
		stored, err = h.applyNew(r, res, c, config)
		if err == nil {
			return c.view.written(w, http.StatusCreated, stored)
		}
		if !apierrors.IsAlreadyExists(err) || try == createTries {
			return err
		}
	}
}

// mayCreate asks for the right to create: an apply of what is not there was let in as a patch.
func (h *Handlers) mayCreate(ctx context.Context, res *registry.Resource, i *request.Info) error {
	if h.access == nil {
		return nil
	}
	asked := *i
	asked.Verb = "create"
	if ok, why := h.access.Allow(ctx, request.UserOf(ctx), &asked); !ok {
		return apierrors.NewForbidden(res.GroupResource(), i.Name, errors.New(why))
	}
	return nil
}

// absentHere says whether an error means that the object itself is not there (and not, say, its namespace).
func absentHere(err error, res *registry.Resource, name string) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	d := status.Status().Details
	return d != nil && d.Name == name && d.Kind == res.Plural && d.Group == res.Hub.GVK.Group
}

// config reads the applied configuration and tells of fields that it has twice.
func (c *change) config(r *http.Request, kind types.PatchType) (map[string]any, error) {
	config, twice, err := patch.ReadConfig(kind, c.body)
	if err != nil {
		return nil, err
	}
	audit.SentConfig(r.Context(), config)
	return config, c.tell(r.Context(), twice)
}

// matchConfig says no to a configuration that names another object than the URL. One that names none is for the URL's.
func matchConfig(c *change, res *registry.Resource, config map[string]any) error {
	meta, ok := config["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		config["metadata"] = meta
	}
	if name, _ := meta["name"].(string); name == "" {
		meta["name"] = c.info.Name
	} else if name != c.info.Name {
		return badRequest("the name of the object (" + name + ") does not match the name on the URL (" + c.info.Name + ")")
	}
	if ns, _ := meta["namespace"].(string); res.Namespaced && ns != "" && ns != c.info.Namespace {
		return badRequest("the namespace of the object (" + ns + ") does not match the namespace on the request (" + c.info.Namespace + ")")
	}
	return nil
}

func kindOf(res *registry.Resource) patch.Kind {
	return patch.Kind{GVK: res.GVK, New: func() patch.Object { return res.New() }}
}

// applyOver merges a configuration into what is there.
func (h *Handlers) applyOver(r *http.Request, res *registry.Resource, c *change, config map[string]any, p part) (written, error) {
	return h.Update(r.Context(), Update{
		Resource: res.Hub, Served: res, Key: keyOf(res, c.info), Subresource: c.info.Subresource, DryRun: c.dry, Part: p,
		Keeps: true, Owned: true,
		Change: func(old registry.Object) (registry.Object, error) {
			obj, err := h.owners.Apply(res.Served(old), runtime.DeepCopyJSON(config), kindOf(res), h.writer(r.Context(), res, c.info.Subresource, p), c.force)
			if err != nil {
				return nil, err
			}
			owners := obj.GetManagedFields()
			if obj, err = fromServed(res, obj, old); err != nil {
				return nil, err
			}
			obj.SetManagedFields(owners)
			return obj, nil
		},
	})
}

// applyNew creates an object from a configuration.
func (h *Handlers) applyNew(r *http.Request, res *registry.Resource, c *change, config map[string]any) (written, error) {
	meta, _ := config["metadata"].(map[string]any)
	if uid, _ := meta["uid"].(string); uid != "" {
		return written{}, apierrors.NewConflict(res.GroupResource(), c.info.Name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	if rv, _ := meta["resourceVersion"].(string); rv != "" && rv != "0" {
		return written{}, storeError(storage.ErrNotFound, res, c.info.Name)
	}
	obj, err := h.owners.Apply(res.New(), runtime.DeepCopyJSON(maps.Clone(config)), kindOf(res), h.writer(r.Context(), res, "", whole), c.force)
	if err != nil {
		return written{}, err
	}
	owners := obj.GetManagedFields()
	hub, err := newServed(res, obj)
	if err != nil {
		return written{}, err
	}
	hub.SetManagedFields(owners)
	return h.newObject(r.Context(), res, c.info.Namespace, hub, c.dry, true)
}
