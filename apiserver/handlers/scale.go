package handlers

import (
	"encoding/json"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

var scaleKind = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}

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

func writeScale(w http.ResponseWriter, a codec.Accepted, res *registry.Resource, obj registry.Object) error {
	b, err := codec.Encode(scaleOf(res, obj), scaleKind, a)
	if err != nil {
		return err
	}
	writeBody(w, a, http.StatusOK, b)
	return nil
}

// scaleWish reads a PUT or PATCH of a Scale: a function from the present Scale to the wanted one.
func scaleWish(r *http.Request, res *registry.Resource, info *request.Info) (func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error), error) {
	b, err := body(r)
	if err != nil {
		return nil, err
	}
	strict, err := strictness(r)
	if err != nil {
		return nil, err
	}
	if info.Verb == "update" {
		media := codec.BodyMedia(r)
		if media == "" {
			return nil, unsupportedMedia(r.Header.Get("Content-Type"))
		}
		sent := &autoscalingv1.Scale{}
		warnings, err := codec.Decode(b, media, scaleKind, sent, strict)
		if err != nil {
			return nil, err
		}
		warnAll(r, warnings)
		if err := matchPath(info, res, sent); err != nil {
			return nil, err
		}
		return func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return sent, nil }, nil
	}
	apply, err := patcher(r, b)
	if err != nil {
		return nil, err
	}
	return func(old *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		doc, err := json.Marshal(old)
		if err != nil {
			return nil, err
		}
		doc, err = apply(doc, &autoscalingv1.Scale{})
		if err != nil {
			return nil, err
		}
		out := &autoscalingv1.Scale{}
		if _, err := codec.Decode(doc, codec.JSON, scaleKind, out, strict); err != nil {
			return nil, err
		}
		return out, nil
	}, nil
}
