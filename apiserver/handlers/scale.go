package handlers

import (
	"encoding/json"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/patch"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

var scaleKind = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}

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
		return writeScale(w, r, a, res, obj)
	}
	if info.Verb != "update" && info.Verb != "patch" {
		return apierrors.NewMethodNotSupported(res.GroupResource(), info.Verb)
	}
	wish, u, err := h.scaleWish(r, res, info)
	if err != nil {
		return err
	}
	u.Change = func(old registry.Object) (registry.Object, error) {
		s, err := wish(old)
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
	}
	stored, err := h.Update(r.Context(), u)
	if err != nil {
		return err
	}
	return writeScale(w, r, a, res, stored.obj)
}

// scaleOf is the Scale of a stored object.
func scaleOf(res *registry.Resource, obj registry.Object) *autoscalingv1.Scale {
	s := res.ScaleGet(obj)
	s.ObjectMeta = metav1.ObjectMeta{
		Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
	}
	s.SetGroupVersionKind(scaleKind)
	return &s
}

func writeScale(w http.ResponseWriter, r *http.Request, a codec.Accepted, res *registry.Resource, obj registry.Object) error {
	s := scaleOf(res, obj)
	audit.Answered(request.RecordOf(r.Context()), s, scaleKind)
	b, err := codec.Encode(s, scaleKind, a)
	if err != nil {
		return err
	}
	writeBody(w, a, http.StatusOK, b)
	return nil
}

// scaleWish reads a PUT or PATCH of a Scale: a function from the present object, whose owners it may change, to the wanted Scale,
// and the update without its change.
func (h *Handlers) scaleWish(r *http.Request, res *registry.Resource, info *request.Info) (func(registry.Object) (*autoscalingv1.Scale, error), Update, error) {
	u := Update{Resource: res.Hub, Served: res, Key: keyOf(res, info), Subresource: info.Subresource, Part: whole}
	if info.Verb == "update" {
		c, err := changeOf(r, nil, info, "")
		if err != nil {
			return nil, u, err
		}
		u.DryRun = c.dry
		sent := &autoscalingv1.Scale{}
		if err := c.decode(r, scaleKind, sent); err != nil {
			return nil, u, err
		}
		if err := matchPath(info, res, sent); err != nil {
			return nil, u, err
		}
		return func(registry.Object) (*autoscalingv1.Scale, error) { return sent, nil }, u, nil
	}
	kind, err := patchType(r)
	if err != nil {
		return nil, u, err
	}
	c, err := changeOf(r, nil, info, kind)
	if err != nil {
		return nil, u, err
	}
	u.DryRun, u.Owned = c.dry, applies(kind)
	if u.Owned {
		wish, err := h.appliedScale(r, res, c, kind)
		return wish, u, err
	}
	return func(old registry.Object) (*autoscalingv1.Scale, error) {
		doc, err := json.Marshal(scaleOf(res, old))
		if err != nil {
			return nil, err
		}
		doc, texts, err := patch.Apply(kind, doc, c.body, &autoscalingv1.Scale{}, c.strict != codec.Ignore)
		if err != nil {
			return nil, err
		}
		out := &autoscalingv1.Scale{}
		warnings, err := codec.Decode(doc, codec.JSON, scaleKind, out, c.strict)
		if err != nil {
			return nil, err
		}
		return out, c.tell(r.Context(), append(texts, warnings...))
	}, u, nil
}

// appliedScale reads an applied Scale. The owner of its replicas owns the object's.
func (h *Handlers) appliedScale(r *http.Request, res *registry.Resource, c *change, kind types.PatchType) (func(registry.Object) (*autoscalingv1.Scale, error), error) {
	config, err := c.config(r, kind)
	if err != nil {
		return nil, err
	}
	if err := matchConfig(c, res, config); err != nil {
		return nil, err
	}
	var versions []string
	for _, v := range h.reg.All() {
		if v.Hub == res.Hub {
			versions = append(versions, v.GVK.GroupVersion().String())
		}
	}
	return func(old registry.Object) (*autoscalingv1.Scale, error) {
		s, owners, err := h.owners.ApplyScale(scaleOf(res, old), old.GetManagedFields(), runtime.DeepCopyJSON(config), versions,
			h.writer(r.Context(), res, c.info.Subresource, whole), c.force)
		if err != nil {
			return nil, err
		}
		old.SetManagedFields(owners)
		return s, nil
	}, nil
}
